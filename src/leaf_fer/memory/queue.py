"""The latest samples, in the order they came."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """The last ``capacity`` rows pushed, in a ring.

    Args:
        capacity: N >= 1, rows.
        width: numbers in a row.
    """

    rows: Tensor
    count: Tensor

    def __init__(self, capacity: int, width: int) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"expected capacity >= 1, got {capacity}")
        self.register_buffer("rows", torch.zeros(capacity, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> Tensor:
        """() bool on the device: whether every row has been written."""
        return self.count >= len(self.rows)

    @torch.no_grad()
    def push(self, values: Tensor) -> None:
        """Append (B, width) rows; the oldest ones make room. Of too many, the last stay."""
        capacity = len(self.rows)
        first = max(len(values) - capacity, 0)
        step = torch.arange(first, len(values), device=self.rows.device)
        self.rows.index_copy_(0, (self.count + step) % capacity, values[first:].float())
        self.count += len(values)
