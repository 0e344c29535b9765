"""Supervised training on the labeled images alone: the lower bound of every comparison."""

from __future__ import annotations

from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.types import Batch, Clock, Objective, Views


class Supervised(Algorithm):
    """Cross-entropy on weakly augmented labeled images.

        L = mean CE(y, p(a(x)))

    One pass. With all labels (no ``--labels``) it is the upper bound.
    """

    views = Views(labeled="w")

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the cross-entropy of the labeled batch."""
        x = batch.labeled
        return Objective(supervised=fn.cross_entropy(model(x.weak[0]).logits, x.target))
