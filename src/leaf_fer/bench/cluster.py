"""Cells on the machines of a Ray cluster that share a file system. Imports no torch."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from leaf_fer.bench.board import Board
from leaf_fer.bench.folder import CellFolder
from leaf_fer.bench.grid import Cell
from leaf_fer.bench.scheduler import POLL, Task, Words, guarded, shown
from leaf_fer.errors import UserError

RETRIES = -1
"""A machine that is lost says nothing about the cell: its cells run elsewhere, however often."""


ASKED_TO_STOP = 130
"""Exit status of ``leaf train`` that has saved."""

AGAIN = 5.0
"""Seconds from one call to cancel to the next."""


class Cluster:
    """Has the tasks that are not finished yet computed by Ray, which decides where and when.

    A cell is a Ray task. Its folder is all that is known about it, as with the scheduler for one
    machine: several runners may share it, and a cell goes on where a lost machine left it.

    Args:
        tasks: what to run, the first ones first; their folders are seen by all machines.
        words: the command of a cell.
        board: where people look.
        finished: called after every task that is finished.
        cores: of the CPU that a cell takes.
        per_gpu: cells at once on every GPU, if the cluster has any.

    Attributes:
        done: tasks that are finished.
        failed: tasks with a failure on record.
        stopped: tasks that were told to end early.
        waiting: tasks that have not ended.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        words: Words,
        board: Board,
        finished: Callable[[], None],
        *,
        cores: int = 1,
        per_gpu: int = 1,
    ) -> None:
        self.words, self.board, self._tell = words, board, finished
        self.done = [task for task in tasks if task.folder.finished]
        self.failed = [t for t in tasks if t.folder.failed and not t.folder.finished]
        settled = {*self.done, *self.failed}
        self.waiting = [task for task in tasks if task not in settled]
        self.stopped: list[Task] = []
        self.cores, self.per_gpu = cores, per_gpu
        # Before anyone listens for signals: it has a handler of its own for SIGTERM.
        self.ray = _connect()

    def go(self, stop: Callable[[], bool]) -> None:
        """Run to the end, or until ``stop`` says so; then leave the cluster."""
        try:
            self._go(stop)
        finally:
            self.ray.shutdown()

    def _go(self, stop: Callable[[], bool]) -> None:
        ray = self.ray
        share = 1 / self.per_gpu if ray.cluster_resources().get("GPU") else 0
        options = {"num_cpus": self.cores, "num_gpus": share, "max_retries": RETRIES}
        cell = ray.remote(**options)(attend)
        here = Path.cwd()
        begun = {
            cell.remote(task.cell, here, here / task.folder.path, task.spec, self.words): task
            for task in self.waiting
        }
        asked = -math.inf
        while begun:
            ended, _ = ray.wait(list(begun), timeout=POLL)
            for reference in ended:
                self._conclude(begun.pop(reference), reference)
            if stop() and time.monotonic() > asked + AGAIN:  # one call may find the task in between
                asked = time.monotonic()
                for reference in begun:
                    ray.cancel(reference)

    def _conclude(self, task: Task, reference: Any) -> None:
        name, folder = task.cell.name, task.folder
        # A worker in its last moments may say so in either way.
        with suppress(self.ray.exceptions.TaskCancelledError, KeyboardInterrupt):
            self.ray.get(reference)
        self.waiting.remove(task)
        if folder.finished:
            self.done.append(task)
            self.board.say(f"finished {name}: {shown(folder.result())}")
            self._tell()
        elif folder.failed:
            self.failed.append(task)
            self.board.say(f"failed {name}: {folder.reason()}")
        else:
            self.stopped.append(task)
            self.board.say(f"stopped {name}")


def attend(cell: Cell, here: Path, path: Path, spec: str, words: Words) -> None:
    """Compute a cell on the machine that this runs on; its folder says what came of it.

    Args:
        cell: what.
        here: the working folder of the runner.
        path: folder of the cell; both are the same on all machines.
        spec: its data.
        words: the command of a cell.
    """
    folder = CellFolder(path)
    with _listening() as asked:
        while not folder.claim():  # what a lost worker has left behind saves and ends
            if asked.is_set():
                return
            time.sleep(POLL)
        try:
            if not (folder.finished or folder.failed):
                Task(cell, folder, spec).prepare()
                status = _run(guarded(words(folder)), here, folder.output, asked)
                if not (folder.finished or status == ASKED_TO_STOP):
                    folder.fail(status)
        finally:
            folder.release()


@contextmanager
def _listening() -> Iterator[Event]:
    """What Ray does when it cancels a task, as an event.

    It interrupts the main thread as Ctrl-C does; an exception could come where nobody knows the
    process yet that has begun.
    """
    asked = Event()
    usual = signal.signal(signal.SIGINT, lambda number, frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, usual)


def _run(words: list[str], here: Path, output: Path, asked: Event) -> int:
    """Run a command to its end, or let it save and end once it is asked for."""
    with output.open("ab") as log:
        process = subprocess.Popen(
            words, cwd=here, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    while process.poll() is None:
        if asked.is_set():
            process.terminate()  # once: the second time means at once
            process.wait()
            return ASKED_TO_STOP
        time.sleep(POLL)
    return process.returncode


def _connect() -> Any:
    """Ray, in the cluster that RAY_ADDRESS names, or else in one of this machine alone."""
    try:
        import ray
    except ImportError as error:
        message = "--engine ray: Ray is not installed; pip install 'leaf-fer[ray]'"
        raise UserError(message) from error
    ray.init(log_to_driver=False)
    return ray
