"""Running means of what the network says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn


class RunningMean(nn.Module):
    """An exponential moving average: value <- m value + (1 - m) x.

    Args:
        initial: the value before the first update, of any shape.
        momentum: m in [0, 1). Its memory is 1 / (1 - m) updates long: with 0.999, 1,000 steps.
    """

    value: Tensor

    def __init__(self, initial: Tensor, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = _checked(momentum)
        self.register_buffer("value", initial.clone().float())

    @torch.no_grad()
    def update(self, x: Tensor) -> Tensor:
        """Move towards ``x``, of the value's shape; return a snapshot of the new value."""
        self.value.copy_(self.momentum * self.value + (1 - self.momentum) * x)
        return self.value.clone()


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
        self.momentum = _checked(momentum)
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
        return fn.align(probabilities, self.target, self.seen)


class WindowAlignment(nn.Module):
    """Distribution alignment over the last batches.

        p' = normalize(p * (target + 1e-6) / (seen + 1e-6)),    seen = mean of the last N mean(p)

    As in ReMixMatch (arXiv:1911.09785), section 3.1, with N = 128, and in CoMatch and SimMatch with
    N = 32. While fewer batches have come, their mean is taken.

    Args:
        target: (C,), how often the classes should come; sums to 1.
        length: N >= 1, in batches.
    """

    target: Tensor
    means: Tensor
    count: Tensor

    def __init__(self, target: Tensor, length: int = 128) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"expected length >= 1, got {length}")
        self.register_buffer("target", target.clone().float())
        self.register_buffer("means", torch.zeros(length, len(target)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, probabilities: Tensor, target: Tensor | None = None) -> Tensor:
        """Take a batch into account, then align it: (B, C) -> (B, C), rows sum to 1.

        Args:
            probabilities: (B, C), rows sum to 1.
            target: (C,) in place of the constant one.
        """
        place = (self.count % len(self.means)).unsqueeze(0)
        self.means.index_copy_(0, place, probabilities.float().mean(dim=0, keepdim=True))
        self.count += 1
        seen = self.means.sum(dim=0) / self.count.clamp_max(len(self.means))
        return fn.align(probabilities, self.target if target is None else target, seen)


def _checked(momentum: float) -> float:
    if not 0 <= momentum < 1:
        raise ValueError(f"expected 0 <= momentum < 1, got {momentum}")
    return momentum
