"""Processes that do pieces of work on demand and say how long they took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, Any

from leaf_fer.errors import UserError

Asked = Mapping[str, Any]
Turn = tuple[str, str]
"""Name of a contestant, and of a piece of work."""

OWN = (sys.executable, "-P", "-c", "from leaf_fer.bench.steps import main; main()")
"""The command of a process of this package."""


class Contestant:
    """The parent's end of :func:`leaf_fer.bench.usb.serve`. It does nothing unless asked.

    Attributes:
        option: what a user said to have it, for messages.
        found: what it says of itself: seconds of its first and second step, memory, ...
    """

    def __init__(
        self, option: str, process: subprocess.Popen[bytes], errors: IO[bytes], asked: Asked
    ) -> None:
        self.option = option
        self._process = process
        self._errors = errors
        self.found: dict[str, Any] = self._ask(json.dumps(asked))

    def seconds(self, work: str) -> float:
        """Do a piece of work; return how long it took.

        Raises:
            UserError: the process has died.
        """
        return float(self._ask(work))

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = b""
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            answer = self._process.stdout.readline()
        if not answer:
            raise UserError(f"{self.option}: {self._last_words()}")
        return json.loads(answer)

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"ended with status {status}"


@contextmanager
def contestant(option: str, command: Sequence[str], asked: Asked) -> Iterator[Contestant]:
    """Start a process, and end it and all that it has started afterwards.

    Args:
        option: what a user said to have it.
        command: of a program that calls :func:`leaf_fer.bench.usb.serve`.
        asked: what it is to build.

    Raises:
        UserError: it cannot be started, or has died.
    """
    folders = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    # A translation of an earlier run would hide what translating costs.
    environment = {**os.environ, "PYTHONPATH": folders, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                bufsize=0,  # nothing may be left to flush into the pipe of one that has died
                start_new_session=True,  # a group: what it starts ends with it
            )
        except OSError as error:
            raise UserError(f"{option}: cannot be started: {error.strerror}") from None
        with process:
            try:
                yield Contestant(option, process, errors, asked)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class Times:
    """Seconds of everything that was done, round by round.

    Args:
        contestants: by name.
        turns: what is done in a round; every other round goes backward.
        steps: number of rounds.

    Raises:
        UserError: a process has died.
    """

    def __init__(
        self, contestants: Mapping[str, Contestant], turns: Sequence[Turn], steps: int
    ) -> None:
        self.seconds: dict[Turn, list[float]] = {turn: [] for turn in turns}
        for number in range(steps):
            for name, work in turns[:: -1 if number % 2 else 1]:
                self.seconds[name, work].append(contestants[name].seconds(work))

    def median(self, turn: Turn) -> float:
        """Seconds of a piece of work."""
        return median(self.seconds[turn])

    def ratio(self, turn: Turn, other: Turn) -> float:
        """How many times as long a piece of work takes as another; within a round."""
        pairs = zip(self.seconds[turn], self.seconds[other], strict=True)
        return median(long / short for long, short in pairs)
