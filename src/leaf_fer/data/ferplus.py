"""FERPlus (Barsoum et al., 2016, arXiv:1608.01041): FER2013 with the votes of ten people.

::

    PATH/
        FER2013Train/label.csv          rows fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0
        FER2013Train/fer0000000.png     48x48 faces
        FER2013Valid/                   the same: validation
        FER2013Test/                    the same: test
        fer2013new.csv                  read for a folder without label.csv

The ten votes are for neutral, happiness, surprise, sadness, anger, disgust, fear, contempt,
unknown and NF (not a face). Columns Usage and Image name of ``fer2013new.csv`` stand before the
same votes. An image has a label if most of its votes agree, see :func:`majority`; the others are
left out: 25,045 training, 3,191 validation and 3,137 test images are kept of ``label.csv``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leaf_fer.data.layout import require_images, wrong_layout
from leaf_fer.data.table import EXPRESSIONS, UNKNOWN, FaceTable
from leaf_fer.data.tabular import lines
from leaf_fer.errors import UserError

FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")
"""Folders of the training, validation and test images."""

VOTED = (*EXPRESSIONS, "unknown", "not a face")
"""What the ten people could vote for, in the order of the columns."""

_USAGES = ("Training", "PublicTest", "PrivateTest")


def read(folder: Path) -> FaceTable:
    """Read the votes of FERPlus; no image is opened.

    Args:
        folder: the folder that holds :data:`FOLDERS`.

    Raises:
        UserError: another layout, or a row that is not a name and ten votes.
    """
    names: list[str] = []
    votes: list[list[int]] = []
    parts: list[int] = []
    for part in range(len(FOLDERS)):
        rows = _rows(folder, part)
        names += rows
        votes += rows.values()
        parts += [part] * len(rows)
    targets = majority(np.array(votes, dtype=np.int64).reshape(-1, len(VOTED)))
    kept = np.flatnonzero(targets != UNKNOWN)
    table = FaceTable(
        classes=EXPRESSIONS,
        names=[names[row] for row in kept],
        targets=targets[kept],
        parts=np.array(parts, dtype=np.uint8)[kept],
        root=folder,
    )
    require_images("ferplus", folder, table.names, "label.csv", __doc__)
    return table


def read_votes(folder: Path, names: Iterable[str]) -> NDArray[np.int64]:
    """Read how ten people voted on some faces of :func:`read`.

    Args:
        folder: the folder that holds :data:`FOLDERS`.
        names: N names of the table, in any order.

    Returns:
        (N, 10) counts, columns as in :data:`VOTED`.

    Raises:
        UserError: another layout, or a row that is not a name and ten votes.
    """
    known = {name: row for part in range(len(FOLDERS)) for name, row in _rows(folder, part).items()}
    return np.array([known[name] for name in names], dtype=np.int64).reshape(-1, len(VOTED))


def majority(votes: ArrayLike) -> NDArray[np.int64]:
    """The class that most votes agree on.

    Single votes do not count. The winner needs more than half of the votes that are left, and must
    be one of the eight expressions rather than unknown or NF.

    Args:
        votes: (N, 10) counts, columns as in :data:`VOTED`.

    Returns:
        (N,) class in [0, 8), or UNKNOWN.

    >>> majority([[4, 0, 0, 1, 3, 2, 0, 0, 0, 0], [1, 6, 3, 0, 0, 0, 0, 0, 0, 0]])
    array([-1,  1])
    """
    counts = np.asarray(votes, dtype=np.int64)
    counts = np.where(counts <= 1, 0, counts)
    winner = counts.argmax(axis=1)
    agreed = (2 * counts.max(axis=1) > counts.sum(axis=1)) & (winner < len(EXPRESSIONS))
    return np.where(agreed, winner, UNKNOWN).astype(np.int64)


def _rows(folder: Path, part: int) -> dict[str, list[int]]:
    """Votes by name in the table of one part; rows without an image name have no face."""
    file, column = folder / FOLDERS[part] / "label.csv", 0
    if not file.parent.is_dir():
        raise wrong_layout("ferplus", folder, f"the folder {FOLDERS[part]}", __doc__)
    if not file.is_file():
        file, column = folder / "fer2013new.csv", 1
    if not file.is_file():
        raise wrong_layout("ferplus", folder / FOLDERS[part], "label.csv", __doc__)
    found: dict[str, list[int]] = {}
    for place, row in lines(file):
        if column == 1 and row[0] != _USAGES[part]:
            continue
        image, votes = _votes(row, column, place)
        name = f"{FOLDERS[part]}/{image}"
        if name in found:
            raise UserError(f"{place}: {image} is listed twice")
        if image:
            found[name] = votes
    return found


def _votes(row: list[str], column: int, place: str) -> tuple[str, list[int]]:
    """Image name, which stands in ``column``, and votes of one row."""
    try:
        votes = [int(vote) for vote in row[2 : 2 + len(VOTED)]]
    except ValueError:
        votes = []
    if len(votes) != len(VOTED):
        expected = "a name, a box and ten counts" if column == 0 else "usage, name and ten counts"
        raise UserError(f"{place}: expected {expected}, got {','.join(row)!r}")
    return row[column].strip(), votes
