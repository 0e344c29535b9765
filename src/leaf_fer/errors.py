"""What goes wrong through no fault of the program, and how people are told."""

from __future__ import annotations

import os
import sys


class UserError(ValueError):
    """A mistake in what a user asked for, told in one line: option, value and what is allowed.

    The command line prints it without a traceback and exits with status 2.
    """


def say(text: str) -> None:
    """Tell a person something, on standard error: results go to standard output."""
    print(text, file=sys.stderr, flush=True)


def process() -> int:
    """The number of this process among those that a launcher has started, from 0."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def speaker() -> str:
    """Who complains: ``leaf``, or ``leaf, process 1`` and so on."""
    return f"leaf, process {process()}" if process() else "leaf"
