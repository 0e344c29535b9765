"""Which samples step k of a run sees."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """Mix numbers and words into a seed in [0, 2^63): the same on every machine.

    Example:
        >>> seed_of(0, "weak", 7) == seed_of(0, "weak", 7) != seed_of(0, "weak", 8)
        True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A generator of random numbers in host memory, seeded by :func:`seed_of`."""
    return torch.Generator().manual_seed(seed_of(*parts))


class Stream:
    """An endless sequence of shuffled passes over a set, cut into batches.

    Batch k is a pure function of (seed, k), so a run can be continued anywhere and nothing has to
    be saved. Every pass visits every sample once; a batch may reach from one pass into the next.

    Args:
        size: N >= 1, samples in the set.
        batch: B >= 1, samples per step; may exceed N.
        seed: any number.
        name: keeps streams with the same seed apart.
    """

    def __init__(self, size: int, batch: int, seed: int, name: str) -> None:
        if size < 1 or batch < 1:
            raise ValueError(f"expected size >= 1 and batch >= 1, got {size} and {batch}")
        self.size = size
        self.batch = batch

        @lru_cache(maxsize=2)
        def order(turn: int) -> Tensor:
            return torch.randperm(size, generator=generator(seed, name, turn))

        self._order = order

    def rows(self, step: int) -> Tensor:
        """Rows of the set that step ``step`` >= 0 sees: (B,) int64."""
        first, last = step * self.batch, (step + 1) * self.batch
        turns = range(first // self.size, (last - 1) // self.size + 1)
        return torch.cat(
            [
                self._order(turn)[max(first - turn * self.size, 0) : last - turn * self.size]
                for turn in turns
            ]
        )
