"""VAT: predictions must not change along the direction in which they change most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.models import Classifier, frozen_statistics, single_precision
from leaf_fer.ranges import Count, Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class VAT(Algorithm):
    """Virtual adversarial training (Miyato et al., 2018, arXiv:1704.03976), eqs. (5)-(12).

        L = CE(y, p(a(x))) + lambda r(t) KL(q || p(u + eps d)) + lambda_H H(p(u)),    q = p(u)

        d = g / |g|,    g = grad_v KL(q || p(u + v)) at v = xi d_0,  d_0 a random unit vector

    The gradient with respect to the image is taken for the image alone and never reaches the
    weights' gradients. q and d are constants. The entropy term has no ramp.

    Batch-norm: labeled, clean, shifted and adversarial images are passes of their own, each with
    the statistics of its batch; only the labeled one moves running statistics.

    Precision: the clean pass and the search for d run in float32 also under autocast, since they
    are about differences of the size of xi.

    Deviations from the paper: xi is 0.1 where its code has 1e-6, which is spread over thousands of
    pixels and lost in float32: the direction is then at random (a test holds it against float64's);
    the entropy weight of later evaluations. Dropout differs from pass to pass and would hide what d
    is about: leave it 0.

    Args:
        weight: lambda >= 0; weight of the smoothness term.
        radius: eps >= 0, length of the step in normalized pixel values. Per pixel it is
            eps / sqrt(3 H W): 6 is 0.108 at 32 pixels, 0.0155 at 224, where 42 gives 0.108. The
            paper chooses it for each data set, and so should you (docs/methods.md).
        finite_difference: xi > 0, length of the step that the direction is searched with.
        power_steps: how often the search is repeated; each costs a pass with backward.
        entropy_weight: lambda_H >= 0; weight of the entropy of the predictions; 0 also saves the
            backward pass of the clean images.
        ramp: fraction in [0, 1] of the run over which lambda grows linearly from 0.
    """

    views = Views(labeled="w", unlabeled="w")
    passes = (1, 0, 3)

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 1.0,
        radius: NonNegative = 6.0,
        finite_difference: Positive = 0.1,
        power_steps: Count = 1,
        entropy_weight: NonNegative = 0.06,
        ramp: Fraction = 0.4,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.radius = radius
        self.finite_difference = finite_difference
        self.power_steps = power_steps
        self.entropy_weight = entropy_weight
        self.ramp = ramp

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term, the smoothness along the worst direction and the entropy."""
        x, (images,) = batch.labeled, batch.unlabeled.weak
        known = model(x.weak[0])
        with frozen_statistics(model):
            with (
                single_precision(model) as network,
                torch.set_grad_enabled(self.entropy_weight > 0),
            ):
                clean = network(images)
            q = clean.detach().probabilities
            direction = self.worst_direction(model, images, q)
            moved = model(images + self.radius * direction)
        smoothness = fn.divergence(q, moved.logits)
        terms = {"smoothness": self.weight * clock.ramp(self.ramp) * smoothness}
        if self.entropy_weight:
            terms["entropy"] = self.entropy_weight * fn.entropy(clean.logits)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **terms,
            watch={"shares": fn.shares(q)},
        )

    def worst_direction(self, model: nn.Module, images: Tensor, q: Tensor) -> Tensor:
        """Approximate the unit vectors along which predictions change most, by power iteration.

        Args:
            model: images -> Output.
            images: (B, 3, H, W).
            q: (B, C), what the model predicts for them.

        Returns:
            (B, 3, H, W), each of length 1.
        """
        direction = torch.randn_like(images)
        for _ in range(self.power_steps):
            shift = (self.finite_difference * unit(direction)).requires_grad_()
            with single_precision(model) as network:
                change = fn.divergence(q, network(images + shift).logits)
            (direction,) = torch.autograd.grad(change, shift)
        return unit(direction)


def unit(x: Tensor) -> Tensor:
    """Divide every sample by its length: (B, ...) -> (B, ...)."""
    return F.normalize(x.flatten(1), dim=1, eps=1e-16).view_as(x)
