"""From a model folder and image files to answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from leaf_fer.build import computes_bfloat16
from leaf_fer.conformal import Calibration
from leaf_fer.data.decode import UnreadableImage, cut, decode, lenient, upright
from leaf_fer.data.folder import image_files
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import Scores, begin, evaluate
from leaf_fer.errors import UserError
from leaf_fer.export import OnnxNetwork
from leaf_fer.files import write_json
from leaf_fer.hub import fetch, is_hub_id, push_to_hub
from leaf_fer.lookahead import ahead
from leaf_fer.models import Card, load_model

PRECISIONS = ("auto", "float32", "bfloat16")
PIXELS = 3 << 18
"""Of a core's batch, at most: feature maps of a larger one do not stay in the core's cache."""

CALIBRATION = "calibration.json"
"""In a model folder: what candidate sets are made by."""

Choose = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""Probabilities (B, C) -> candidate sets (B, C)."""

Picture = str | Path | NDArray[np.uint8] | Image.Image
"""What shows a face: a file, or pixels (H, W, 3) uint8 RGB, or an image of Pillow."""

T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        path: the file, or None if pixels were given.
        label: the most probable class, or None if the file could not be read.
        confidence: its probability.
        scores: probability of every class by name, in the order of the model; sums to 1.
        candidates: the classes that may be the true one, the most probable first, or None if no
            coverage was asked for.
        error: why the file could not be read, or None.
    """

    path: Path | None
    label: str | None = None
    confidence: float | None = None
    scores: dict[str, float] | None = None
    candidates: tuple[str, ...] | None = None
    error: str | None = None

    def unsure(self) -> Prediction:
        """The same without a label if there is more than one candidate."""
        return replace(self, label=None) if len(self.candidates or ()) > 1 else self


class Predictor:
    """A trained classifier with everything that its images must go through.

    Args:
        model: images -> Output.
        card: class names, image size and normalization.
        device: where to compute.
        autocast: compute in bfloat16.
        calibration: what candidate sets are made by.
        folder: where the model was read, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        card: Card,
        device: torch.device,
        *,
        autocast: bool = False,
        calibration: Calibration | None = None,
        folder: Path | None = None,
    ) -> None:
        self.folder = folder
        self.model = model.to(memory_format=torch.channels_last).to(device).eval()
        self.card = card
        self.device = device
        self.autocast = autocast
        self.calibration = calibration

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.card.classes

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Put the model on the hub, with all files of its folder; see :mod:`leaf_fer.hub`.

        Args:
            name: ``user/name``.
            options: those of :func:`leaf_fer.push_to_hub`.

        Returns:
            The commit.

        Raises:
            UserError: the model was not read from a folder, or the hub refuses.
        """
        if self.folder is None:
            raise UserError(f"{name}: expected a model that was read from a model folder")
        return push_to_hub(self.folder, name, **options)

    def predict(
        self,
        images: Picture | Iterable[Picture],
        *,
        batch_size: int = 256,
        coverage: float | None = None,
        per_class: bool = False,
    ) -> Iterator[Prediction]:
        """Classify images of faces, one prediction each, in their order.

        Threads take whole batches from files to scores. On a CPU every core has a batch of its
        own, which spares cores the waiting for each other within every layer; on a GPU some
        decode while it computes. Images are drawn a few batches ahead of the answers, so memory
        does not grow with their number. A file that cannot be read gives a prediction with an
        error; the others are not affected. Until the iterator ends or is closed, Pillow warns of
        nothing and limits no size in the whole process.

        Args:
            images: files, arrays (H, W, 3) uint8 RGB, or images of Pillow, mixed at will; each
                shows one cropped face. A file or an image of Pillow alone is one of them.
            batch_size: images, >= 1, of a forward pass on a GPU; on a CPU the most of all cores
                together.
            coverage: in (0, 1); predictions have candidates that hold the true class so often.
            per_class: see :meth:`~leaf_fer.conformal.Calibration.sets`.

        Raises:
            UserError: ``coverage`` is not allowed, or the model has not been calibrated.
            TypeError: an array is not (H, W, 3) uint8, or something else is no image.
        """
        if isinstance(images, (str, Path, Image.Image)):
            images = [images]
        choose = self.chooser(coverage, per_class=per_class)
        return self._predict(iter(images), batch_size, choose)

    def chooser(self, coverage: float | None, *, per_class: bool = False) -> Choose | None:
        """What makes candidate sets, tried once; None without a coverage.

        Raises:
            UserError: ``coverage`` is not allowed, or the model has not been calibrated.
        """
        if coverage is None:
            return None
        choose = partial(self.sets, coverage=coverage, per_class=per_class)
        choose(np.full((1, len(self.classes)), 1 / len(self.classes), np.float32))
        return choose

    def sets(
        self, probabilities: NDArray[np.float32], coverage: float, *, per_class: bool = False
    ) -> NDArray[np.bool_]:
        """Return the candidate sets of faces: (B, C), rows sum to 1 -> (B, C) bool.

        Raises:
            UserError: ``coverage`` is not allowed, or the model has not been calibrated.
        """
        if self.calibration is None:
            raise UserError(
                f"--coverage {coverage:g}: the model has not been calibrated; "
                "leaf calibrate MODEL DATA learns from labeled faces what it takes"
            )
        try:
            return self.calibration.sets(probabilities, coverage, per_class=per_class)
        except ValueError as error:
            raise UserError(f"--coverage {coverage:g}: {error}") from None

    def _predict(
        self, rest: Iterator[Picture], batch_size: int, choose: Choose | None
    ) -> Iterator[Prediction]:
        on_gpu = self.device.type == "cuda"
        with _Lanes(on_gpu) as lanes:
            cached = max(1, PIXELS // self.card.architecture.image_size**2)
            share = batch_size if on_gpu else max(1, min(batch_size // lanes.count, cached))
            chunks = iter(lambda: list(islice(rest, share)), [])
            begun = (lanes.submit(self._classify, chunk, lanes.closed, choose) for chunk in chunks)
            for answers in ahead(begun, lanes.count):
                yield from answers.result()

    def score(
        self, images: Images, rows: NDArray[np.int64], batch_size: int, *, progress: bool = True
    ) -> NDArray[np.float32]:
        """Classify prepared images.

        Args:
            images: on the device of the model, of its size.
            rows: (N,) which of them.
            batch_size: images per forward pass.
            progress: whether to show it on a terminal.

        Returns:
            (N, C), rows sum to 1.
        """
        return evaluate(
            self.model,
            images,
            rows,
            batch_size=batch_size,
            autocast=self.autocast,
            progress=progress,
            mean=self.card.mean,
            std=self.card.std,
        )

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Classify faces, (B, S, S, 3) uint8 RGB -> (B, C) float32, rows sum to 1."""
        own = np.require(pixels, requirements="W")  # torch takes no others
        answer: np.ndarray = self._begin(torch.from_numpy(own)).wait().numpy()
        return answer

    def _begin(self, pixels: Tensor) -> Scores:
        images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return begin(self.model, images, self.card.mean, self.card.std)

    def _classify(
        self, images: list[Picture], closed: Event, choose: Choose | None
    ) -> list[Prediction]:
        """From images to answers; none once nobody waits for them."""
        size = self.card.architecture.image_size
        shape = (len(images), size, size, 3)
        pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        errors: list[str | None] = [None] * len(images)
        for row, image in enumerate(images):
            if closed.is_set():
                return []
            try:
                pixels.numpy()[row] = cut(_pixels(image), size)
            except UnreadableImage as error:
                errors[row] = str(error)
        scores = self._begin(pixels).wait().numpy()
        chosen = [None] * len(images) if choose is None else choose(scores)
        paths = [Path(one) if isinstance(one, (str, Path)) else None for one in images]
        found = zip(paths, errors, scores, chosen, strict=True)
        return [self._answer(*one) for one in found]

    def _answer(
        self,
        path: Path | None,
        error: str | None,
        scores: NDArray[np.float32],
        chosen: NDArray[np.bool_] | None,
    ) -> Prediction:
        if error is not None:
            return Prediction(path, error=error)
        best, row = int(scores.argmax()), scores.tolist()
        named = dict(zip(self.classes, row, strict=True))
        candidates = None
        if chosen is not None:
            ranked = np.argsort(-scores, kind="stable").tolist()
            candidates = tuple(self.classes[c] for c in ranked if chosen[c])
        return Prediction(path, self.classes[best], row[best], named, candidates)


