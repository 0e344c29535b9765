"""Large groups of a split: all that is left of the training images.

A million names and contents would make a file of 50 MB in every run folder. What was drawn by
chance must be listed; the rest follows from it, and a digest tells whether it is still the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.subset import Rows
from leaf_fer.data.table import PARTS, UNKNOWN, FaceTable
from leaf_fer.errors import UserError

LISTED = 100_000
"""Groups up to this size are listed image by image."""

LEFT_OUT = {
    "labeled": ("validation", "duplicates"),
    "unlabeled": ("labeled", "validation", "duplicates"),
}
"""For each group that may be large, the groups that it may leave out."""

_PIECE = 4096


@dataclass(frozen=True)
class Rest:
    """All readable training images but those of other groups; of ``labeled``, all with a label.

    Attributes:
        but: the groups that are left out.
        count: how many images that are.
        digest: of their names and contents, and of ``labeled`` of their labels, in hexadecimal
            digits, whatever the order of the table.
    """

    but: tuple[str, ...]
    count: int
    digest: str


def summarize(
    use: str, groups: Mapping[str, Rows], table: FaceTable, hashes: NDArray[np.uint8]
) -> Rest | None:
    """A large group in short, or None where it has to be listed.

    Args:
        use: name of the group.
        groups: rows of all groups, ascending.
        table: the faces.
        hashes: (N, 16) uint8, zeros where an image is unreadable.
    """
    rows = groups[use]
    if len(rows) <= LISTED or use not in LEFT_OUT:
        return None
    but = [name for name in LEFT_OUT[use] if not np.isin(groups[name], rows).any()]
    if not np.array_equal(rows, _left(use, [groups[name] for name in but], table, hashes)):
        return None
    return Rest(tuple(but), len(rows), _digest(use, rows, table, hashes))


def restore(
    rest: Rest,
    use: str,
    left_out: Sequence[Rows],
    table: FaceTable,
    hashes: NDArray[np.uint8],
    file: Path,
) -> Rows:
    """Rows of a group that :func:`summarize` has put in short.

    Args:
        rest: what is known of it.
        use: name of the group.
        left_out: rows of the groups that ``rest.but`` names.
        table: the faces, in any order.
        hashes: (N, 16) uint8.
        file: where it was read, for error messages.

    Raises:
        UserError: the table has more or fewer such images, or one of them has changed.
    """
    rows = _left(use, left_out, table, hashes)
    if len(rows) != rest.count:
        raise UserError(f"{file}: expected {rest.count:,} {use} images, the data has {len(rows):,}")
    if _digest(use, rows, table, hashes) != rest.digest:
        what = "name, content or label" if use == "labeled" else "name or content"
        raise UserError(f"{file}: the {what} of one of the {rest.count:,} {use} images has changed")
    return rows


def _left(use: str, left_out: Sequence[Rows], table: FaceTable, hashes: NDArray[np.uint8]) -> Rows:
    left = (table.parts == PARTS.index("train")) & hashes.any(axis=1)
    if use == "labeled":
        left &= table.targets != UNKNOWN
    for rows in left_out:
        left[rows] = False
    return np.flatnonzero(left)


def _digest(use: str, rows: Rows, table: FaceTable, hashes: NDArray[np.uint8]) -> str:
    digest = blake2b(digest_size=16)
    ordered = table.by_name(rows)
    for start in range(0, len(ordered), _PIECE):
        some = ordered[start : start + _PIECE]
        names = "\0".join(map(table.names.__getitem__, some.tolist()))
        digest.update(names.encode("utf-8", "surrogateescape"))
        digest.update(hashes[some].tobytes())
        if use == "labeled":
            digest.update(table.targets[some].astype("<i8").tobytes())
    return digest.hexdigest()
