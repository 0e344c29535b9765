"""What every reader of a data set returns: a table of faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Numbered(Sequence[str]):
    """Names that are made from row numbers when they are asked for, so that none is in memory.

    Args:
        count: N < 10**7.

    >>> Numbered(3)[1], list(Numbered(2))
    ('face-0000001', ['face-0000000', 'face-0000001'])
    """

    def __init__(self, count: int) -> None:
        self._numbers = range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return list(map(self._name, self._numbers[row]))
        return self._name(self._numbers[row])

    def __iter__(self) -> Iterator[str]:
        return map(self._name, self._numbers)

    _name = "face-%07d".__mod__


@dataclass(frozen=True, eq=False)
class FaceTable:
    """A data set before any image is opened, one row per face.

    Attributes:
        classes: names of the C classes; targets index into them.
        names: N unique names; for files the path relative to ``root``, with forward slashes, for
            drawn faces :class:`Numbered`.
        targets: (N,) int64 in [0, C), or :data:`UNKNOWN`.
        parts: (N,) uint8, index into :data:`PARTS`.
        root: the folder of the files; None where faces are drawn.
        boxes: (N, 4) float32, left, top, right, bottom in pixels of the face to cut out.
        points: (N, 5, 2) float32, x and y in pixels of the eyes (left in the image first), the
            tip of the nose and the corners of the mouth, to align the face by.
        render: rows (n,) int64 and a size -> (n, size, size, 3) uint8, for faces that are drawn.
            A function of a module can be used by several processes, a local one cannot.
        key: what identifies drawn content, so that a cache of it can be found again.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
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

    def by_name(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same rows in the order of their names."""
        if isinstance(self.names, Numbered):
            return np.sort(rows)
        return np.array(sorted(rows.tolist(), key=self.names.__getitem__), dtype=np.int64)
