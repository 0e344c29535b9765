"""The faces of a folder that can be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data import folder as folders
from leaf_fer.data.names import arrange
from leaf_fer.data.table import EXPRESSIONS, UNKNOWN, FaceTable
from leaf_fer.errors import UserError, say


@dataclass(frozen=True, eq=False)
class Faces:
    """A folder of faces and what they may be.

    Attributes:
        table: all images of the folder.
        classes: C names, as the user says them and in the user's order.
        targets: (N,) int64 in [0, C), the class of images that lie in class folders, else UNKNOWN.
        rows: (n,) int64, training images without a class: those to ask about.
    """

    table: FaceTable
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]


def read(folder: Path, given: Sequence[str] | None) -> Faces:
    """List the faces of a folder; none is opened.

    Args:
        folder: see :mod:`leaf_fer.data.folder`.
        given: the classes; None takes the folders that are classes, or the eight expressions.

    Raises:
        UserError: no images, or classes that cannot be.
    """
    table = _listable(folders.read(folder))
    classes = _classes(table, given)
    if given is not None:
        _check(table, classes, f"--classes {', '.join(classes)}")
    canonical, number = arrange(classes)
    own = [canonical[number[name]] for name in classes]
    lookup = np.array([own.index(name) for name in table.classes] + [UNKNOWN], dtype=np.int64)
    targets = lookup[table.targets]
    train = table.rows("train")
    rows = train[targets[train] == UNKNOWN]
    if not len(rows):
        raise UserError(f"{folder}: no face without a label there")
    return Faces(table, classes, targets, rows)


def split(words: Sequence[str]) -> list[str]:
    """The names in words with or without commas between them.

    >>> split(["happy,sad,", "not sure"])
    ['happy', 'sad', 'not sure']
    """
    return [name.strip() for word in words for name in word.split(",") if name.strip()]


def _classes(table: FaceTable, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names that were given, or that suit the folder."""
    if given is not None:
        return tuple(given)
    if set(table.classes) <= set(EXPRESSIONS):
        return table.classes or EXPRESSIONS
    raise UserError(
        f"{table.root}: the folders {', '.join(table.classes)} would be classes, and not all are "
        "expressions: name them with --classes, or put the faces into unlabeled/"
    )


def _check(table: FaceTable, classes: Sequence[str], whose: str) -> None:
    """Refuse classes that nobody could train on."""
    canonical, number = arrange(classes)
    if len(canonical) < max(2, len(classes)):
        same = [pair for pair in combinations(classes, 2) if len({number[c] for c in pair}) == 1]
        problem = f"{' and '.join(same[0])} are the same" if same else f"got {len(classes)}"
        raise UserError(f"{whose}: expected at least two different names, {problem}")
    if table.classes and set(table.classes) != set(canonical):
        raise UserError(
            f"{whose}: the folders in {table.root} are classes, too: {', '.join(table.classes)}; "
            "expected the same, or all faces in the folder itself or in unlabeled/"
        )


def _listable(table: FaceTable) -> FaceTable:
    """The images whose names survive being written into a table and read from it."""
    kept = [row for row, name in enumerate(table.names) if name == name.strip() and _text(name)]
    left = sorted(set(range(len(table))) - set(kept))
    if not left:
        return table
    say(
        f"leaf: {len(left)} of {len(table)} files are left out: their names begin or end with a "
        f"blank, or are no UTF-8, such as {table.names[left[0]]!r}"
    )
    names = [table.names[row] for row in kept]
    return replace(table, names=names, targets=table.targets[kept], parts=table.parts[kept])


def _text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