def _pixels(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of whatever shows a face.

    Raises:
        UnreadableImage: a file cannot be read.
        TypeError: it is no image.
    """
    if isinstance(image, (str, Path)):
        return decode(Path(image))
    if isinstance(image, Image.Image):
        return upright(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"expected a path or an image, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise TypeError(f"expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}")
    return image


class _Lanes:
    """Threads that classify a batch each, side by side; leaving ends them.

    An early end waits for batches that are being computed, not for files that are still to be read.

    Args:
        on_gpu: whether they only feed a GPU, or else share the cores between them.

    Attributes:
        count: of the threads, >= 2: one can read while the other computes.
        closed: set when nobody waits for answers any more.
    """

    def __init__(self, on_gpu: bool) -> None:
        self._threads = torch.get_num_threads()
        cores = (os.cpu_count() or 1) if on_gpu else self._threads
        self.count = min(max(cores, 2), 8)
        self.closed = Event()
        share = max(1, self._threads // self.count)
        self._pool = ThreadPoolExecutor(self.count, "leaf-lane", torch.set_num_threads, (share,))

    def __enter__(self) -> _Lanes:
        lenient.__enter__()  # not in the threads: they would put back warnings the caller has left
        return self

    def submit(self, work: Callable[..., T], *arguments: object) -> Future[T]:
        """Have a thread do some work."""
        return self._pool.submit(work, *arguments)

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)  # what threads that begin later inherit
        lenient.__exit__(None, None, None)


def load(
    folder: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    revision: str | None = None,
) -> Predictor:
    """Load a model folder, the model of a run folder, or a model of the Hugging Face hub.

    Args:
        folder: a folder with ``config.json`` and ``model.safetensors``, or with such a ``model/``;
            a file that ``leaf export`` has written as ONNX, which computes on the CPU; or, if no
            such folder is here, ``user/name`` or ``user/name@revision`` of the hub.
        device: ``auto`` takes a GPU where there is one; or any name that torch knows.
        precision: ``float32``, ``bfloat16``, or ``auto``, which takes bfloat16 where the processor
            computes with it.
        revision: of a model of the hub: a commit pins it, a branch or a tag may change.

    Raises:
        UserError: there is no model, or it is damaged; the hub does not give it; there is no such
            GPU or precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch sees no GPU here; expected auto or cpu")
    remote = is_hub_id(str(folder))
    if revision is not None and not remote:
        raise UserError(f"revision {revision}: expected a model of the hub, got {folder}")
    folder = fetch(str(folder), revision=revision) if remote else Path(folder)
    if folder.suffix == ".onnx":
        network = OnnxNetwork(folder)
        return Predictor(
            network, network.card, torch.device("cpu"), calibration=network.calibration
        )
    folder = inner(folder)
    model, card = load_model(folder)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    place = torch.device(chosen)
    half = precision == "bfloat16" or (precision == "auto" and computes_bfloat16(place.type))
    known = read_calibration(folder)
    return Predictor(model, card, place, autocast=half, calibration=known, folder=folder)


def inner(folder: Path) -> Path:
    """The model folder of a run, or the folder itself."""
    return folder / "model" if (folder / "model").is_dir() else folder


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write what was learned about candidate sets to a model folder, or that of a run.

    Raises:
        UserError: the folder cannot be written.
    """
    write_json(inner(folder) / CALIBRATION, {"format": 1, **calibration.to_dict()})


def read_calibration(folder: Path) -> Calibration | None:
    """What a model folder knows about candidate sets.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / CALIBRATION
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["format"] != 1:
            raise ValueError(f"expected format 1, got {values['format']}")
        return Calibration.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: damaged: {error}; leaf calibrate writes it anew") from None


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
