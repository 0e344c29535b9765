"""What every reader of a data set returns: a table of faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "validation", "test")
UNKNOWN = -1
"""The target of an image without a label."""

EXPRESSIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The canonical names, in the one order that every data set is mapped to."""


@dataclass(frozen=True, eq=False)
class FaceTable:
    """A data set before any image is opened, one row per face.

    Attributes:
        classes: names of the C classes; targets index into them.
        names: N unique names; for files the path relative to ``root``, with forward slashes.
        targets: (N,) int64 in [0, C), or :data:`UNKNOWN`.
        parts: (N,) uint8, index into :data:`PARTS`.
        root: the folder of the files; None where faces are drawn.
        boxes: (N, 4) float32, left, top, right, bottom in pixels of the face to cut out.
        points: (N, 5, 2) float32, x and y in pixels of the eyes (left in the image first), the
            tip of the nose and the corners of the mouth, to align the face by.
        render: rows (n,) int64 and a size -> (n, size, size, 3) uint8, for faces that are drawn.
        key: what identifies drawn content, so that a cache of it can be found again.
    """

    classes: tuple[str, ...]
    names: list[str]
    targets: NDArray[np.int64]
    parts: NDArray[np.uint8]
    root: Path | None = None
    boxes: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None
    render: Callable[[NDArray[np.int64], int], NDArray[np.uint8]] | None = None
    key: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of one of :data:`PARTS`, ascending."""
        return np.flatnonzero(self.parts == PARTS.index(part))
