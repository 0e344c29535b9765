"""Draw some images of every class.

What is drawn depends on the seed and the names of the images, not on the order of a table. Of
a class, a larger draw contains the smaller ones of the same seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leaf_fer.data.table import FaceTable
from leaf_fer.errors import UserError

Rows = NDArray[np.int64]

LABELS, HELD_OUT = 0, 1
"""What is drawn; each has random numbers of its own."""


def draw_rows(table: FaceTable, rows: Rows, quotas: Rows, seed: int, purpose: int) -> Rows:
    """Draw rows at random, a given number of each class.

    Args:
        table: the faces.
        rows: (n,) candidates, all labeled.
        quotas: (C,) how many to draw of each class, at most as many as there are.
        seed: 0 or more.
        purpose: :data:`LABELS` or :data:`HELD_OUT`.

    Returns:
        The drawn rows, ascending.
    """
    drawn = []
    for index, quota in enumerate(quotas):
        ordered = table.by_name(rows[table.targets[rows] == index])
        generator = np.random.Generator(np.random.Philox(key=[seed, (purpose << 32) + index]))
        drawn.append(generator.permutation(ordered)[:quota])
    return np.sort(np.concatenate(drawn))


def without(rows: Rows, others: Rows) -> Rows:
    """Rows but the others; none of either may come twice."""
    return rows[~np.isin(rows, others, assume_unique=True)]


def equal_quotas(labels: int, counts: ArrayLike, classes: Sequence[str]) -> Rows:
    """floor(labels / C) images of each of C classes.

    Args:
        labels: images to draw in all.
        counts: (C,) images there are of each class.
        classes: C names, for error messages.

    Raises:
        UserError: less than one per class, or more than a class has.
    """
    available = np.asarray(counts, dtype=np.int64)
    each, fewest = labels // len(classes), int(available.argmin())
    if each < 1:
        raise UserError(f"--labels {labels}: expected at least {len(classes)}, one per class")
    if each > available[fewest]:
        problem = f"{each} per class, but {classes[fewest]} has {available[fewest]} training images"
        most = len(classes) * available[fewest]
        raise UserError(f"--labels {labels}: {problem}; at most {most}")
    return np.full(len(classes), each, dtype=np.int64)


def natural_quotas(labels: int, counts: ArrayLike, classes: Sequence[str]) -> Rows:
    """As many images of each class as its share (largest remainders), but at least one.

    Args:
        labels: images to draw in all.
        counts: (C,) images there are of each class.
        classes: C names, for error messages.

    Raises:
        UserError: fewer than one per class, more than there are, or a class without images.

    >>> natural_quotas(10, [70, 28, 2], ["a", "b", "c"])
    array([7, 2, 1])
    """
    available = np.asarray(counts, dtype=np.int64)
    total = int(available.sum())
    if not len(classes) <= labels <= total:
        raise UserError(f"--labels {labels}: expected {len(classes)} to {total} training images")
    if not available.all():
        missing = classes[int(available.argmin())]
        raise UserError(f"--labels {labels}: {missing} has 0 training images")
    share = labels * available / total
    quotas = np.maximum(np.floor(share).astype(np.int64), 1)
    while quotas.sum() < labels:
        quotas[np.argmax(share - quotas)] += 1
    while quotas.sum() > labels:
        quotas[np.argmax(np.where(quotas > 1, quotas - share, -np.inf))] -= 1
    return quotas


def held_out_quotas(fraction: float, counts: ArrayLike) -> Rows:
    """A fraction of each class, rounded; at least one image, but never the last one.

    Args:
        fraction: in [0, 1).
        counts: (C,) images there are of each class.
    """
    available = np.asarray(counts, dtype=np.int64)
    wanted: Rows = np.rint(fraction * available).astype(np.int64)
    return np.minimum(np.maximum(wanted, 1), np.maximum(available - 1, 0))
