"""Which images are labeled, unlabeled, for validation and for the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data import rest, subset
from leaf_fer.data.saved import (
    USES,
    Document,
    contents_of,
    labels_of,
    read_chosen,
    read_document,
    rows_of,
    write_document,
)
from leaf_fer.data.subset import Rows, without
from leaf_fer.data.table import PARTS, UNKNOWN, FaceTable
from leaf_fer.errors import UserError

Balance = Literal["equal", "natural"]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a table by their use; all ascending.

    Attributes:
        labeled: (L,) int64, training images whose label may be used.
        targets: (L,) int64 in [0, C), their classes.
        unlabeled: (U,) int64, training images that are used without a label.
        validation: (V,) int64, labeled images to choose models by.
        test: (T,) int64, labeled images to report results on.
        duplicates: (D,) int64, training images with the content of a validation or test image.
        seed: what the draw was seeded with.
        balance: how the labels were spread over the classes.
        notes: counts worth printing. ``labels``: labeled images, as many as were really drawn;
            ``unreadable``: images left out because they cannot be decoded; ``duplicates``: D;
            ``dropped``: how many of those were left out; ``relabeled``: images whose label in a
            list of the user's differs from the data's.
    """

    labeled: Rows
    targets: Rows
    unlabeled: Rows
    validation: Rows
    test: Rows
    duplicates: Rows
    seed: int
    balance: str
    notes: Mapping[str, int] = field(default_factory=dict)


def draw(
    table: FaceTable,
    *,
    valid: NDArray[np.bool_],
    hashes: NDArray[np.uint8],
    labels: int | Path | None,
    seed: int,
    balance: Balance = "equal",
    validation_fraction: float = 0.0,
    keep_labeled_in_pool: bool = False,
    keep_test_duplicates: bool = False,
) -> Split:
    """Split a table; the same arguments give the same split, in whatever order its rows are.

    Training images with the content of a validation or test image are used neither with nor
    without their label. Repeats among the training images stay.

    Args:
        table: the faces.
        valid: (N,) whether an image could be decoded; the others are left out everywhere.
        hashes: (N, 16) uint8, content of the decoded images.
        labels: how many training images keep their label; or a list of them, a split saved by
            :func:`save` or a CSV file with the columns path,label; None
            for all.
        seed: of the draw alone, 0 or more; training has its own.
        balance: ``equal`` draws floor(labels / C) of each of C classes, ``natural`` as many of
            each class as its share of the training images.
        validation_fraction: in [0, 1), share of the labeled training images of each class to hold
            out for validation before labels are drawn. Not used where the data has labeled
            validation images of its own.
        keep_labeled_in_pool: use labeled images as unlabeled ones, too.
        keep_test_duplicates: only count duplicates of validation and test images.

    Raises:
        UserError: an option out of range, a class with too few images, or a list that does not
            fit the table.
    """
    _check(seed, balance, validation_fraction)
    listed = read_chosen(labels, table, hashes) if isinstance(labels, Path) else None
    train, validation, test = _parts(table, valid)
    if validation_fraction and not validation.size:
        validation = _hold_out(table, hashes, train, test, validation_fraction, seed)
        validation = without(validation, listed[0]) if listed else validation
        train = without(train, validation)
    duplicates = train[_among(hashes, train, np.concatenate([validation, test]))]
    usable = train if keep_test_duplicates else without(train, duplicates)
    labeled = _draw_labels(table, usable, listed[0] if listed else labels, seed, balance)
    targets = listed[1][np.isin(listed[0], labeled)] if listed else table.targets[labeled]
    given = table.targets[labeled]
    notes = {
        "labels": labeled.size,
        "unreadable": int(np.sum(~valid)),
        "duplicates": duplicates.size,
        "dropped": 0 if keep_test_duplicates else duplicates.size,
        "relabeled": int(np.sum((given != UNKNOWN) & (given != targets))),
    }
    unlabeled = usable if keep_labeled_in_pool else without(usable, labeled)
    return Split(labeled, targets, unlabeled, validation, test, duplicates, seed, balance, notes)


