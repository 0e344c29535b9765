"""Heads that only training needs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Module):
    """Features to embeddings on the unit sphere: (B, D) -> (B, size).

    Linear(D, D) - ReLU - Linear(D, size) - L2 norm, as in CoMatch (arXiv:2011.11183) and SimMatch
    (arXiv:2203.06915). The result is float32, also under autocast.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))

    def forward(self, features: Tensor) -> Tensor:
        """Project every row."""
        return F.normalize(self.layers(features).float(), dim=1)
