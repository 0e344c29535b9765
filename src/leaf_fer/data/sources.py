"""The one grammar for naming data, and the readers behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data import affectnet, ferplus, folder, rafdb, tabular
from leaf_fer.data.names import SEVEN
from leaf_fer.data.table import EXPRESSIONS, PARTS, FaceTable, Numbered
from leaf_fer.errors import UserError

READERS: dict[str, Callable[[Path], FaceTable]] = {
    "rafdb": rafdb.read,
    "ferplus": ferplus.read,
    "affectnet7": partial(affectnet.read, classes=SEVEN),
    "affectnet8": partial(affectnet.read, classes=EXPRESSIONS),
    "folder": folder.read,
    "csv": tabular.read,
}
"""What reads ``KIND:PATH``."""

TABLES = (".csv", *tabular.PARQUET)
"""Endings of a file that is read as a table."""

SYNTHETIC_TRAIN, SYNTHETIC_VALIDATION, SYNTHETIC_TEST = 4000, 800, 1600
"""Number of drawn faces in each part; the first can be chosen."""

SYNTHETIC_MOST = 1_000_000
"""Most training images that can be asked for."""

_SEED = 0


def read_faces(spec: str) -> FaceTable:
    """Read the data that a user names; no image is opened or drawn.

    Args:
        spec: ``synthetic``, ``synthetic:N``, ``KIND:PATH`` with a kind of :data:`READERS`, or an
            existing folder (read as ``folder:``) or table (read as ``csv:``).

    Raises:
        UserError: an unknown kind, nothing at the path, or files that are not of the kind.
    """
    kind, rest = locate(spec)
    return _synthetic(rest) if kind == "synthetic" else READERS[kind](_path(rest))


def locate(spec: str) -> tuple[str, str]:
    """Split what a user says into a kind and its path or count, without reading anything.

    Raises:
        UserError: an unknown kind, or nothing at the path.
    """
    kind, colon, rest = spec.partition(":")
    if kind == "synthetic":
        return kind, rest if colon else str(SYNTHETIC_TRAIN)
    if kind in READERS and not rest:
        raise UserError(f"data {spec!r} needs a path: expected {kind}:PATH")
    if kind in READERS and not _path(rest).exists():
        READERS[kind](_path(rest))  # raises, and shows the layout that it expects
    if kind in READERS:
        return kind, rest
    path = _path(spec)
    if spec and path.is_dir():
        return "folder", spec
    if path.is_file() and path.suffix.lower() in TABLES:
        return "csv", spec
    problem = "is neither a folder nor a table" if spec and path.exists() else "is unknown"
    known = ", ".join(["synthetic[:N]", *(f"{name}:PATH" for name in READERS)])
    files = f"a folder or a {' or '.join(TABLES)} file"
    raise UserError(f"data {spec!r} {problem}: expected {known}, {files}")


def _path(text: str) -> Path:
    """The path, with ~ for the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"data {text!r}: {error}") from error


def _synthetic(count: str) -> FaceTable:
    """A table of drawn faces with ``count`` training images; row i is face i of one fixed seed.

    Validation and test images come first, so that they are the same for every ``count``.
    """
    if not (count.isdecimal() and 1 <= int(count) <= SYNTHETIC_MOST):
        raise UserError(f"data 'synthetic:{count}': expected 1 to {SYNTHETIC_MOST} training images")
    from leaf_fer.data import synthetic

    sizes = {"validation": SYNTHETIC_VALIDATION, "test": SYNTHETIC_TEST, "train": int(count)}
    rows = np.arange(sum(sizes.values()), dtype=np.int64)
    return FaceTable(
        classes=EXPRESSIONS,
        names=Numbered(len(rows)),
        targets=np.asarray(synthetic.labels(_SEED, rows), dtype=np.int64),
        parts=np.repeat([PARTS.index(part) for part in sizes], list(sizes.values())).astype(
            np.uint8
        ),
        render=_render,
        key=f"synthetic-{synthetic.VERSION}-seed{_SEED}-{int(count)}",
    )


def _render(rows: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Draw the faces of some rows: (n, size, size, 3) uint8."""
    from leaf_fer.data import synthetic

    return np.asarray(synthetic.render(_SEED, rows, size), dtype=np.uint8)
