"""Running means of what the network says."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Alignment(nn.Module):
    """Distribution alignment: predictions reweighted so that classes come as often as they should.

    ReMixMatch (Berthelot et al., 2020, arXiv:1911.09785), section 3.1, with running means in place
    of the last 128 batches:

        p' = normalize(p * (target + 1e-6) / (seen + 1e-6)),    seen <- m seen + (1 - m) mean(p)

    where ``seen`` starts as the mean of the first batch.

    Args:
        target: (C,), how often the classes should come; sums to 1.
        momentum: m in [0, 1).
    """

    target: Tensor
    seen: Tensor
    started: Tensor

    def __init__(self, target: Tensor, momentum: float = 0.999) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"expected 0 <= momentum < 1, got {momentum}")
        self.momentum = momentum
        self.register_buffer("target", target.clone().float())
        self.register_buffer("seen", torch.zeros_like(self.target))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def forward(self, probabilities: Tensor) -> Tensor:
        """Take a batch into account, then align it: (B, C) -> (B, C), rows sum to 1."""
        mean = probabilities.mean(dim=0)
        moved = self.momentum * self.seen + (1 - self.momentum) * mean
        self.seen.copy_(torch.where(self.started, moved, mean))
        self.started.fill_(True)
        aligned = probabilities * (self.target + 1e-6) / (self.seen + 1e-6)
        return aligned / aligned.sum(dim=1, keepdim=True)
