"""FixMatch: confident predictions of the weak view label the strong one."""

from __future__ import annotations

from typing import Any

from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Fraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class FixMatch(PseudoLabeling):
    """FixMatch (Sohn et al., 2020, arXiv:2001.07685), eqs. (3)-(4).

        L = CE(y, p(a(x))) + lambda [max q >= tau] CE(argmax q, p(A(u))),    q = p(a(u))

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share
    a second pass.

    Deviations from the paper: none in the loss; it trains with seven unlabeled images per labeled
    one (``--unlabeled-ratio 7``).

    Args:
        threshold: tau in [0, 1]; the confidence a pseudo-label needs.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)

    def __init__(
        self, problem: Problem, model: Classifier, *, threshold: Fraction = 0.95, **options: Any
    ) -> None:
        super().__init__(problem, model, **options)
        self.threshold = threshold

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the confident pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(model, u.weak[0]).probabilities
        known, strong = together(model, x.weak[0], u.strong[0])
        label, mask = fn.confident(q, self.threshold)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, label, mask, q),
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )
