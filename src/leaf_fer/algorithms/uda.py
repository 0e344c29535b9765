"""UDA: the sharpened prediction of the weak view teaches the strong one."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Fraction, Positive
from leaf_fer.types import Batch, Clock, Objective, Output, Problem, Views


class UDA(PseudoLabeling):
    """Unsupervised data augmentation (Xie et al., 2020, arXiv:1904.12848), eqs. (1)-(3).

        L = CE(y, p(a(x))) + lambda [max q >= tau] CE(softmax(z / T), p(A(u))),    q = softmax(z)

    with z the logits of a(u). The mask is made from q before it is sharpened.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share
    a second pass.

    Deviations from the paper: cross-entropy in place of the divergence, which differs by a constant
    and has the same gradient; the threshold is inclusive. A widely used toolkit ignores T:
    ``temperature=1`` does that.

    Args:
        threshold: tau in [0, 1]; the confidence a target needs.
        temperature: T > 0; below 1 makes the target more certain.
        annealing: how training signal annealing releases labeled images: those of which the
            network is surer than a threshold that grows from 1/C to 1 do not count.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.8,
        temperature: Positive = 0.4,
        annealing: Literal["none", "linear", "exponential", "logarithmic"] = "none",
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.threshold = threshold
        self.temperature = temperature
        self.annealing = annealing

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the sharpened targets."""
        x, u = batch.labeled, batch.unlabeled
        weak = guess(model, u.weak[0])
        known, strong = together(model, x.weak[0], u.strong[0])
        q = weak.probabilities
        _, mask = fn.confident(q, self.threshold)
        target = (weak.logits.float() / self.temperature).softmax(dim=1)
        return Objective(
            supervised=self.supervised(known, x.target, clock),
            **self.teach(strong.logits, target, mask, q),
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )

    def supervised(self, known: Output, target: Tensor, clock: Clock) -> Tensor:
        """The cross-entropy over the labeled images that annealing has released."""
        if self.annealing == "none":
            return fn.cross_entropy(known.logits, target)
        right = known.detach().probabilities.gather(1, target[:, None]).squeeze(1)
        kept = (right <= self.released(clock.progress)).float()
        share = kept.mean().clamp_min(1 / len(kept))
        return fn.masked_cross_entropy(known.logits, target, kept) / share

    def released(self, progress: float) -> float:
        """The confidence up to which labeled images count: eta = h (1 - 1/C) + 1/C."""
        h = {
            "linear": progress,
            "exponential": math.exp(5 * (progress - 1)),
            "logarithmic": 1 - math.exp(-5 * progress),
        }[self.annealing]
        return h * (1 - 1 / self.num_classes) + 1 / self.num_classes
