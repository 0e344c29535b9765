"""Mixup: convex combinations of samples and of their targets."""

from __future__ import annotations

import torch
from torch import Tensor


def mixing_weights(alpha: float, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw max(l, 1 - l), l ~ Beta(alpha, alpha), from torch's global generator.

    MixMatch (Berthelot et al., 2019, arXiv:1905.02249), eqs. (8)-(9): the larger share belongs to
    the first of two samples, so a mixed row keeps the role of its own source.

    Args:
        alpha: > 0.
        shape: of the result.
        device: where the numbers are drawn.

    Returns:
        float32 in [0.5, 1].
    """
    parameter = torch.full(shape, alpha, device=device)
    weight = torch.distributions.Beta(parameter, parameter, validate_args=False).sample()
    return torch.maximum(weight, 1 - weight)


def mixup(values: Tensor, order: Tensor, weight: Tensor) -> Tensor:
    """Return weight * values + (1 - weight) * values[order].

    MixMatch, eqs. (10)-(11).

    Args:
        values: (B, ...) images or targets.
        order: (B,) int64, the partner of every row.
        weight: () or (B,), in [0, 1].
    """
    weight = weight.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values[order], values, weight)
