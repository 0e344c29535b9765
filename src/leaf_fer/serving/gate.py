"""How many requests are looked after at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

MOST_LANES = 4
"""Photos that are decoded and classified side by side; more only take memory."""


class Full(Exception):  # noqa: N818 (it is no error of the program)
    """Nobody else can come in right now."""


class Gate:
    """Lets some requests in, and has a few of them computed at a time. For one event loop.

    A thread cannot be stopped. If nobody waits for one any more, its lane stays taken until it
    ends, so there are never more of them than lanes.

    Args:
        queue: requests that may wait or be uploaded, beside those that are computed.
        on_gpu: whether threads only feed a GPU, or else share the cores.

    Attributes:
        lanes: threads that compute.
        inside: requests that were let in and are not answered yet.
        computing: lanes that are taken.
    """

    def __init__(self, queue: int, *, on_gpu: bool = False) -> None:
        threads = torch.get_num_threads()
        self.lanes = 2 if on_gpu else min(threads, MOST_LANES)
        self.inside = self.computing = 0
        self._places = self.lanes + queue
        self._free = asyncio.Semaphore(self.lanes)
        share = max(1, threads // self.lanes)
        self._pool = ThreadPoolExecutor(self.lanes, "leaf-serve", torch.set_num_threads, (share,))

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside, for a block.

        Raises:
            Full: there is no place.
        """
        if self.inside >= self._places:
            raise Full
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def compute(self, work: Callable[[bytes], T], content: bytes) -> T:
        """Have a thread work as soon as one is free; whoever waits may stop waiting."""
        await self._free.acquire()
        self.computing += 1
        task = asyncio.get_running_loop().run_in_executor(self._pool, work, content)
        task.add_done_callback(self._leave)
        return await asyncio.shield(task)

    def _leave(self, task: asyncio.Future[T]) -> None:
        self.computing -= 1
        self._free.release()
        if not task.cancelled():
            task.exception()  # known, even if nobody waits for it

    def close(self) -> None:
        """End the threads that have nothing to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)
