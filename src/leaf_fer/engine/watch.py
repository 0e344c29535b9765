"""How many pseudo-labels are right. For watching only: nothing in training depends on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.data.split import Split
from leaf_fer.data.stream import generator
from leaf_fer.data.subset import Rows, without
from leaf_fer.data.table import UNKNOWN, FaceTable
from leaf_fer.errors import UserError

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Confidences that a pseudo-label may need to count."""

MASS = 0.9
"""T of the candidate sets of a method that has none of its own."""


def draw(table: FaceTable, split: Split, count: int, seed: int) -> Rows:
    """Draw the unlabeled training images whose pseudo-labels are looked at.

    The draw depends on the seed, the names of the images and which of them have a known class. A
    larger one contains the smaller ones of the same seed.

    Args:
        table: the faces, with all classes that are known.
        split: of the table; images that are labeled as well are not drawn.
        count: at least 1; where there are fewer, all are drawn.
        seed: any number.

    Returns:
        (n,) rows, ascending.

    Raises:
        UserError: the data does not know the class of any.
    """
    pool = without(split.unlabeled, split.labeled)
    known = table.by_name(pool[table.targets[pool] != UNKNOWN])
    if not len(known):
        raise UserError(
            f"--watch-unlabeled {count}: the data knows the class of none of its {len(pool)} "
            "unlabeled training images; expected 0"
        )
    order = torch.randperm(len(known), generator=generator(seed, "watched"))
    return np.sort(known[order[:count].numpy()])


def quality(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    classes: tuple[str, ...],
    mass: float = MASS,
) -> dict[str, Any]:
    """Compare pseudo-labels with the truth, ready for JSON.

    Args:
        probabilities: (N, C), rows sum to 1; N >= 1.
        targets: (N,) int64 in [0, C), true classes.
        classes: names of the C classes.
        mass: T in [0, 1] of the candidate sets, LEAF's ambiguous pseudo-labels.

    Returns:
        ``count``; ``accuracy`` of the most probable class; by threshold, ``coverage``, the share
        of images at least so confident, and ``precision``, the share of those that is right, None
        where there are none; ``per_class_precision`` by name of the predicted class, at the
        highest threshold; ``candidates``: their ``mass``, mean ``size``, and ``hits``, the share
        of images whose true class is among them.
    """
    belief, truth = torch.from_numpy(probabilities), torch.from_numpy(targets)
    sure = {f"{least:g}": fn.confident(belief, least)[1].bool() for least in THRESHOLDS}
    label, surest = belief.argmax(dim=1), sure[f"{THRESHOLDS[-1]:g}"]
    right = label == truth
    positive = fn.candidate_set(belief, mass)
    return {
        "count": len(truth),
        "accuracy": _share(right),
        "coverage": {least: _share(mask) for least, mask in sure.items()},
        "precision": {least: _share(right[mask]) for least, mask in sure.items()},
        "per_class_precision": {
            name: _share(right[surest & (label == number)]) for number, name in enumerate(classes)
        },
        "candidates": {
            "mass": mass,
            "size": float(positive.sum(dim=1).double().mean()),
            "hits": _share(positive.gather(1, truth[:, None])),
        },
    }


def _share(flags: Tensor) -> float | None:
    """How many of the flags are true, if there are any."""
    return float(flags.double().mean()) if len(flags) else None
