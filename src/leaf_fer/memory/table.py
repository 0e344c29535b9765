"""What is remembered of every sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelTable(nn.Module):
    """The latest pseudo-label of every sample, and how many samples have which.

    Two bytes a sample. The counts are kept up to date by the rows that a step writes, so a step
    costs the same for any number of samples.

    Args:
        size: N >= 1, samples.
        num_classes: C < 32,767.

    Attributes:
        label: (N,) int16, -1 where there is none yet.
        counts: (C + 1,) int64, samples with each label; the last is of those without.
    """

    label: Tensor
    counts: Tensor

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("label", torch.full((size,), -1, dtype=torch.int16))
        self.register_buffer("counts", torch.zeros(num_classes + 1, dtype=torch.int64))
        self.counts[-1] = size

    @torch.no_grad()
    def write(self, index: Tensor, label: Tensor, mask: Tensor) -> None:
        """Set the labels of some samples; a label once set is never unset.

        Args:
            index: (B,) int64 in [0, N); of a sample that comes twice the label counts once.
            label: (B,) int64 in [0, C).
            mask: (B,) of zeros and ones; rows with 0 are not written.
        """
        same = index[:, None] == index[None, :]
        # A sample may come twice in a batch: its last row that is to be written decides for all.
        rank = torch.arange(1, len(index) + 1, device=index.device) * (mask > 0)
        last = (same * rank).amax(dim=1)
        before = self.label[index].long()
        after = torch.where(last > 0, label[(last - 1).clamp_min(0)], before)
        self.label[index] = after.to(self.label.dtype)
        first = (same.int().argmax(dim=1) == torch.arange(len(index), device=index.device)).long()
        slots = len(self.counts)
        self.counts.scatter_add_(0, after % slots, first)
        self.counts.scatter_add_(0, before % slots, -first)
