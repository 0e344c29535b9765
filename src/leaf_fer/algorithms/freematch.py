"""FreeMatch: thresholds that follow the network's own confidence, and fair classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import RunningMean
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import NonNegative, ProperFraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class FreeMatch(PseudoLabeling):
    """FreeMatch (Wang et al., 2023, arXiv:2205.07246), eqs. (4)-(12).

        L = CE(y, p(a(x))) + lambda [max q >= tau_c] CE(c, p(A(u))) + lambda_f sum_k A_k log B_k

        tau_c = tau p_c / max_k p_k,    q = p(a(u)), c = argmax q
        tau, p, h = running means of max q, q and the histogram of c, all from 1/C
        A = norm(p / h),    B = norm(p' / h')

    p' and h' are the mean and the histogram of the predictions for the strong views that count; 1/0
    is taken as 0. The sign of the last term is the paper's. The running
    means are moved before they are used.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share a
    second pass.

    Deviations from the paper: neither the quantile in place of the mean nor the clipped threshold,
    which it has for one data set. The fairness term is mostly a constant near -7 in batches where a
    class is missing: only its gradient matters.

    Args:
        fairness_weight: lambda_f >= 0; weight of the fairness term.
        momentum: in [0, 1). With 0.999 tau leaves 1/C over 1,000 to 3,000 steps, an eighth to a
            third of 20 epochs of FERPlus with batches of 64, and nearly all images count until
            then; for the same share of a shorter run take 1 - 8 / steps.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "mean confidence, prediction and class shares"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        fairness_weight: NonNegative = 0.01,
        momentum: ProperFraction = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.fairness_weight = fairness_weight
        equal = torch.ones(problem.num_classes) / problem.num_classes
        self.confidence = RunningMean(equal[0], momentum)
        self.prediction = RunningMean(equal, momentum)
        self.histogram = RunningMean(equal, momentum)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term, the one of the pseudo-labels and the fairness."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(model, u.weak[0]).probabilities
        known, strong = together(model, x.weak[0], u.strong[0])
        thresholds = self.thresholds(q)
        label, mask = fn.confident(q, thresholds)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, label, mask, q),
            fairness=self.fairness_weight * self.fairness(strong.probabilities, mask),
            watch={"mask": mask.mean(), "shares": fn.shares(q), "thresholds": thresholds},
        )

    def thresholds(self, q: Tensor) -> Tensor:
        """Move the running means by (B, C) predictions; return tau_c of every class, (C,)."""
        confidence = self.confidence.update(q.amax(dim=1).mean())
        prediction = self.prediction.update(q.mean(dim=0))
        self.histogram.update(fn.shares(q))
        return confidence * prediction / prediction.max()

    def fairness(self, p: Tensor, mask: Tensor) -> Tensor:
        """sum_k A_k log B_k over the rows of p (B, C) that the mask (B,) keeps; 0 if none is."""
        kept = mask.sum().clamp_min(1)
        mean = (mask[:, None] * p).sum(dim=0) / kept
        winner = p.argmax(dim=1)
        histogram = torch.zeros_like(mean).scatter_add(0, winner, mask) / kept
        expected = _normalized(self.prediction.value, self.histogram.value)
        found = _normalized(mean, histogram)
        return torch.where(mask.any(), (expected * (found + 1e-12).log()).sum(), 0.0)


def _normalized(mean: Tensor, histogram: Tensor) -> Tensor:
    """norm(mean / histogram), with 1/0 as 0: (C,), (C,) -> (C,)."""
    # The inner where keeps infinities out of the gradient.
    present = histogram > 0
    ratio = torch.where(present, mean / torch.where(present, histogram, 1.0), 0.0)
    return ratio / ratio.sum().clamp_min(1e-12)
