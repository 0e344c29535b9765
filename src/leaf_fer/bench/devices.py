"""Which cell computes where. Imports no torch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NUMBERS = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Slot:
    """Room for one cell at a time.

    Attributes:
        gpu: the GPU as CUDA names it; empty: whatever ``leaf train`` finds.
        environment: variables that keep a cell there.
    """

    gpu: str
    environment: Mapping[str, str]


def slots(
    jobs: int, per_device: int | None, gpus: Sequence[str], cores: int, given: Mapping[str, str]
) -> list[Slot]:
    """Divide a machine between cells that run at once.

    Args:
        jobs: cells at once in all, if ``per_device`` is None.
        per_device: cells at once on each GPU, or on the CPU if there is none.
        gpus: names for ``CUDA_VISIBLE_DEVICES``.
        cores: cores of the CPU.
        given: environment of the caller; what it says about threads holds.

    Example:
        >>> [slot.gpu for slot in slots(1, 2, ["0", "1"], 8, {})]
        ['0', '1', '0', '1']
        >>> slots(4, None, [], 8, {})[0].environment
        {'OMP_NUM_THREADS': '2'}
    """
    devices = [""] if per_device is None else list(gpus) or [""]
    names = devices * (jobs if per_device is None else per_device)
    alone = len(names) == 1 or THREADS in given
    share = {} if alone else {THREADS: str(max(1, cores // len(names)))}
    return [Slot(gpu, share | ({NUMBERS: gpu} if gpu else {})) for gpu in names]


def free(slots: Sequence[Slot], busy: Sequence[int]) -> int | None:
    """The index of a free slot where the fewest cells run, or None.

    Args:
        slots: all there are.
        busy: indices of those in use.
    """
    crowd = [slots[index].gpu for index in busy]
    idle = [index for index in range(len(slots)) if index not in busy]
    return min(idle, key=lambda index: crowd.count(slots[index].gpu), default=None)


def visible_gpus(given: Mapping[str, str]) -> list[str]:
    """The GPUs that a process started now would see, as CUDA names them.

    Names of ``nvidia-smi`` are unique, its numbers are not always those of CUDA.

    Args:
        given: the environment.
    """
    if NUMBERS in given:
        names = [name.strip() for name in given[NUMBERS].split(",")]
        return [name for name in names if name not in ("", "-1")]
    try:
        command = ["nvidia-smi", "--list-gpus"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU \d+: .*\(UUID: (\S+)\)", listed, re.MULTILINE)
