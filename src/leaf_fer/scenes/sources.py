"""Photos and videos that are named on the command line, and what is named after them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from leaf_fer.data.folder import image_files
from leaf_fer.errors import UserError


def find_sources(paths: Iterable[str]) -> dict[Path, str]:
    """Files, and for folders all below them that are no tables or notes, sorted.

    Returns:
        Of each file what crops and pictures of it are named after: for ``photos`` in the folder
        ``photos/happy/a.jpg`` has the name ``happy/a``. Names are unique, and so are files.

    Raises:
        UserError: a folder holds no file.
    """
    found: dict[Path, str] = {}
    used: set[str] = set()
    for path in map(Path, paths):
        for file, relative in _below(path) if path.is_dir() else [(path, path.name)]:
            if file not in found:
                found[file] = _unique(relative, used)
    return found


def _below(folder: Path) -> list[tuple[Path, str]]:
    names = sorted(image_files(str(folder), ""))
    if not names:
        raise UserError(f"{folder}: no photos or videos there")
    return [(folder / name, name) for name in names]


def _unique(relative: str, used: set[str]) -> str:
    """A name without its ending, or with it where another file has that name."""
    top, _, name = relative.rpartition("/")
    name = name.lstrip(".") or "face"  # hidden crops would be passed over
    short = os.path.splitext(name)[0]  # noqa: PTH122  # a name, no path
    tries = [short, name.replace(".", "_"), *(f"{short}_{n}" for n in range(2, len(used) + 3))]
    for one in tries:
        full = f"{top}/{one}" if top else one
        # Disks that take capitals for small letters would lose one of two.
        if full.lower() not in used:
            used.add(full.lower())
            return full
    raise AssertionError(tries)
