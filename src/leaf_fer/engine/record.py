"""A run folder: what was asked for, what happened, what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically


class RunFolder:
    """Paths in a run folder, and the right to write to it.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.split = path / "split.json"
        self.log = path / "metrics.jsonl"
        self.metrics = path / "metrics.json"
        self.checkpoint = path / "checkpoint" / "state.safetensors"
        self.model = path / "model"
        self.best = path / "best"
        self._lock = FileLock(path / ".lock")

    @property
    def started(self) -> bool:
        """Whether a run has written here."""
        return self.config.exists()

    @property
    def finished(self) -> bool:
        """Whether the run here is complete."""
        return self.metrics.exists()

    def lock(self) -> None:
        """Make the folder and keep other processes out until this one ends.

        Raises:
            UserError: another process is training here, or the folder cannot be made.
        """
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"--out {self.path}: another process is training there") from None
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot be written: {error.strerror}") from None

    def unlock(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def rewind(self, step: int) -> None:
        """Drop what was logged after ``step``: the run goes on from there."""
        if self.log.exists():
            kept = [line for line in self.lines() if line["step"] <= step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_atomically(self.log, text.encode())

    def lines(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl that are whole; a crash may have cut the last one."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found


class Journal:
    """Appends lines to metrics.jsonl and the same numbers to TensorBoard's event files.

    Args:
        folder: the run folder.
        step: steps already done, when a run goes on.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._file = folder.log.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder.path / "events"), purge_step=step or None)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Log values at a step; nested mappings and lists become ``a/b`` in TensorBoard."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in flatten(values):
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._events.close()


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """List the numbers in nested mappings and lists with ``/`` between their names.

    Example:
        >>> flatten({"loss": {"supervised": 1.5}, "shares": [0.25, 0.75]})
        [('loss/supervised', 1.5), ('shares/0', 0.25), ('shares/1', 0.75)]
    """
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, list):
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping):
            found.extend(flatten(value, f"{prefix}{name}/"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
