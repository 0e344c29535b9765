"""Drawn faces without end: tests, examples and benchmarks need no download.

A face shows one of eight expressions by the action units of its muscles, at a random strength and
with some units missing or added, on a random person in a random scene. Face ``index`` of ``seed``
is the same in whichever batch it is asked for.

>>> render(0, np.arange(3), 32).shape
(3, 32, 32, 3)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leaf_fer.data import face_drawing as drawing
from leaf_fer.data import face_features as features
from leaf_fer.data import face_parameters as parameters
from leaf_fer.data.dice import Dice, Floats
from leaf_fer.data.face_parameters import Identity, Scene
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.errors import UserError

VERSION = 2
"""Of the drawing: raise it with every change that changes a pixel, or old stores stay in use."""

SIZES = (32, 224)
"""The smallest and the largest size of an image, in pixels."""

PIXELS = 2**16
"""How many pixels are painted together: what fits a processor's cache."""


def labels(seed: int, index: ArrayLike) -> NDArray[np.int64]:
    """Which expression each face shows: (B,) int64 in [0, 8), all equally likely.

    Args:
        seed: names an endless set of faces.
        index: (B,) integers (array or tensor), which faces of it.
    """
    return parameters.expressions(_dice(seed, index))


def action_units(seed: int, index: ArrayLike) -> Floats:
    """How far each face moves its muscles: (B, U, 2) float32 in [0, 1].

    Columns are :data:`~leaf_fer.data.face_parameters.ACTION_UNITS`; the last axis is the left and
    the right side of the image.
    """
    return parameters.intensities(_dice(seed, index))


def render(seed: int, index: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Draws faces: (B, size, size, 3) uint8, RGB.

    Args:
        seed: names an endless set of faces.
        index: (B,) integers (array or tensor), which faces of it.
        size: height and width in pixels, in [32, 224].

    Raises:
        UserError: a size out of range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"size of synthetic faces: expected {SIZES[0]} to {SIZES[1]}, got {size}")
    rows = np.asarray(index, np.int64)
    dice = _dice(seed, rows)
    face, view = parameters.identity(dice), parameters.scene(dice)
    units = parameters.intensities(dice)
    images = np.empty((len(rows), size, size, 3), np.uint8)
    step = max(1, PIXELS // size**2)
    # Faces with the same rare parts together: where nobody has one, it costs no time.
    order = np.lexsort((face.beard > 0, view.cover, face.glasses))
    for start in range(0, len(rows), step):
        some = order[start : start + step]
        images[some] = _draw(
            drawing.planes(face, some),
            drawing.planes(view, some),
            drawing.Muscles(units[some]),
            _dice(seed, rows[some]),
            size,
        )
    return images


def contact_sheet(seed: int, rows_per_class: int, size: int) -> NDArray[np.uint8]:
    """One row of faces per expression, side by side: (8 * size, rows_per_class * size, 3) uint8.

    Args:
        seed: names an endless set of faces.
        rows_per_class: how many faces of each expression.
        size: height and width of one face in pixels, in [32, 224].

    Raises:
        UserError: a size out of range.
    """
    candidates = np.arange(16 * (rows_per_class + 8))
    shown = labels(seed, candidates)
    chosen = [candidates[shown == row][:rows_per_class] for row in range(len(EXPRESSIONS))]
    tiles = render(seed, np.concatenate(chosen), size)
    grid = tiles.reshape(len(EXPRESSIONS), rows_per_class, size, size, 3)
    return np.ascontiguousarray(grid.swapaxes(1, 2)).reshape(len(EXPRESSIONS) * size, -1, 3)


def _dice(seed: int, index: ArrayLike) -> Dice:
    return Dice(seed, np.asarray(index, np.int64))


def _draw(
    face: Identity, view: Scene, muscles: drawing.Muscles, dice: Dice, size: int
) -> NDArray[np.uint8]:
    """Paints from back to front."""
    head = drawing.begin(face, view, muscles, size)
    drawing.paint_behind(head, face, view)
    drawing.paint_skin(head, face)
    upper, lower = head.surface.band(-1.0, 0.45), head.surface.band(-0.35, 1.0)
    features.paint_eyes(upper, face, view, muscles)
    features.paint_nose(head.surface.band(-0.6, 0.7), face, view, muscles)
    features.paint_mouth(lower, face, muscles)
    features.paint_brows(upper, face, muscles)
    drawing.paint_front(head, face, view)
    features.paint_glasses(head.surface, face, head.outline)
    return drawing.finish(head.surface, view, dice)
