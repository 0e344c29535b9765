"""From a model folder and image files to answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from leaf_fer.build import computes_bfloat16
from leaf_fer.data.decode import UnreadableImage, cut, decode, lenient
from leaf_fer.data.folder import image_files
from leaf_fer.engine.evaluate import Scores, ahead, begin
from leaf_fer.errors import UserError
from leaf_fer.models import Card, load_model

PRECISIONS = ("auto", "float32", "bfloat16")
PART = 8
"""Files that a thread decodes in one go: fewer cost time, more keep an early end waiting."""


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
        autocast: compute in bfloat16.
    """

    def __init__(
        self, model: nn.Module, card: Card, device: torch.device, *, autocast: bool = False
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last).to(device).eval()
        self.card = card
        self.device = device
        self.autocast = autocast

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.card.classes

    def predict(self, paths: Iterable[str | Path], *, batch_size: int = 64) -> Iterator[Prediction]:
        """Classify image files of faces, one prediction each, in their order.

        Threads decode the next batch while one is computed. Paths are drawn a batch or two ahead
        of the answers, so memory does not grow with their number. A file that cannot be read gives
        a prediction with an error; the others are not affected. Until the iterator ends or is
        closed, Pillow warns of nothing and limits no size in the whole process.

        Args:
            paths: the files; each shows one cropped face.
            batch_size: images per forward pass, >= 1.
        """
        rest = map(Path, paths)
        chunks = iter(lambda: list(islice(rest, batch_size)), [])
        size, on_gpu = self.card.architecture.image_size, self.device.type == "cuda"
        with _decoders() as threads:
            decoded = ahead((_Files(chunk, size, threads, on_gpu) for chunk in chunks), 1)
            begun = ((files, self._begin(files.wait())) for files in decoded)
            # A GPU gets a batch before anyone looks at the scores of the one before it.
            for files, scores in ahead(begun, int(on_gpu)):
                yield from self._answers(files, scores.wait())

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Classify faces, (B, S, S, 3) uint8 RGB -> (B, C) float32, rows sum to 1."""
        answer: np.ndarray = self._begin(torch.from_numpy(pixels)).wait().numpy()
        return answer

    def _begin(self, pixels: Tensor) -> Scores:
        images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return begin(self.model, images, self.card.mean, self.card.std)

    def _answers(self, files: _Files, scores: Tensor) -> Iterator[Prediction]:
        best = scores.argmax(dim=1).tolist()
        for path, error, place, row in zip(
            files.paths, files.errors, best, scores.tolist(), strict=True
        ):
            if error is not None:
                yield Prediction(path, error=error)
                continue
            named = dict(zip(self.classes, row, strict=True))
            yield Prediction(path, self.classes[place], row[place], named)


class _Files:
    """A batch of image files that threads decode, from now on.

    Args:
        paths: B files.
        size: S, pixels per side.
        threads: who decodes.
        pinned: whether the pixels are meant for a GPU.

    Attributes:
        errors: why a file cannot be read, or None; complete after waiting.
    """

    def __init__(
        self, paths: list[Path], size: int, threads: ThreadPoolExecutor, pinned: bool
    ) -> None:
        self.paths = paths
        self.errors: list[str | None] = [None] * len(paths)
        shape = (len(paths), size, size, 3)
        self._pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        starts = range(0, len(paths), PART)
        self._parts = [(start, threads.submit(self._read, start)) for start in starts]

    def wait(self) -> Tensor:
        """(B, S, S, 3) uint8 RGB, black where a file cannot be read."""
        for start, reading in reversed(self._parts):
            if reading.cancel():  # no thread has come to it, so it is done here instead of waiting
                self._read(start)
            else:
                reading.result()
        return self._pixels

    def _read(self, start: int) -> None:
        rows = range(start, min(start + PART, len(self.paths)))
        pixels = self._pixels.numpy()
        for row in rows:
            try:
                pixels[row] = cut(decode(self.paths[row]), pixels.shape[1])
            except UnreadableImage as error:
                self.errors[row] = str(error)


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode beside the one that computes; leaving ends them.

    An early end waits for the parts that they are at, not for those that they have not begun.
    """
    # Small files are mostly Python, where many threads are in each other's way: on two cores one
    # is fastest, and where decoding takes longer than computing, the caller is another.
    with lenient:  # outside of the threads: they would put back warnings that the caller has left
        threads = ThreadPoolExecutor(min(max((os.cpu_count() or 1) - 1, 1), 8), "leaf-decoder")
        try:
            yield threads
        finally:
            threads.shutdown(cancel_futures=True)


def load(folder: str | Path, *, device: str = "auto", precision: str = "auto") -> Predictor:
    """Load a model folder, or the model of a run folder.

    Args:
        folder: a folder with ``config.json`` and ``model.safetensors``, or with such a ``model/``.
        device: ``auto`` takes a GPU where there is one; or any name that torch knows.
        precision: ``float32``, ``bfloat16``, or ``auto``, which takes bfloat16 where the processor
            computes with it.

    Raises:
        UserError: there is no model, or it is damaged; there is no such GPU or precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch sees no GPU here; expected auto or cpu")
    folder = Path(folder)
    inner = folder / "model"
    model, card = load_model(inner if inner.is_dir() else folder)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    place = torch.device(chosen)
    half = precision == "bfloat16" or (precision == "auto" and computes_bfloat16(place.type))
    return Predictor(model, card, place, autocast=half)


def find_images(paths: Iterable[str | Path]) -> Iterator[str]:
    """List files, and for folders all image files below them, sorted.

    Raises:
        UserError: a folder holds no image file.
    """
    for path in map(Path, paths):
        if not path.is_dir():
            yield str(path)
            continue
        found = sorted(image_files(str(path), f"{path}/"))
        if not found:
            raise UserError(f"{path}: no image files there")
        yield from found
