"""CoMatch: class scores and embeddings teach each other through a memory and a graph."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import Queue, WindowAlignment
from leaf_fer.models import Classifier, guess, together
from leaf_fer.models.heads import Projection
from leaf_fer.ranges import Count, Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class CoMatch(PseudoLabeling):
    """CoMatch (Li et al., 2021, arXiv:2011.11183), eqs. (3)-(10).

        L = CE(y, p(a(x))) + lambda [max q >= tau] CE(q, p(A1(u)))
            + lambda_c mean_b -sum_j Q_bj log S_bj

        q = alpha p + (1 - alpha) sum_k a_k p_k,    a = softmax(f . f_k / t) over a memory
        Q = row-normalized [q q^T >= T], 1 on the diagonal;  S = softmax(f(A1(u)) f(A2(u))^T / t)

    p is the prediction for a(u), aligned to equal classes over the last 32 batches; f are
    embeddings by a head of this method. The memory holds (f_k, p_k) of the latest labeled images
    with their labels and of the latest unlabeled ones with p. It smooths once it is full.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and both strong views
    share a second pass.

    Deviations from the paper: no teacher network, as in its code for small images; the memory's
    size is a number of images, where the code counts five batches of 64 + 448.

    Args:
        threshold: tau in [0, 1]; the confidence a pseudo-label needs.
        contrast_weight: lambda_c >= 0; weight of the term of the graph.
        temperature: t > 0 of all similarities between embeddings.
        smoothing: alpha in [0, 1]; 1 does without the memory.
        edge: T in [0, 1]; the least agreement of two pseudo-labels that makes them neighbors.
        embedding: numbers in an embedding.
        memory: images that are remembered; at 64 + 64 images a step 2,560 are 20 steps.
        window: batches that are aligned together.
    """

    views = Views(labeled="w", unlabeled="wss")
    passes = (1, 1, 2)
    state = "2,560 embeddings with classes, last 32 class means, projection"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.95,
        contrast_weight: NonNegative = 1.0,
        temperature: Positive = 0.2,
        smoothing: Fraction = 0.9,
        edge: Fraction = 0.8,
        embedding: Count = 64,
        memory: Count = 2560,
        window: Count = 32,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.threshold = threshold
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.smoothing = smoothing
        self.edge = edge
        self.embedding = embedding
        classes = problem.num_classes
        self.align = WindowAlignment(torch.ones(classes) / classes, window)
        self.project = Projection(model.width, embedding)
        self.memory = Queue(memory, embedding + classes)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term, the one of the pseudo-labels and the one of the graph."""
        x, u = batch.labeled, batch.unlabeled
        weak = guess(model, u.weak[0])
        known, first, second = together(model, x.weak[0], *u.strong)
        with torch.no_grad():
            p = self.align(weak.probabilities)
            embedded, labeled = self.project(weak.features), self.project(known.features)
            q = self.smooth(embedded, p)
            onehot = F.one_hot(x.target, self.num_classes)
            rows = (torch.cat([embedded, p], dim=1), torch.cat([labeled, onehot], dim=1))
            self.memory.push(torch.cat(rows))
        _, mask = fn.confident(q, self.threshold)
        contrast = fn.graph_contrast(
            q,
            self.project(first.features),
            self.project(second.features),
            edge=self.edge,
            temperature=self.temperature,
        )
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(first.logits, q, mask, q),
            contrast=self.contrast_weight * contrast,
            watch={"mask": mask.mean(), "shares": fn.shares(q)},
        )

    def smooth(self, embedded: Tensor, p: Tensor) -> Tensor:
        """Blend predictions with those of similar images: (B, size), (B, C) -> (B, C)."""
        keys, values = torch.tensor_split(self.memory.rows, [self.embedding], dim=1)
        with torch.autocast(p.device.type, enabled=False):
            attention = (embedded @ keys.T / self.temperature).softmax(dim=1)
            smoothed = self.smoothing * p + (1 - self.smoothing) * attention @ values
        return torch.where(self.memory.full, smoothed, p)
