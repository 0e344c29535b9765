"""Cells, each in a process of its own, several at a time, on machines that may be switched off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaf_fer.bench.board import Board, remaining_seconds, spoken
from leaf_fer.bench.devices import Slot, free
from leaf_fer.bench.folder import TAKEN, CellFolder
from leaf_fer.bench.grid import Cell
from leaf_fer.config import Config, write_yaml

POLL = 0.5
"""Seconds between two looks at the processes."""

GUARD = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Becomes a command that is asked to stop when the process that started it dies, even of -9."""

Words = Callable[[CellFolder], list[str]]
"""A cell's folder -> the command that computes the cell, or goes on with it."""


@dataclass(frozen=True, eq=False)
class Task:
    """A cell to compute.

    Attributes:
        cell: what.
        folder: where.
        spec: its data as ``leaf train`` wants it.
    """

    cell: Cell
    folder: CellFolder
    spec: str

    def prepare(self) -> None:
        """Write down what is about to run."""
        config = self.cell.config
        settings = replace(config.settings, data=self.spec)
        self.folder.prepare(write_yaml(Config(settings, config.options)), config.settings.data)


@dataclass(frozen=True, eq=False)
class Job:
    """A task that runs.

    Attributes:
        task: which.
        process: that computes it.
        since: when it was started, in seconds of ``time.monotonic``.
    """

    task: Task
    process: subprocess.Popen[bytes]
    since: float

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.since


class Scheduler:
    """Runs the tasks that are not finished yet and that no other runner has.

    What is known about a cell is in its folder only: a runner can be killed at any moment, and
    several runners share the work by what they find there.

    Args:
        tasks: what to run, the first ones first.
        slots: room for as many at a time.
        words: the command of a cell.
        board: where people look.
        finished: called after every task that is finished.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: Sequence[Slot],
        words: Words,
        board: Board,
        finished: Callable[[], None],
    ) -> None:
        self.slots, self.words, self.board, self._tell = slots, words, board, finished
        self.waiting = list(tasks)
        self.running: dict[int, Job] = {}
        self.done: list[Task] = []
        self.failed: list[Task] = []
        self.stopped: list[Task] = []
        self._durations: list[float] = []
        self._stopping = self._idle = False
        for task in tasks:
            self._settled(task)

    def go(self, stop: Callable[[], bool]) -> None:
        """Run to the end, or until ``stop`` says so."""
        try:
            while not stop():
                self._reap()
                self._fill()
                self._show()
                if not (self.waiting or self.running):
                    break
                time.sleep(POLL)
            self._end()
        except KeyboardInterrupt:  # asked once more
            for job in self.running.values():
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()
            raise

    def _settled(self, task: Task) -> bool:
        """Whether nothing is left to do for a task, which then no longer waits."""
        for so, tasks in ((task.folder.finished, self.done), (task.folder.failed, self.failed)):
            if so:
                self.waiting.remove(task)
                tasks.append(task)
                return True
        return False

    def _fill(self) -> None:
        """Start tasks where there is room."""
        for task in list(self.waiting):
            slot = free(self.slots, list(self.running))
            if slot is None:
                return
            if self._settled(task) or not task.folder.claim():
                continue
            if self._settled(task):  # another runner finished it just before the claim
                task.folder.release()
                continue
            self.waiting.remove(task)
            self.running[slot] = self._start(task, self.slots[slot])

    def _start(self, task: Task, slot: Slot) -> Job:
        task.prepare()
        with task.folder.output.open("ab") as log:
            process = subprocess.Popen(
                guarded(self.words(task.folder)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **slot.environment},
                start_new_session=True,  # Ctrl-C in a terminal must reach it once, through us
            )
        if not self.board.live:
            where = f" on GPU {slot.gpu}" if slot.gpu else ""
            self.board.say(f"started {task.cell.name}{where}")
        return Job(task, process, time.monotonic())

    def _reap(self) -> None:
        """Write down what came of processes that have ended."""
        for slot, job in list(self.running.items()):
            status = job.process.poll()
            if status is not None:
                del self.running[slot]
                self._conclude(job, status)
                job.task.folder.release()

    def _conclude(self, job: Job, status: int) -> None:
        task, name = job.task, job.task.cell.name
        if task.folder.finished:
            self.done.append(task)
            self._durations.append(job.seconds)
            took = spoken(job.seconds)
            self.board.say(f"finished {name}: {shown(task.folder.result())}, in {took}")
            self._tell()
        elif status == 130 or self._stopping:
            self.stopped.append(task)
            self.board.say(f"stopped {name}")
        elif TAKEN in "".join(task.folder.last_words()[-1:]):
            self.waiting.append(task)  # a process that a killed runner has left behind has it
        else:
            self.failed.append(task)
            self.board.say(f"failed {name}: {task.folder.fail(status)}")

    def _show(self) -> None:
        if self.board.live:
            self.board.draw([self._headline(), *map(progress, self.running.values())])
        elif self.waiting and not self.running and not self._idle:
            self.board.say(f"waiting for other runners: {len(self.waiting)} cells")
        self._idle = not self.running

    def _headline(self) -> str:
        waiting, running = len(self.waiting), list(self.running.values())
        idle = free(self.slots, list(self.running)) is not None
        counts = {
            "running": len(running),
            "in other hands" if idle else "waiting": waiting,
            "failed": len(self.failed),
            "stopped": len(self.stopped),
        }
        total = len(self.done) + sum(counts.values())
        words = [f"{len(self.done)} of {total} cells finished"]
        words += [f"{count} {what}" for what, count in counts.items() if count]
        seconds = remaining_seconds(
            self._durations, [job.seconds for job in running], waiting, len(self.slots)
        )
        return ", ".join([*words, f"about {spoken(seconds)} to go"] if seconds else words)

    def _end(self) -> None:
        """Let what runs save and end."""
        self._stopping = True
        if self.running:
            self.board.leave()  # the wish to stop was answered under the table
        for job in self.running.values():
            job.process.terminate()
        while self.running:
            self._reap()
            self._show()
            time.sleep(POLL)
        self.board.draw([])


def guarded(words: list[str]) -> list[str]:
    """The command, such that it does not outlive this process where the system can do that."""
    if sys.platform != "linux":
        return words
    return [sys.executable, "-I", "-c", GUARD, str(os.getpid()), *words]


def progress(job: Job) -> str:
    """How far a job is, in a line."""
    settings, values = job.task.cell.config.settings, job.task.folder.progress()
    if not values:
        return f"  {job.task.cell.name}  starting"
    step = f"step {values['step']}"
    if settings.steps:
        step += f" of {settings.steps}"
    else:
        step += f", epoch {values['epoch'] + 1} of {settings.epochs}"
    return f"  {job.task.cell.name}  {step}, {values['steps_per_second']:.3g} steps/s"


def shown(result: dict[str, Any]) -> str:
    """The numbers of a result that matter most."""
    if "balanced_accuracy" not in result:
        return "no labeled images to evaluate on"
    return f"{result['part']}, balanced accuracy {100 * result['balanced_accuracy']:.2f} %"
