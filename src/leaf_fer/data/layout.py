"""What to say about a folder that does not look like the data set it should be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from leaf_fer.errors import UserError


def wrong_layout(source: str, folder: Path, expected: str, layout: str | None) -> UserError:
    """The error for a folder of another layout.

    Its first line says what was expected and what was found; a picture of the layout follows.

    Args:
        source: kind of the data, as in ``rafdb``.
        folder: the folder that was looked at.
        expected: what should be in it.
        layout: documentation of the reader; its indented lines are the picture.
    """
    problem = f"{source}:{folder}: expected {expected}, found {contents(folder)}"
    return UserError(f"{problem}\n\n{_picture(layout)}")


def require_images(
    source: str, root: Path, names: Iterable[str], listing: str, layout: str | None
) -> None:
    """Check that at least one of the listed images is there.

    A few missing images are left to the store, which lists them; none at all is a wrong folder.

    Raises:
        UserError: none of ``names`` is a file under ``root``, or there are no names.
    """
    first = None
    for name in names:
        if (root / name).is_file():
            return
        first = first or name
    missing = f"the images that {listing} lists, such as {first}" if first else "a list of images"
    raise wrong_layout(source, root, missing, layout)


def contents(folder: Path, most: int = 6) -> str:
    """The first entries of a folder in one line, folders with a slash.

    Args:
        folder: what to list; it may be missing, or a file.
        most: entries to name before only counting.
    """
    if not folder.exists():
        return "nothing there"
    if not folder.is_dir():
        return "a file, not a folder"
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    if not entries:
        return "an empty folder"
    more = f" and {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


def _picture(layout: str | None) -> str:
    """The indented lines of a docstring; nothing where Python was told to drop docstrings."""
    lines = (layout or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("    "))
