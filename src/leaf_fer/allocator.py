"""Memory that a process had once stays with it: the tensors of a step are those of the next."""

from __future__ import annotations

import ctypes
import os

# From <malloc.h>, https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Ask glibc's ``malloc`` to keep what is freed, for this process and from now on.

    By default, it returns a tensor of more than 32 MiB to the kernel as soon as it is freed, and
    the end of the heap with it. A step that computes on a CPU then gets all of its activations
    as fresh pages, which the kernel fills with zeros one fault at a time; that can take longer than
    the computing (docs/performance.md). Nothing that is computed changes; peak memory grows by
    some percent, as free pieces are kept.

    Does nothing without glibc, or where the user has tuned ``malloc`` in the environment
    (``MALLOC_*_``, ``GLIBC_TUNABLES``): ``GLIBC_TUNABLES=glibc.malloc.mmap_max=65536`` is the
    default, and thereby the way to compare.

    Returns:
        whether it was done.
    """
    tuned = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if tuned or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _LARGEST))
