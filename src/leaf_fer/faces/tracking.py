"""Which faces of a video are one face, and what is said of it over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.faces.boxes import overlaps

Floats = NDArray[np.floating[Any]]


@dataclass
class _Track:
    number: int
    box: NDArray[np.float64]  # (4,), where it was last seen
    missed: int = 0  # frames since


class Tracker:
    """Follows the faces of one video by how much their boxes overlap.

    In every frame the pair of a track and a face that overlap most belong together, then the next
    such pair, and so on. A face without a track begins one; numbers count from 0 and are never
    used again.

    Args:
        overlap: in (0, 1], what a track and a face must share of their union.
        patience: frames >= 0 in a row that a face may be missed in.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, overlap: float = 0.3, patience: int = 12) -> None:
        if not 0 < overlap <= 1 or patience < 0:
            raise ValueError(
                f"expected 0 < overlap <= 1 and patience >= 0, got {overlap} and {patience}"
            )
        self._overlap = overlap
        self._patience = patience
        self._tracks: list[_Track] = []
        self._next = 0

    def update(self, boxes: Floats) -> NDArray[np.int64]:
        """Number the faces of the next frame: (N, 4) boxes -> (N,) int64, all different.

        A frame without faces counts too.
        """
        boxes = boxes.astype(np.float64)  # a copy: rows of it are remembered
        numbers = np.full(len(boxes), -1, np.int64)
        for track in self._tracks:
            track.missed += 1
        for track, row in self._pairs(boxes):
            numbers[row], track.box, track.missed = track.number, boxes[row], 0
        self._tracks = [track for track in self._tracks if track.missed <= self._patience]
        for row in np.flatnonzero(numbers < 0).tolist():
            numbers[row] = self._next
            self._tracks.append(_Track(self._next, boxes[row]))
            self._next += 1
        return numbers

    def _pairs(self, boxes: Floats) -> list[tuple[_Track, int]]:
        """Tracks and the rows of their faces, those that overlap most first."""
        if not self._tracks:
            return []
        shared = overlaps(np.stack([track.box for track in self._tracks]), boxes)
        pairs = []
        for place in np.argsort(-shared, axis=None, kind="stable"):
            one, row = np.unravel_index(place, shared.shape)
            if shared[one, row] >= self._overlap:
                pairs.append((self._tracks[one], int(row)))
                shared[one], shared[:, row] = -1, -1
        return pairs


class Smoother:
    """Mixes what is said of a face with what was said of it before.

        s_t = s_t' + (1 - exp(-(t - t') / T)) (p_t - s_t')

    t' is when the face was seen before; the first time, s_t = p_t. Whatever the rate of frames,
    what is older than T seconds has a weight of 1/e.

    Args:
        seconds: T >= 0; 0 changes nothing.

    Raises:
        ValueError: ``seconds`` is negative.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"expected seconds >= 0, got {seconds}")
        self._constant = seconds
        self._known: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def smooth(
        self, numbers: NDArray[np.int64], probabilities: Floats, seconds: float
    ) -> NDArray[np.float64]:
        """The probabilities of the faces of a frame, mixed with those of frames before.

        Args:
            numbers: (N,) of tracks, all different.
            probabilities: (N, C), rows sum to 1.
            seconds: t, not before that of the frame before.

        Returns:
            (N, C), rows sum to 1.
        """
        mixed = probabilities.astype(np.float64)
        if self._constant == 0:
            return mixed
        for row, number in enumerate(numbers.tolist()):
            time, old = self._known.get(number, (-math.inf, mixed[row]))
            mixed[row] += math.exp((time - seconds) / self._constant) * (old - mixed[row])
            self._known[number] = (seconds, mixed[row].copy())
        # What would count less than rounding does is forgotten: memory stays flat.
        oldest = seconds - 40 * self._constant
        self._known = {n: known for n, known in self._known.items() if known[0] >= oldest}
        return mixed
