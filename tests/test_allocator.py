import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from leaf_fer.allocator import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def touch():
    place = libc.malloc(64 << 20)
    ctypes.memset(place, 1, 64 << 20)
    libc.free(place)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wants glibc's malloc")


def faults(how: str, **environment: str) -> tuple[str, int]:
    """What `keep_memory` says, and the page faults of eight blocks of 64 MiB, one at a time."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    usual.pop("GLIBC_TUNABLES", None)
    words = [sys.executable, "-c", PROGRAM, how]
    run = subprocess.run(words, env=usual | environment, capture_output=True, text=True, check=True)
    kept, count = run.stdout.split()
    return kept, int(count)


@glibc
def test_memory_that_is_kept_is_not_asked_for_again():
    _, usual = faults("leave")
    kept, few = faults("keep")
    assert kept == "True"
    assert few < usual / 8


@glibc
@pytest.mark.parametrize(
    "tuning",
    [
        {"MALLOC_ARENA_MAX": "2", "MALLOC_TOP_PAD_": "0"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"},
    ],
)
def test_what_the_user_tuned_is_left_alone(tuning):
    kept, count = faults("keep", **tuning)
    assert kept == "False"
    assert count > faults("keep")[1] * 8


def test_another_c_library_is_no_error(monkeypatch):
    import ctypes

    from leaf_fer.allocator import keep_memory

    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_memory() is False
