"""From the bytes of a photo to what a model says about its faces."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import UnreadableImage, cut
from leaf_fer.faces.detection import Detector, Faces
from leaf_fer.predict import Predictor
from leaf_fer.serving.limits import Limits
from leaf_fer.serving.photo import read_photo


class Reader:
    """Finds faces and classifies them. Threads may share it.

    Args:
        predictor: the model.
        detector: of faces; None takes an image as one face.
        limits: on pixels and faces.
        coverage: in (0, 1), how often the true class shall be among the candidates, or None.

    Raises:
        UserError: ``coverage`` is not allowed, or the model has not been calibrated.
    """

    def __init__(
        self,
        predictor: Predictor,
        detector: Detector | None = None,
        limits: Limits | None = None,
        coverage: float | None = None,
    ) -> None:
        self.predictor, self.detector, self.coverage = predictor, detector, coverage
        self.limits = limits or Limits()
        self._detecting = threading.Lock()  # detectors are for one thread
        self._size = size = predictor.card.architecture.image_size
        self._classify(np.zeros((1, size, size, 3), np.uint8))  # what fails, fails now

    def read(self, content: bytes) -> dict[str, Any]:
        """Classify the faces of a photo.

        Args:
            content: of its file.

        Returns:
            ``width``, ``height`` and ``faces``, of which each has ``box``, ``detection``,
            ``label``, ``confidence``, ``scores`` and ``candidates``, the surest found first.

        Raises:
            UnreadableImage: it cannot be decoded, or has more faces than the limit.
        """
        image = read_photo(content, self.limits.max_pixels)
        if self.detector is None:
            answers = self._classify(np.stack([cut(image, self._size)]))
            return _answer(image, [{"box": None, "detection": None, **answers[0]}])
        faces, cuts = self._found(image, self.detector)
        answers = self._classify(np.stack(cuts)) if cuts else []
        where = (
            {"box": box.astype(float).tolist(), "detection": min(float(score), 1.0)}
            for box, score in zip(faces.boxes, faces.scores, strict=True)
        )
        return _answer(image, [{**a, **b} for a, b in zip(where, answers, strict=True)])

    def _found(
        self, image: NDArray[np.uint8], detector: Detector
    ) -> tuple[Faces, list[NDArray[np.uint8]]]:
        """The faces of a photo, and what the network shall see of each."""
        with self._detecting:
            faces = detector.detect(image)
        if len(faces) > (most := self.limits.max_faces):
            raise UnreadableImage(f"has {len(faces)} faces; at most {most} are classified")
        rows, cuts = [], []
        for row, (box, points) in enumerate(zip(faces.boxes, faces.points, strict=True)):
            with contextlib.suppress(UnreadableImage):  # its points are not those of a face
                cuts.append(cut(image, self._size, box, points))
                rows.append(row)
        return faces.take(np.array(rows, dtype=np.intp)), cuts

    def _classify(self, faces: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """(B, S, S, 3) uint8 -> what is said of each."""
        scores = self.predictor.probabilities(faces).clip(0, 1)  # softmax may round beyond
        if not np.isfinite(scores).all():
            raise ArithmeticError("the model gives no finite scores")
        chosen = None if self.coverage is None else self.predictor.sets(scores, self.coverage)
        answers = []
        for row, one in enumerate(scores):
            ranked = np.argsort(-one, kind="stable").tolist()
            names = [self.predictor.classes[number] for number in ranked]
            candidates = None
            if chosen is not None:
                candidates = [self.predictor.classes[c] for c in ranked if chosen[row, c]]
            answers.append(
                {
                    "label": names[0],
                    "confidence": float(one[ranked[0]]),
                    "scores": dict(zip(names, one[ranked].astype(float).tolist(), strict=True)),
                    "candidates": candidates,
                }
            )
        return answers


def _answer(image: NDArray[np.uint8], faces: list[dict[str, Any]]) -> dict[str, Any]:
    return {"width": image.shape[1], "height": image.shape[0], "faces": faces}
