"""From a model folder and image files to answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from leaf_fer.data.augment import normalize
from leaf_fer.data.decode import UnreadableImage, cut, decode
from leaf_fer.data.folder import image_files
from leaf_fer.errors import UserError
from leaf_fer.models import Card, load_model


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image file.

    Attributes:
        path: the file.
        label: the most probable class, or None if the file could not be read.
        confidence: its probability.
        scores: probability of every class by name, in the order of the model; sums to 1.
        error: why the file could not be read, or None.
    """

    path: Path
    label: str | None = None
    confidence: float | None = None
    scores: dict[str, float] | None = None
    error: str | None = None


class Predictor:
    """A trained classifier with everything that its images must go through.

    Args:
        model: images -> Output.
        card: class names, image size and normalization.
        device: where to compute.
    """

    def __init__(self, model: nn.Module, card: Card, device: torch.device) -> None:
        self.model = model.to(memory_format=torch.channels_last).to(device).eval()
        self.card = card
        self.device = device

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.card.classes

    def predict(self, paths: Iterable[str | Path], *, batch_size: int = 64) -> Iterator[Prediction]:
        """Classify image files of faces, one prediction each, in their order.

        Files are decoded in threads and classified in batches as the iterator is read, so memory
        does not grow with their number. A file that cannot be read gives a prediction with an
        error; the others are not affected.

        Args:
            paths: the files; each shows one cropped face.
            batch_size: images per forward pass, >= 1.
        """
        size = self.card.architecture.image_size

        def prepare(path: Path) -> np.ndarray | str:
            try:
                return cut(decode(path), size)
            except UnreadableImage as error:
                return str(error)

        rest = (Path(path) for path in paths)
        with ThreadPoolExecutor() as pool:
            while chunk := list(islice(rest, batch_size)):
                yield from self._answer(chunk, list(pool.map(prepare, chunk)))

    @torch.inference_mode()
    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Classify faces, (B, S, S, 3) uint8 RGB -> (B, C) float32, rows sum to 1."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        output = self.model(normalize(images, self.card.mean, self.card.std))
        answer: np.ndarray = output.probabilities.cpu().numpy()
        return answer

    def _answer(
        self,
        paths: list[Path],
        pixels: list[np.ndarray | str],
    ) -> Iterator[Prediction]:
        readable = [image for image in pixels if not isinstance(image, str)]
        rows = iter(self.probabilities(np.stack(readable)) if readable else ())
        for path, image in zip(paths, pixels, strict=True):
            if isinstance(image, str):
                yield Prediction(path, error=image)
                continue
            row = next(rows)
            best = int(row.argmax())
            scores = {name: float(p) for name, p in zip(self.classes, row, strict=True)}
            yield Prediction(path, self.classes[best], float(row[best]), scores)


def load(folder: str | Path, *, device: str = "auto") -> Predictor:
    """Load a model folder, or the model of a run folder.

    Args:
        folder: a folder with ``config.json`` and ``model.safetensors``, or with such a ``model/``.
        device: ``auto`` takes a GPU where there is one; or any name that torch knows.

    Raises:
        UserError: there is no model, or it is damaged.
    """
    folder = Path(folder)
    inner = folder / "model"
    model, card = load_model(inner if inner.is_dir() else folder)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Predictor(model, card, torch.device(chosen))


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """List files, and for folders all image files below them, sorted.

    Raises:
        UserError: a folder holds no image file.
    """
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        found = [path / name for name in sorted(image_files(str(path), ""))]
        if not found:
            raise UserError(f"{path}: no image files there")
        yield from found
