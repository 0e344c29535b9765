"""Ada-CM's adaptive confidence margin: one threshold per class, learned from labeled images."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.types import Labeled


class ClassMargin(nn.Module):
    """Per-class confidence thresholds that follow how sure the network is where it is right.

    Ada-CM (Li et al., 2022, arXiv:2203.12341), section 3.2: after epoch e = 1, 2, ...

        T_c = max(floor, ceiling * mean(confidence) / (1 + exp(-e)))

    over the labeled images of class c that are classified correctly; ``floor`` where there are
    none, and before the first epoch.

    Args:
        num_classes: C.
        floor: the lowest threshold, in [0, 1].
        ceiling: the share of the confidence asked for after many epochs, in [0, 1].
    """

    threshold: Tensor

    def __init__(self, num_classes: int, *, floor: float = 0.8, ceiling: float = 0.97) -> None:
        super().__init__()
        self.floor = floor
        self.ceiling = ceiling
        self.register_buffer("threshold", torch.full((num_classes,), floor))

    def confident(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (B,) int64 and the mask (B,) of zeros and ones of (B, C) probabilities."""
        return fn.confident(probabilities, self.threshold)

    @torch.no_grad()
    def update(self, model: nn.Module, labeled: Iterable[Labeled], epoch: int) -> None:
        """Set the thresholds after epoch ``epoch`` >= 1 from one pass over the labeled images.

        Args:
            model: images -> Output, in evaluation mode.
            labeled: batches of labeled images, each with one weak view.
            epoch: e, the epochs completed.
        """
        total = torch.zeros_like(self.threshold)
        count = torch.zeros_like(self.threshold)
        for batch in labeled:
            confidence, label = model(batch.weak[0]).probabilities.max(dim=1)
            right = (label == batch.target).to(total.dtype)
            total.scatter_add_(0, batch.target, right * confidence)
            count.scatter_add_(0, batch.target, right)
        mean = total / count.clamp_min(1)
        asked = self.ceiling * mean / (1 + math.exp(-epoch))
        self.threshold.copy_(asked.clamp_min(self.floor))
