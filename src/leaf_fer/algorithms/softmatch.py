"""SoftMatch: every pseudo-label counts, by a Gaussian of its confidence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import Alignment, RunningMean
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Positive, ProperFraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class SoftMatch(PseudoLabeling):
    """SoftMatch (Chen et al., 2023, arXiv:2301.10921), eqs. (5)-(9).

        L = CE(y, p(a(x))) + lambda w CE(argmax q, p(A(u))),    q = p(a(u))

        w = exp(-min(c - mu, 0)^2 / (2 var / n^2)),    c = max of q aligned to equal classes
        mu, var = running mean and variance of c, from 1/C and 1

    Alignment decides the weights only; the label comes from q itself. The running means are moved
    before they are used.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share a
    second pass.

    Deviations from the paper: none.

    Args:
        num_deviations: n > 0; the Gaussian is n times as narrow as the confidences are spread.
        momentum: in [0, 1). With 0.999 mu and var need 1,000 to 3,000 steps, an eighth to a third
            of 20 epochs of FERPlus with batches of 64, and all images count until then; for the
            same share of a shorter run take 1 - 8 / steps.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "mean and variance of the confidence, mean prediction"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        num_deviations: Positive = 2.0,
        momentum: ProperFraction = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.num_deviations = num_deviations
        equal = torch.ones(problem.num_classes) / problem.num_classes
        self.mean = RunningMean(equal[0], momentum)
        self.variance = RunningMean(torch.ones(()), momentum)
        self.align = Alignment(equal, momentum)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the weighted pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(model, u.weak[0]).probabilities
        known, strong = together(model, x.weak[0], u.strong[0])
        weight = self.weights(self.align(q).amax(dim=1))
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, q.argmax(dim=1), weight, q),
            watch={"mask": weight.mean(), "shares": fn.shares(q), "mean": self.mean.value},
        )

    def weights(self, confidence: Tensor) -> Tensor:
        """Move the running means by (B,) confidences; return the weights, (B,) in [0, 1]."""
        mean = self.mean.update(confidence.mean())
        # One image has no variance.
        spread = confidence.var() if len(confidence) > 1 else self.variance.value
        variance = self.variance.update(spread)
        below = (confidence - mean).clamp_max(0)
        return (-below.square() * self.num_deviations**2 / (2 * variance.clamp_min(1e-12))).exp()
