"""What people see while a grid runs: lines of events, and in a terminal a table under them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO


class Board:
    """Lines that stay, and in a terminal lines under them that are drawn again and again.

    Args:
        stream: a terminal, or anything else, where the table is left out.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0

    def say(self, line: str) -> None:
        """Add a line that stays."""
        self._write([line], 0)

    def draw(self, table: Sequence[str]) -> None:
        """Replace the table."""
        if self.live:
            width, height = _size(self.stream)
            more = len(table) - (height - 1)
            lines = [*table[: height - 2], f"... and {more + 1} more"] if more > 0 else table
            self._write([line[: width - 1] for line in lines], len(lines))

    def leave(self) -> None:
        """Let the table stay as it is, because others write under it."""
        self._drawn = 0

    def _write(self, lines: Sequence[str], drawn: int) -> None:
        # To the start of the first line of the table, then erase all below.
        erase = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self.stream.write(erase + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._drawn = drawn


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of a terminal; some say 0 and mean that they do not know."""
    columns, lines = os.get_terminal_size(stream.fileno())
    return columns or 80, lines or 24


def remaining_seconds(
    durations: Sequence[float], running: Sequence[float], waiting: int, jobs: int
) -> float | None:
    """How long the rest takes if cells take as long as those before; None if nobody knows.

    Args:
        durations: seconds that cells took.
        running: seconds since the start of those that run.
        waiting: number of cells that have not begun.
        jobs: cells at once.

    Example:
        >>> remaining_seconds([50.0, 70.0], [20.0, 90.0], 4, 2)
        140.0
    """
    busy = min(jobs, len(running) + waiting)
    if not durations or not busy:
        return None
    mean = sum(durations) / len(durations)
    return (waiting * mean + sum(max(0.0, mean - seconds) for seconds in running)) / busy


def spoken(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> spoken(42), spoken(150), spoken(3900)
        ('42 s', '2 min', '1 h 5 min')
    """
    minutes = int(seconds // 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
