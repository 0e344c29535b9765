"""The precision that losses and pseudo-labels are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Make half precision float32: its sums and logarithms lose too much. float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
