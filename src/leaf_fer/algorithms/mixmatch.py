"""MixMatch: labeled and unlabeled images mixed, with averaged and sharpened guesses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.models import Classifier, frozen_statistics
from leaf_fer.ranges import Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class MixMatch(Algorithm):
    """MixMatch (Berthelot et al., 2019, arXiv:1905.02249), eqs. (2)-(13).

        L = CE(Y'_x, p(X'_x)) + lambda r(t) mean (p(X'_u) - Y'_u)^2

        q = sharpen((p(a1(u)) + p(a2(u))) / 2, T)
        X, Y = (a(x), a1(u), a2(u)), (onehot y, q, q)
        X' = l X + (1 - l) X[pi],  Y' likewise,  l = max(b, 1 - b),  b ~ Beta(alpha, alpha)

    The first rows of X' are the labeled ones, since l >= 1/2 keeps every row closest to its source.

    Batch-norm: each guess, the mixed labeled and the mixed unlabeled rows are passes of their own;
    only the mixed labeled one moves running statistics.

    Deviations from the paper: none in the loss. Its ramp of 16,000 steps is 1/64 of its run, but
    longer than 20 epochs of FERPlus; ours is a share of the run, between the two.

    Args:
        weight: lambda >= 0; the squared error is averaged over classes, which 75 assumes. In runs
            of hundreds of steps 75 lets one class take all guesses, 10 does not (docs/methods.md).
        temperature: T > 0; below 1 makes guesses more certain.
        alpha: > 0, both parameters of the Beta distribution; below 1 mixes little.
        ramp: fraction in [0, 1] of the run over which lambda grows linearly from 0.
        per_sample: draw one l per row, where the paper's text has one per batch.
    """

    views = Views(labeled="w", unlabeled="ww")
    passes = (1, 2, 2)
    mixes = True

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 75.0,
        temperature: Positive = 0.5,
        alpha: Positive = 0.75,
        ramp: Fraction = 0.4,
        per_sample: bool = False,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.temperature = temperature
        self.alpha = alpha
        self.ramp = ramp
        self.per_sample = per_sample

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the cross-entropy of mixed labeled and the squared error of mixed other rows."""
        x, u = batch.labeled, batch.unlabeled
        with torch.no_grad(), frozen_statistics(model):
            guesses = [model(view).probabilities for view in u.weak]
        q = fn.sharpen(torch.stack(guesses).mean(dim=0), self.temperature)

        images = torch.cat([x.weak[0], *u.weak])
        targets = torch.cat([F.one_hot(x.target, self.num_classes).float(), q, q])
        shape = (len(images),) if self.per_sample else ()
        share = fn.mixing_weights(self.alpha, shape, images.device)
        partner = torch.randperm(len(images), device=images.device)
        mixed, blend = fn.mixup(images, partner, share), fn.mixup(targets, partner, share)
        first = len(x.target)

        known = model(mixed[:first])
        with frozen_statistics(model):
            others = model(mixed[first:])
        weight = self.weight * clock.ramp(self.ramp)
        return Objective(
            supervised=fn.cross_entropy(known.logits, blend[:first]),
            consistency=weight * fn.squared_error(others.probabilities, blend[first:]),
            watch={"shares": fn.shares(q)},
        )
