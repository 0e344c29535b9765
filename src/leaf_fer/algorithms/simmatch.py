"""SimMatch: views must agree in their classes and in which labeled images they resemble."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import WindowAlignment
from leaf_fer.models import Classifier, guess, together
from leaf_fer.models.heads import Projection
from leaf_fer.ranges import Count, Fraction, NonNegative, Positive, ProperFraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class SimMatch(PseudoLabeling):
    """SimMatch (Zheng et al., 2022, arXiv:2203.06915), eqs. (5)-(12).

        L = CE(y, p(a(x))) + lambda [max q >= tau] CE(q, p(A(u))) + lambda_in CE(s', s(A(u)))

        s(v)_i = softmax_i(f(v) . m_i / t) over a memory m of the labeled images
        s'_i = s(a(u))_i p_{y_i} / sum_j s(a(u))_j p_{y_j}
        q = alpha p + (1 - alpha) sum_{i: y_i = c} s(a(u))_i

    p is the prediction for a(u), aligned to equal classes over the last 32 batches; f are
    embeddings by a head of this method; m_i <- normalize(a m_i + (1 - a) f(a(x_i))). In the first
    epoch q = p and lambda_in = 0.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share a
    second pass.

    Deviations from the paper: no teacher network, as in its setting for small images; an image that
    has not been seen yet is left out of s, where the code starts from random embeddings of class 0.
    The memory is normalized over an embedding's numbers, where a widely used toolkit does so over
    the images.

    Args:
        threshold: tau in [0, 1]; the confidence a pseudo-label needs.
        instance_weight: lambda_in >= 0; weight of the agreement in resemblances.
        temperature: t > 0 of the similarities to labeled images.
        smoothing: alpha in [0, 1]; share of the class scores in a pseudo-label.
        momentum: a in [0, 1); how slowly the memory follows, per visit of an image.
        embedding: numbers in an embedding.
        window: batches that are aligned together.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "embedding and class of every labeled image, last 32 class means, projection"

    keys: Tensor
    classes: Tensor

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.95,
        instance_weight: NonNegative = 1.0,
        temperature: Positive = 0.1,
        smoothing: Fraction = 0.9,
        momentum: ProperFraction = 0.7,
        embedding: Count = 128,
        window: Count = 32,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.threshold = threshold
        self.instance_weight = instance_weight
        self.temperature = temperature
        self.smoothing = smoothing
        self.momentum = momentum
        count = problem.num_classes
        self.align = WindowAlignment(torch.ones(count) / count, window)
        self.project = Projection(model.width, embedding)
        self.register_buffer("keys", torch.zeros(problem.num_labeled, embedding))
        self.register_buffer("classes", torch.full((problem.num_labeled,), -1))

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and those of the classes and of the resemblances."""
        x, u = batch.labeled, batch.unlabeled
        weak = guess(model, u.weak[0])
        known, strong = together(model, x.weak[0], u.strong[0])
        q = p = self.align(weak.probabilities)
        terms = {}
        if clock.epoch > 0:
            with torch.no_grad():
                teacher = self.resemblance(self.project(weak.features)).exp()
                target, q = self.exchange(teacher, p)
            student = self.resemblance(self.project(strong.features))
            agreement = -(target * student).sum(dim=1).mean()
            terms["instance"] = self.instance_weight * agreement
        self.remember(x.index, x.target, self.project(known.features.detach()))
        _, mask = fn.confident(q, self.threshold)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, q, mask, q),
            **terms,
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )

    def resemblance(self, embedded: Tensor) -> Tensor:
        """Log s, (B, size) -> (B, N); images that have not been seen have next to none."""
        with torch.autocast(embedded.device.type, enabled=False):
            # A copy: the memory moves before the gradient is taken.
            similarity = embedded @ self.keys.T.clone() / self.temperature
        unseen = torch.finfo(similarity.dtype).min / 2
        return similarity.masked_fill(self.classes < 0, unseen).log_softmax(dim=1)

    def exchange(self, s: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Correct resemblances by classes and classes by resemblances: eqs. (7)-(10).

        Args:
            s: (B, N), rows sum to 1.
            p: (B, C), rows sum to 1.

        Returns:
            s' (B, N) and q (B, C), rows sum to 1.
        """
        known = self.classes.clamp_min(0)
        unfolded = s * p[:, known]
        unfolded = unfolded / unfolded.sum(dim=1, keepdim=True).clamp_min(1e-12)
        aggregated = torch.zeros_like(p).index_add(1, known, s)
        return unfolded, self.smoothing * p + (1 - self.smoothing) * aggregated

    @torch.no_grad()
    def remember(self, index: Tensor, target: Tensor, embedded: Tensor) -> None:
        """Move the memory of the labeled images of this batch."""
        old = self.keys[index]
        moved = F.normalize(self.momentum * old + (1 - self.momentum) * embedded, dim=1)
        self.keys[index] = moved
        self.classes[index] = target
