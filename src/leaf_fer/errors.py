"""What goes wrong through no fault of the program, and how people are told."""

from __future__ import annotations

import sys


class UserError(ValueError):
    """A mistake in what a user asked for, told in one line: option, value and what is allowed.

    The command line prints it without a traceback and exits with status 2.
    """


def say(text: str) -> None:
    """Tell a person something, on standard error: results go to standard output."""
    print(text, file=sys.stderr, flush=True)
