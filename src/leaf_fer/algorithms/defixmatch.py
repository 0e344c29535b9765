"""DeFixMatch: FixMatch with the bias of its risk taken out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Fraction, NonNegative
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class DeFixMatch(PseudoLabeling):
    """DeFixMatch (Schmutz et al., 2023, arXiv:2203.07512), eq. (6) with the loss of FixMatch.

        L = (CE(y, p(a(x))) + CE(y, p(A(x)))) / 2 + lambda (H(u) - H(x))

        H(v) = mean [max q >= tau] CE(argmax q, p(A(v))),    q = p(a(v))

    H of the labeled images, whose labels it does not use, makes the risk unbiased. The difference
    may be negative, and so may L.

    Batch-norm: the weak unlabeled view is a pass of its own without gradient; both labeled views
    and the strong unlabeled one share a second pass.

    Deviations from the paper: none in the loss. The term ``pseudo`` (``category``) is the weighted
    difference.

    Args:
        threshold: tau in [0, 1]; the confidence a pseudo-label needs.
        weight: lambda >= 0; weight of the difference of the pseudo-label terms.
    """

    views = Views(labeled="ws", unlabeled="ws")
    passes = (2, 1, 1)

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.95,
        weight: NonNegative = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, weight=weight, **options)
        self.threshold = threshold

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the difference of the two pseudo-label terms."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(model, u.weak[0]).probabilities
        known, known_strong, strong = together(model, x.weak[0], x.strong[0], u.strong[0])
        known_q = known.detach().probabilities
        label, mask = fn.confident(q, self.threshold)
        gain = self.teach(strong.logits, label, mask, q)
        bias = self.teach(known_strong.logits, *fn.confident(known_q, self.threshold), known_q)
        views = torch.cat([known.logits, known_strong.logits])
        return Objective(
            supervised=fn.cross_entropy(views, x.target.repeat(2)),
            **{name: term - bias[name] for name, term in gain.items()},
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )
