"""Pseudo-Label: the network is taught what it already believes."""

from __future__ import annotations

from typing import Any

from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.models import Classifier, frozen_statistics
from leaf_fer.ranges import Fraction, NonNegative
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class PseudoLabel(PseudoLabeling):
    """Pseudo-Label (Lee, 2013, ICML workshop), eqs. (15)-(16).

        L = CE(y, p(a(x))) + lambda r(t) [max q >= tau] CE(argmax q, p(a(u))),    q = p(a(u))

        r(t) = 0 until t_1, then linear, 1 from t_2 on

    Label and prediction come from the same pass; the label is a constant.

    Batch-norm: labeled and unlabeled images are passes of their own; only the labeled one moves
    running statistics.

    Deviations from the paper: none in the loss. Later evaluations use tau = 0.95, lambda = 1 and a
    ramp from 0 to 0.4 of the run: set ``threshold``, ``weight``, ``ramp_start`` and ``ramp_end``.
    The paper's t_1 and t_2 are 100 and 600 epochs; here they are shares of the run.

    Args:
        threshold: tau in [0, 1]; the confidence a pseudo-label needs.
        weight: lambda >= 0; weight of the pseudo-label term.
        ramp_start: t_1 as a fraction in [0, 1] of the run.
        ramp_end: t_2 as a fraction in [0, 1] of the run.

    Raises:
        ValueError: the ramp ends before it starts.
    """

    views = Views(labeled="w", unlabeled="w")
    passes = (1, 0, 1)

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.0,
        weight: NonNegative = 3.0,
        ramp_start: Fraction = 0.1,
        ramp_end: Fraction = 0.6,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, weight=weight, **options)
        if ramp_end < ramp_start:
            raise ValueError(f"expected ramp_start <= ramp_end, got {ramp_start} and {ramp_end}")
        self.threshold = threshold
        self.ramp_start = ramp_start
        self.ramp_end = ramp_end

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the confident pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        known = model(x.weak[0])
        with frozen_statistics(model):
            guessed = model(u.weak[0])
        q = guessed.detach().probabilities
        label, mask = fn.confident(q, self.threshold)
        scale = clock.ramp(self.ramp_end, self.ramp_start)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(guessed.logits, label, mask, q, scale),
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )
