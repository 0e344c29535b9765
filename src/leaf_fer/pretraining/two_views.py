"""Methods that want two views of an image to have the same embedding. Losses are lightly's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.algorithm import Algorithm
from leaf_fer.errors import UserError
from leaf_fer.models import Classifier
from leaf_fer.ranges import Count, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class TwoViews(Algorithm):
    """What the methods below have in common.

    The faces are those that a batch calls labeled; their targets are never read. Both strong views
    share a pass, and with it batch-norm's statistics. They are RandAugment's, with Cutout and small
    shifts, where the papers crop at random: a crop without the mouth has no expression.

    Args:
        embedding: numbers in an embedding.
        hidden: width of the two hidden layers of the projection, which is dropped in the end.
    """

    views = Views(labeled="ss")
    passes = (2, 0, 0)
    state = "projection"

    criterion: nn.Module
    """Two embeddings (B, D) float32 -> scalar."""

    def __init__(
        self, problem: Problem, model: Classifier, *, embedding: Count = 128, hidden: Count = 512
    ) -> None:
        super().__init__(problem, model)
        self.project = nn.Sequential(
            *(nn.Linear(model.width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Linear(hidden, embedding),
        )

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the loss of the embeddings of both views."""
        embeddings = self.project(model(torch.cat(batch.labeled.strong)).features).float()
        with torch.autocast(embeddings.device.type, enabled=False):
            first, second = embeddings.chunk(2)
            agreement: Tensor = self.criterion(first, second)
        return Objective(agreement=agreement, watch={"spread": _spread(first)})


class SimCLR(TwoViews):
    """SimCLR (Chen et al., 2020, arXiv:2002.05709), eq. (1).

        L = -1/2B sum_i log e^{s(z_i, z_i') / t} / sum_{k != i} e^{s(z_i, z_k) / t}

    over the 2B views of a batch; z_i' is the other view of the image, s the cosine.

    Args:
        temperature: t > 0.
    """

    def __init__(
        self, problem: Problem, model: Classifier, *, temperature: Positive = 0.2, **options: Any
    ) -> None:
        super().__init__(problem, model, **options)
        self.criterion = _losses().NTXentLoss(temperature)


class BarlowTwins(TwoViews):
    """Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230), eq. (1).

        L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2

    C is the correlation of the numbers of the embeddings of one view with those of the other.

    Args:
        off_diagonal: lambda >= 0.
    """

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        off_diagonal: NonNegative = 0.005,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.criterion = _losses().BarlowTwinsLoss(off_diagonal)


class VICReg(TwoViews):
    """VICReg (Bardes et al., 2022, arXiv:2105.04906), eq. (6).

        L = lambda s(Z, Z') + mu (v(Z) + v(Z')) / 2 + nu (c(Z) + c(Z'))

    s is the mean squared distance of the views, v keeps every number's deviation near 1, c its
    covariances with the others near 0. The half of v, and the mean over numbers in s, are those of
    the authors' code, not of the paper.

    Args:
        invariance: lambda >= 0.
        variance: mu >= 0.
        covariance: nu >= 0.
    """

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        invariance: NonNegative = 25.0,
        variance: NonNegative = 25.0,
        covariance: NonNegative = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.criterion = _losses().VICRegLoss(invariance, variance, covariance)


def _spread(embeddings: Tensor) -> Tensor:
    """Mean deviation of the numbers of unit embeddings, times sqrt(D): 0 after collapse, else 1."""
    unit = F.normalize(embeddings.detach(), dim=1)
    spread: Tensor = unit.std(dim=0).mean() * unit.shape[1] ** 0.5
    return spread


def _losses() -> Any:
    """``lightly.loss``; it is an extra, and takes a while."""
    try:
        from lightly import loss
    except ImportError as error:
        message = "leaf pretrain: lightly is not installed; pip install 'leaf-fer[pretrain]'"
        raise UserError(message) from error
    return loss
