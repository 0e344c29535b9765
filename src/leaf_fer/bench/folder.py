"""The folder of a cell: who computes it, how far it is, what came of it. Imports no torch."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from leaf_fer.bench.machine import commit
from leaf_fer.config import read_yaml
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically, write_json
from leaf_fer.version import __version__

TAKEN = "another process is training there"
"""How ``leaf train`` says that it must not write to a folder."""


class CellFolder(RunFolder):
    """A run folder with what the runner of a grid knows about it.

    Args:
        path: the folder; its name is the cell's.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.options = path / "cell.yaml"
        self.facts = path / "cell.json"
        self.output = path / "log.txt"
        self.failure = path / "failed.json"
        self._claim = FileLock(path / ".claim")

    @property
    def failed(self) -> bool:
        """Whether a failure is on record."""
        return self.failure.exists()

    def claim(self) -> bool:
        """Keep other runners out; False if one is here, or a process that one left behind."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._claim.acquire(timeout=0)
        except Timeout:
            return False
        try:
            self.lock()
        except UserError as error:
            self.release()
            if TAKEN in str(error):
                return False
            raise
        self.unlock()
        return True

    def release(self) -> None:
        """Let other runners in."""
        self._claim.release()

    @property
    def taken(self) -> bool:
        """Whether somebody computes it now."""
        if not self.path.exists() or not self.claim():
            return self.path.exists()
        self.release()
        return False

    def prepare(self, options: str, data: str) -> None:
        """Write down what is about to run.

        Args:
            options: text of the configuration file for ``leaf train``.
            data: what records call the data.
        """
        write_atomically(self.options, options.encode())
        write_json(self.facts, {"data": data, "commit": commit(), "version": __version__})

    def fail(self, status: int) -> str:
        """Put a failure on record and return its reason.

        Args:
            status: exit status of the process; below 0, a signal.
        """
        lines = self.last_words()
        reason = lines[-1].removeprefix("leaf: error: ") if lines else f"exit status {status}"
        if status < 0:
            reason = f"killed by {signal.Signals(-status).name}"
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(self.failure, {"status": status, "reason": reason, "time": now, "log": lines})
        return reason

    def reason(self) -> str:
        """Why it failed, from the record."""
        try:
            return str(json.loads(self.failure.read_text(encoding="utf-8"))["reason"])
        except FileNotFoundError:
            return "another runner tries again"

    def last_words(self) -> list[str]:
        """The last lines that the process wrote, at most twenty, without empty ones."""
        return [line for line in _tail(self.output).splitlines() if line.strip()][-20:]

    def progress(self) -> dict[str, Any]:
        """The last line of metrics.jsonl that has a speed, or nothing."""
        for line in reversed(_tail(self.log).splitlines()):
            try:
                values: dict[str, Any] = json.loads(line)
            except ValueError:  # the first may be half, the last half written
                continue
            if "steps_per_second" in values:
                return values
        return {}

    def result(self) -> dict[str, Any]:
        """What metrics.json holds."""
        found: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        return found


def write_records(cells: Path, file: Path) -> None:
    """Write a line for every finished cell, whoever computed it.

    Args:
        cells: the folder of all cells.
        file: JSON lines with ``cell``, ``commit``, ``version``, ``config`` and ``metrics``.
    """
    lines = [_record(path.parent) for path in sorted(cells.glob("*/metrics.json"))]
    write_atomically(file, "".join(lines).encode())


@cache  # a finished cell stays as it is
def _record(folder: Path) -> str:
    cell = CellFolder(folder)
    facts = json.loads(cell.facts.read_text(encoding="utf-8"))
    config = read_yaml(str(cell.config))
    config["data"] = facts.pop("data")  # a path says nothing to anybody else
    config.pop("cache", None)
    if config.get("init"):  # metrics have its SHA-256
        config["init"] = Path(config["init"]).name
    line = {"cell": folder.name, **facts, "config": config, "metrics": cell.result()}
    return json.dumps(line) + "\n"


def _tail(file: Path) -> str:
    """The last 16 KiB of a text file, or nothing."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - 2**14))
            return opened.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