def save(split: Split, table: FaceTable, hashes: NDArray[np.uint8], path: Path) -> None:
    """Write a split to a JSON file, at once or not at all; see :mod:`leaf_fer.data.saved`.

    Args:
        split: rows of ``table``.
        table: the faces.
        hashes: (N, 16) uint8, content of the decoded images.
        path: the file; one that is there is replaced.
    """
    groups = {use: getattr(split, use) for use in USES}
    short = {use: rest.summarize(use, groups, table, hashes) for use in USES}
    if not np.array_equal(split.targets, table.targets[split.labeled]):
        short["labeled"] = None  # the labels are in no other place
    listed = table.by_name(split.labeled[:0] if short["labeled"] else split.labeled)
    targets = split.targets[np.searchsorted(split.labeled, listed)]
    document = Document(
        classes=table.classes,
        seed=split.seed,
        balance=split.balance,
        notes=split.notes,
        labels={
            table.names[row]: table.classes[target]
            for row, target in zip(listed.tolist(), targets.tolist(), strict=True)
        },
        uses={use: short[use] or contents_of(groups[use], table, hashes) for use in USES},
    )
    write_document(document, path)


def load(path: Path, table: FaceTable, hashes: NDArray[np.uint8]) -> Split:
    """Read what :func:`save` wrote.

    Args:
        path: the JSON file.
        table: the same faces, in any order.
        hashes: (N, 16) uint8, content of the decoded images.

    Raises:
        UserError: no saved split; other classes; an image that is missing or has other content.
    """
    document = read_document(path)
    if document.classes != table.classes:
        classes, saved = ", ".join(table.classes), ", ".join(document.classes)
        raise UserError(f"{path}: expected the classes {classes}, got {saved}")
    groups = rows_of(document, table, hashes, path)
    return Split(
        **groups,
        targets=labels_of(document, groups["labeled"], table, path),
        seed=document.seed,
        balance=document.balance,
        notes=document.notes,
    )


def _check(seed: int, balance: str, validation_fraction: float) -> None:
    """Raise a UserError for an option out of range."""
    if not 0 <= seed < 2**63:
        raise UserError(f"seed of the split: expected 0 or more, got {seed}")
    if balance not in get_args(Balance):
        raise UserError(f"balance: expected {' or '.join(get_args(Balance))}, got {balance!r}")
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation fraction: expected 0 <= f < 1, got {validation_fraction}")


def _parts(table: FaceTable, valid: NDArray[np.bool_]) -> tuple[Rows, Rows, Rows]:
    """Rows for training, and labeled rows for validation and test."""
    train, validation, test = (rows[valid[rows]] for rows in map(table.rows, PARTS))
    return train, *(rows[table.targets[rows] != UNKNOWN] for rows in (validation, test))


def _among(hashes: NDArray[np.uint8], rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Which of the rows have the content of one of the others."""
    content = np.ascontiguousarray(hashes).view(f"V{hashes.shape[1]}").ravel()
    start = np.ascontiguousarray(hashes[:, :2]).view(np.uint16).ravel()
    # Comparing whole contents sorts them: a look at two bytes leaves few to compare.
    found = np.isin(start[rows], start[others], kind="table")
    found[found] = np.isin(content[rows[found]], content[others])
    return found


def _hold_out(
    table: FaceTable,
    hashes: NDArray[np.uint8],
    train: Rows,
    test: Rows,
    fraction: float,
    seed: int,
) -> Rows:
    """Draw a fraction of the labeled training images of each class that are no test images."""
    rows = train[(table.targets[train] != UNKNOWN) & ~_among(hashes, train, test)]
    targets = table.targets[rows]
    quotas = subset.held_out_quotas(fraction, np.bincount(targets, minlength=len(table.classes)))
    return subset.draw_rows(table, rows, quotas, seed, subset.HELD_OUT)


def _draw_labels(
    table: FaceTable, usable: Rows, labels: int | Rows | Path | None, seed: int, balance: Balance
) -> Rows:
    """Labeled rows: so many of the usable ones, those that are listed, or all with a label."""
    if isinstance(labels, np.ndarray):
        rows = labels[np.isin(labels, usable)]
    else:
        rows = usable[table.targets[usable] != UNKNOWN]
    if not rows.size:
        raise UserError("labels: expected labeled training images in the data, found none")
    if labels is None or isinstance(labels, np.ndarray | Path):
        return rows
    targets = table.targets[rows]
    counts = np.bincount(targets, minlength=len(table.classes))
    quotas_of = subset.equal_quotas if balance == "equal" else subset.natural_quotas
    quotas = quotas_of(labels, counts, table.classes)
    return subset.draw_rows(table, rows, quotas, seed, subset.LABELS)
