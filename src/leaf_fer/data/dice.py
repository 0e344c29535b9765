"""Random numbers without a generator: hashes of (seed, index, name), the same in any batch."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Always float32; arithmetic with Python numbers keeps it so, which type checkers cannot follow."""


class Dice:
    """Random numbers by counting: what it throws depends on (seed, index, name) alone.

    Args:
        seed: any integer; taken modulo 2**64.
        index: (B,) int64.
    """

    def __init__(self, seed: int, index: NDArray[np.int64]) -> None:
        start = _mix(np.full(1, seed % 2**64, np.uint64))
        self.key = _mix(index.astype(np.uint64) + start)

    def bits(self, name: str, *shape: int) -> NDArray[np.uint64]:
        """(B, *shape) hashed words."""
        count = int(np.prod(shape, dtype=np.int64))
        offset = _mix(
            np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
        )
        return _mix(self.key[:, None] ^ offset).reshape(-1, *shape)

    def uniform(self, name: str, low: float, high: float, *shape: int) -> Floats:
        """(B, *shape) evenly spread over [low, high)."""
        unit = (self.bits(name, *shape) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return low + (high - low) * unit

    def middling(self, name: str, low: float, high: float, *shape: int) -> Floats:
        """(B, *shape) over (low, high), mostly near the middle (a triangular distribution)."""
        return 0.5 * (
            self.uniform(name, low, high, *shape) + self.uniform(name + "'", low, high, *shape)
        )

    def chance(self, name: str, probability: float, *shape: int) -> Floats:
        """(B, *shape), 1 with the given probability and else 0."""
        return (self.uniform(name, 0, 1, *shape) < probability).astype(np.float32)

    def choice(self, name: str, options: tuple[tuple[int, int, int], ...]) -> Floats:
        """(B, 3) one of a few colors, in [0, 1]."""
        row = (self.uniform(name, 0, 1) * len(options)).astype(np.int64)
        return (np.asarray(options, np.float32) / 255)[row]


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014): one word to one word."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
