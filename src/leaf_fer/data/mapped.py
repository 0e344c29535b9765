"""Rows of an array that lies in a file, copied without keeping the file in memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 256 * 2**20
"""About how much of a mapped file may count as memory of this process."""

_USE = Path("/proc/self/statm")


class Reader:
    """Copies rows out of an array, which is usually mapped from a file.

    Of a mapped file, a process keeps every page that it has touched, and what the system puts
    around them. A reader lets go of them from time to time, so that it takes as much memory for a
    million images as for ten thousand; the system still has them in its cache while it has room.
    Only Linux tells how much that is; elsewhere nothing is done.

    Args:
        rows: (N, ...), any array.
        kept_bytes: about how much of the file may be kept.
    """

    def __init__(self, rows: NDArray[np.uint8], kept_bytes: int = KEPT_BYTES) -> None:
        self._rows = np.asarray(rows)
        self._map = _file_of(rows)
        self._kept_bytes = kept_bytes
        self._before = 0 if self._map is None else _mapped()
        if self._map is not None and rows.nbytes > _memory() // 2:
            # What is read ahead of a random row would drive others out that are still needed.
            self._map.madvise(mmap.MADV_RANDOM)

    def take(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B,) -> (B, ...), a copy of these rows. Other threads run meanwhile."""
        copy = np.take(self._rows, index, axis=0)
        if self._map is not None and _mapped() > self._before + self._kept_bytes:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._before = _mapped()
        return copy


def _file_of(array: NDArray[np.uint8]) -> mmap.mmap | None:
    """The mapping behind an array, where there is one that can be looked after."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) and _USE.exists() else None


def _mapped() -> int:
    """Bytes of all files that are in this process's memory."""
    return int(_USE.read_text().split()[2]) * mmap.PAGESIZE


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return mmap.PAGESIZE * os.sysconf("SC_PHYS_PAGES")
