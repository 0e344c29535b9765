"""Faces cut out of pictures by a recipe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import UnreadableImage, align, warp
from leaf_fer.recipe import Recipe


def cut_face(
    image: NDArray[np.uint8],
    box: NDArray[np.float32],
    points: NDArray[np.float32],
    recipe: Recipe,
    size: int,
) -> NDArray[np.uint8]:
    """One face.

    Args:
        image: (H, W, 3) uint8.
        box: (4,), left, top, right, bottom; may reach beyond the image, which is black there.
        points: (5, 2), see :func:`~leaf_fer.data.decode.align`.
        recipe: how; its size does not matter here.
        size: pixels per side.

    Returns:
        (size, size, 3) uint8.

    Raises:
        UnreadableImage: there is no face at such points or in such a box.
    """
    if recipe.align == "points":
        return align(image, points, size, recipe.margin)
    sides = box[2:] - box[:2]
    side = float(sides.max()) * (1 + 2 * recipe.margin)
    if not (np.isfinite(side) and sides.min() > 0):
        raise UnreadableImage("has a box that is not that of a face")
    scale = size / side
    corner = (box[:2] + box[2:]).astype(np.float64) / 2 - side / 2
    # Boxes count from the corner of the first pixel, and a transform from its center.
    shift = scale * (0.5 - corner) - 0.5
    return warp(image, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), size)
