"""ReMixMatch: MixMatch with aligned guesses, strong views anchored to them, and rotations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.memory import WindowAlignment
from leaf_fer.models import Classifier, frozen_statistics, together
from leaf_fer.ranges import Count, Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class ReMixMatch(Algorithm):
    """ReMixMatch (Berthelot et al., 2020, arXiv:1911.09785), section 3 and algorithm 1.

        L = CE(Y'_x, p(X'_x)) + lambda_u r CE(Y'_u, p(X'_u)) + lambda_k r CE(q, p(A1(u)))
            + lambda_r CE(k, h(f(turn(A1(u), k))))

        q = sharpen(normalize(p(a(u)) prior / seen), T)
        X, Y = (a(x), A1(u), A2(u), a(u)), (onehot y, q, q, q), mixed as in MixMatch

    with the class shares of the labeled set as prior, those of the last 128 batches of guesses as
    seen, k quarter turns, and h a linear head of this method on the features f.

    Batch-norm: guess, mixed labeled and mixed unlabeled rows are passes of their own, the upright
    and the turned strong view share one; only the mixed labeled pass moves running statistics.

    Deviations from the paper: two strong views instead of eight, and RandAugment instead of
    CTAugment, which learns its strengths from labeled images. Its ramp is over 16,000 steps, 1/64
    of its run; 1/64 of a short run comes before the network knows anything, and alignment then
    drives all guesses through the classes, one after the other (docs/methods.md). Faces stand
    upright, so their turns are easily told: ``rotation_weight=0`` leaves that term out.

    Args:
        weight: lambda_u >= 0, of the mixed unlabeled rows.
        anchor_weight: lambda_k >= 0, of the strong view that is not mixed.
        rotation_weight: lambda_r >= 0; 0 also saves the pass.
        temperature: T > 0; below 1 makes guesses more certain.
        alpha: > 0, both parameters of the Beta distribution; below 1 mixes little.
        ramp: fraction in [0, 1] of the run over which lambda_u and lambda_k grow linearly from 0.
        window: batches of guesses that are aligned together.
    """

    views = Views(labeled="w", unlabeled="wss")
    passes = (1, 1, 5)
    mixes = True
    state = "last 128 class means, rotation head"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 1.5,
        anchor_weight: NonNegative = 0.5,
        rotation_weight: NonNegative = 0.5,
        temperature: Positive = 0.5,
        alpha: Positive = 0.75,
        ramp: Fraction = 0.4,
        window: Count = 128,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.anchor_weight = anchor_weight
        self.rotation_weight = rotation_weight
        self.temperature = temperature
        self.alpha = alpha
        self.ramp = ramp
        self.align = WindowAlignment(problem.labeled_prior, window)
        self.rotation = nn.Linear(model.width, 4)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the two mixed terms, the anchored one and the one of the rotations."""
        x, u = batch.labeled, batch.unlabeled
        with torch.no_grad(), frozen_statistics(model):
            p = model(u.weak[0]).probabilities
        q = fn.sharpen(self.align(p), self.temperature)

        images = torch.cat([x.weak[0], *u.strong, u.weak[0]])
        targets = torch.cat([F.one_hot(x.target, self.num_classes).float(), q, q, q])
        share = fn.mixing_weights(self.alpha, (), images.device)
        partner = torch.randperm(len(images), device=images.device)
        mixed, blend = fn.mixup(images, partner, share), fn.mixup(targets, partner, share)
        first = len(x.target)

        known = model(mixed[:first])
        with frozen_statistics(model):
            others = model(mixed[first:])
            terms = self.anchored(model, u.strong[0], q, clock.ramp(self.ramp))
        weight = self.weight * clock.ramp(self.ramp)
        return Objective(
            supervised=fn.cross_entropy(known.logits, blend[:first]),
            mixed=weight * fn.cross_entropy(others.logits, blend[first:]),
            **terms,
            watch={"shares": fn.shares(q)},
        )

    def anchored(
        self, model: nn.Module, images: Tensor, q: Tensor, ramp: float
    ) -> dict[str, Tensor]:
        """The terms of the first strong view as it is and turned."""
        weight = self.anchor_weight * ramp
        if not self.rotation_weight:
            return {"anchor": weight * fn.cross_entropy(model(images).logits, q)}
        turned, turns = quarter_turns(images)
        strong, rotated = together(model, images, turned)
        angles = self.rotation(rotated.features)
        return {
            "anchor": weight * fn.cross_entropy(strong.logits, q),
            "rotation": self.rotation_weight * fn.cross_entropy(angles, turns),
        }


def quarter_turns(images: Tensor) -> tuple[Tensor, Tensor]:
    """Turn every square image by 0, 1, 2 or 3 quarters, drawn at random.

    Returns:
        (B, 3, S, S), and the turns (B,) int64.
    """
    turns = torch.randint(4, (len(images),), device=images.device)
    flipped = torch.where((turns % 2 == 1)[:, None, None, None], images.transpose(2, 3), images)
    # A quarter turn is a transposition and a flip of one axis; two quarters flip both.
    for axis, wanted in ((2, (1, 2)), (3, (2, 3))):
        chosen = (turns == wanted[0]) | (turns == wanted[1])
        flipped = torch.where(chosen[:, None, None, None], flipped.flip(axis), flipped)
    return flipped, turns
