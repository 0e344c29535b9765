"""AdaMatch: thresholds relative to the labeled confidence, guesses aligned to labeled ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import RunningMean, WindowAlignment
from leaf_fer.models import Classifier, frozen_statistics, guess, together
from leaf_fer.ranges import Count, Fraction, ProperFraction
from leaf_fer.types import Batch, Clock, Labeled, Objective, Problem, Views


class AdaMatch(PseudoLabeling):
    """AdaMatch (Berthelot et al., 2022, arXiv:2106.04732), section 3 and algorithm 1.

        L = (CE(y, z(a(x))) + CE(y, z(A(x)))) / 2 + lambda r(t) [max q >= c] CE(argmax q, p(A(u)))

        z = z'' + b (z' - z''),    b ~ U(0, 1) per logit,  z' of x alone, z'' of x among u
        c = tau mean max softmax z(a(x)),    r(t) = 1/2 - cos(min(pi, 2 pi t / T)) / 2
        q = normalize(p(a(u)) p_x / p_u)

    p_x is a running mean of softmax z(a(x)), p_u the mean of p(a(u)) over the last 128 batches.

    Batch-norm: x alone is a pass that leaves running statistics as they are; the weak unlabeled
    view is a pass of its own without gradient; x and the strong unlabeled view share a third one.

    Deviations from the paper: z'' is of x among A(u), without a(u), which saves the backward pass
    of a view that teaches nothing. A widely used toolkit has neither interpolation, nor A(x), nor
    r: ``interpolate=false``, ``strong_labeled=false``, ``ramp=false``, for less than half the cost.

    Args:
        threshold: tau in [0, 1], relative to the labeled confidence.
        interpolate: z as above; false takes z''.
        strong_labeled: use A(x); false leaves its term out.
        ramp: r as above, up to half of the run; false is 1.
        momentum: in [0, 1), of p_x; 0.999 averages over 1,000 steps: an eighth of 20 epochs of
            FERPlus with batches of 64, so p_x starts out equal and stays close to it in short runs.
        window: batches behind p_u.
    """

    views = Views(labeled="ws", unlabeled="ws")
    passes = (4, 1, 1)
    state = "mean labeled prediction, last 128 class means"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.9,
        interpolate: bool = True,
        strong_labeled: bool = True,
        ramp: bool = True,
        momentum: ProperFraction = 0.999,
        window: Count = 128,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        if not strong_labeled:
            self.views = Views(labeled="w", unlabeled="ws")
        self.threshold = threshold
        self.interpolate = interpolate
        self.ramp = ramp
        equal = torch.ones(problem.num_classes) / problem.num_classes
        self.expected = RunningMean(equal, momentum)
        self.align = WindowAlignment(equal, window)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        weak = guess(model, u.weak[0])
        known, strong = self.outputs(model, x, u.strong[0])
        belief = known[0].detach().float().softmax(dim=1)
        expected = self.expected.update(belief.mean(dim=0))
        q = self.align(weak.probabilities, expected)
        threshold = self.threshold * belief.amax(dim=1).mean()
        label, mask = fn.confident(q, threshold.expand(self.num_classes))
        scale = fn.cosine_ramp(clock.progress) if self.ramp else 1.0
        costs = [fn.cross_entropy(logits, x.target) for logits in known]
        return Objective(
            supervised=torch.stack(costs).mean(),
            **self.teach(strong, label, mask, q, scale),
            watch={"mask": mask.mean(), "shares": fn.shares(q), "threshold": threshold},
        )

    def outputs(self, model: nn.Module, x: Labeled, strong: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of every labeled view, each (B_l, C), and of the strong view, (B_u, C)."""
        looks = [view for kind in (x.weak, x.strong)[: len(self.views.labeled)] for view in kind]
        *known, unknown = (output.logits for output in together(model, *looks, strong))
        if self.interpolate:
            with frozen_statistics(model):
                alone = [output.logits for output in together(model, *looks)]
            known = [
                torch.lerp(among, single, torch.rand_like(among))
                for among, single in zip(known, alone, strict=True)
            ]
        return known, unknown
