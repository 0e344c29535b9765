"""Several processes, one batch: who runs which rows, and how all get all answers.

Row i of every batch belongs to process i mod N. A network runs the rows of its process and its
outputs are gathered, so what a method sees of a step is the whole batch, whatever N is: its
losses, class statistics, queues and tables are those of one process, and it has no code for more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from leaf_fer.types import Output


def world() -> int:
    """N, the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, in [0, N)."""
    return dist.get_rank() if world() > 1 else 0


def launched() -> tuple[int, int] | None:
    """Processes on this machine and machines, as torchrun has started them; None if it has not."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def mine() -> slice:
    """The rows of a batch that belong to this process."""
    return slice(rank(), None, world())


def gather(rows: Tensor) -> Tensor:
    """Rows of this process (B / N, ...) -> rows of all processes in their order (B, ...).

    All processes must go on to compute the same scalar from the result. Its gradient with respect
    to ``rows`` is then N times this process's part, so that the mean over processes, which is
    what is shared of weights' gradients, is the gradient of that scalar.
    """
    if world() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = rows.new_empty(world(), *rows.shape)
        dist.all_gather(list(parts.unbind()), rows.contiguous())
        return parts.transpose(0, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return gradient[mine()] * world()


def spread(network: Callable[..., Output], images: Tensor) -> Output:
    """Run a network on the rows of this process; return the outputs of all rows.

    Args:
        network: (B / N, 3, H, W) -> Output.
        images: (B, 3, H, W), B a multiple of N; rows of other processes are not looked at.
    """
    if world() == 1:
        return network(images)
    output = network(images[mine()])
    return Output(gather(output.features), gather(output.logits))


class Spread(nn.Module):
    """A network that every method may call as if there were one process.

    Random numbers inside, such as those of dropout, differ between processes and passes; those
    outside stay the same everywhere.

    Args:
        network: images -> Output.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._seed, self._passes = -1, 0

    @property
    def module(self) -> Spread:
        """The bare network, without what the engine wraps around it, spread as this one is."""
        bare = self.network.module
        assert isinstance(bare, nn.Module)
        return Spread(bare)

    def forward(self, images: Tensor) -> Output:
        """(B, 3, H, W) -> Output of all rows."""
        if torch.initial_seed() != self._seed:  # another step
            self._seed, self._passes = torch.initial_seed(), 0
        self._passes += 1
        with _own_numbers(images.device, self._passes * world() + rank()):
            return spread(self.network, images)


@contextmanager
def _own_numbers(device: torch.device, number: int) -> Iterator[None]:
    """Seed the generators with a number for a while."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((torch.initial_seed() + number * 0x9E3779B97F4A7C15) % 2**63)
        yield


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over all processes, in one message."""
    if world() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


Message = TypeVar("Message")


def told(message: Message) -> Message:
    """What the first process says; all wait for it."""
    if world() == 1:
        return message
    parcel = [message]
    dist.broadcast_object_list(parcel)
    return parcel[0]


def part() -> None:
    """Leave the other processes."""
    if world() > 1:
        dist.destroy_process_group()


class Agreement:
    """A question that all processes answer alike: whether any of them says yes.

    It is asked between host processes, past the accelerators, which never wait for it.
    """

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo") if world() > 1 else None

    def any(self, answer: bool) -> bool:
        """Whether any process has the answer True."""
        if self._group is None:
            return answer
        flag = torch.tensor(int(answer))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag)
