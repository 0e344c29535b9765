"""Boxes: (N, 4), left, top, right, bottom. How much they share, and which are one face twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def overlaps(first: Floats, second: Floats) -> Floats:
    """The share of its union that each pair of boxes has in common: (N, 4), (M, 4) -> (N, M).

    In [0, 1]; 0 where a box has no area.
    """
    a, b = first[:, None], second[None]
    width, height = np.moveaxis(np.minimum(a, b)[..., 2:] - np.maximum(a, b)[..., :2], -1, 0)
    shared = width.clip(0) * height.clip(0)
    union = areas(first)[:, None] + areas(second)[None] - shared
    share: Floats = shared / np.where(union > 0, union, 1)
    return share


def areas(boxes: Floats) -> Floats:
    """(N, 4) -> (N,); 0 for a box whose right is left of its left."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)
    area: Floats = sides[:, 0] * sides[:, 1]
    return area


def distinct(boxes: Floats, scores: Floats, most: float) -> NDArray[np.intp]:
    """Rows of the boxes that no better one covers, the best first (non-maximum suppression).

    Args:
        boxes: (N, 4).
        scores: (N,); of equal ones the earlier is better.
        most: in [0, 1], what a box may share with a better one that is kept.
    """
    rest = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        rest = rest[overlaps(boxes[best, None], boxes[rest])[0] <= most]
    return np.array(kept, dtype=np.intp)
