"""Dash: a falling bound on the loss decides which pseudo-labels count."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import RunningMean
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Count, Positive, ProperFraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class Dash(PseudoLabeling):
    """Dash (Xu et al., 2021, arXiv:2109.00650), eqs. (5)-(8) and algorithm 1.

        L = CE(y, p(a(x))) + lambda [CE(q, p(a(u))) <= rho_k] CE(q, p(A(u)))

        rho_k = max(C gamma^-k rho, rho_min),    k = 0, 1, ... steps of the threshold
        q = softmax(z_w / T) while rho_k > rho_min, then onehot(argmax z_w);    z_w logits of a(u)

    A warm-up is supervised; rho is the labeled training loss at its end.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share
    a second pass. During the warm-up there is only the labeled pass.

    Deviations from the paper: warm-up and steps of the threshold are spread over the run (the paper
    counts iterations and steps about every 9 of its epochs), so that rho_min is reached in runs of
    any length; rho is a mean over the last ten or so labeled batches. A widely used toolkit takes
    rho from the test set and from untrained weights.

    Args:
        burn_in: fraction in [0, 1) of the run that is supervised.
        num_steps: how often the threshold falls between warm-up and end. With gamma = 1.27, 14
            steps lead from the loss log 8 of eight classes to 0.073, and from 1.2 to rho_min.
        decay: gamma > 0, by which the threshold is divided at each step.
        scale: C > 0 of the first threshold.
        floor: rho_min > 0, in nats; with hard labels 0.05 asks for a confidence of 0.951.
        temperature: T > 0 of the soft targets; below 1 makes them more certain.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "labeled loss after the warm-up"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        burn_in: ProperFraction = 0.1,
        num_steps: Count = 14,
        decay: Positive = 1.27,
        scale: Positive = 1.0001,
        floor: Positive = 0.05,
        temperature: Positive = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.burn_in = burn_in
        self.num_steps = num_steps
        self.decay = decay
        self.scale = scale
        self.floor = floor
        self.temperature = temperature
        # What guessing costs, until the first labeled batch.
        self.labeled_loss = RunningMean(torch.tensor(math.log(problem.num_classes)), 0.9)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and, after the warm-up, the one of the pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        if clock.progress < self.burn_in:
            supervised = fn.cross_entropy(model(x.weak[0]).logits, x.target)
            self.labeled_loss.update(supervised.detach())
            return Objective(supervised=supervised)
        weak = guess(model, u.weak[0])
        known, strong = together(model, x.weak[0], u.strong[0])
        q = weak.probabilities
        threshold = self.threshold(clock.progress)
        target, mask = self.select(weak.logits.float(), threshold)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, target, mask, q),
            watch={"mask": mask.mean(), "shares": fn.shares(q), "threshold": threshold},
        )

    def threshold(self, progress: float) -> Tensor:
        """rho_k, () in nats, at a share of the run."""
        k = math.floor((progress - self.burn_in) / (1 - self.burn_in) * (self.num_steps + 1))
        return (self.scale * self.decay**-k * self.labeled_loss.value).clamp_min(self.floor)

    def select(self, logits: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets (B, C) and the mask (B,) of zeros and ones."""
        soft = (logits / self.temperature).softmax(dim=1)
        hard = F.one_hot(logits.argmax(dim=1), self.num_classes).to(soft.dtype)
        target = torch.where(threshold > self.floor, soft, hard)
        cost = F.cross_entropy(logits, target, reduction="none")
        return target, (cost <= threshold).float()
