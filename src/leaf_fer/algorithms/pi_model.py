"""Pi-model: two passes over an image must agree."""

from __future__ import annotations

import torch
from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.models import Classifier, frozen_statistics
from leaf_fer.ranges import Fraction, NonNegative
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class PiModel(Algorithm):
    """Pi-model (Laine & Aila, 2017, arXiv:1610.02242), section 2.1 and algorithm 1.

        L = CE(y, p(a(x))) + lambda r(t) mean (p(a2(u)) - q)^2,    q = p(a1(u))

        r(t) = exp(-5 (1 - t / t_ramp)^2), 1 from t_ramp on

    Both views are weak. Dropout, if the network has any, is drawn anew for each.

    Batch-norm: each view is a pass of its own; only the labeled one moves running statistics.

    Deviations from the paper: q carries no gradient, as in all later evaluations (``symmetric``
    brings it back, at the cost of a second backward pass); lambda is a number, where the paper has
    100 times the labeled share of the images.

    Args:
        weight: lambda >= 0; weight of the consistency term.
        ramp: t_ramp as a fraction in [0, 1] of the run; the paper's 80 of 300 epochs.
        symmetric: let the gradient through both views.
    """

    views = Views(labeled="w", unlabeled="ww")
    passes = (1, 1, 1)

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 10.0,
        ramp: Fraction = 0.267,
        symmetric: bool = False,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.ramp = ramp
        self.symmetric = symmetric

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the consistency of two views."""
        x, u = batch.labeled, batch.unlabeled
        known = model(x.weak[0])
        with frozen_statistics(model):
            with torch.set_grad_enabled(self.symmetric):
                q = model(u.weak[0]).probabilities
            p = model(u.weak[1]).probabilities
        weight = self.weight * fn.gaussian_ramp(clock.ramp(self.ramp))
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            consistency=weight * fn.squared_error(p, q),
            watch={"shares": fn.shares(q)},
        )
