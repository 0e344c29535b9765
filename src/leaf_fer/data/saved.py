"""Files that say which images are labeled: saved splits, and lists of the user's own.

A saved split is JSON. It names images and their content, never rows, so that it fits the same
images in any order and in any place::

    {"format": "leaf-fer split 1", "classes": ["neutral", ...], "seed": 0, "balance": "equal",
     "notes": {"labels": 400, ...}, "labels": {"train/a.jpg": "neutral", ...},
     "labeled": {"train/a.jpg": "3f2a...", ...}, "unlabeled": {...}, "validation": {...},
     "test": {...}, "duplicates": {...}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.names import arrange, canonical
from leaf_fer.data.subset import Rows
from leaf_fer.data.table import PARTS, FaceTable
from leaf_fer.data.tabular import records
from leaf_fer.errors import UserError

FORMAT = "leaf-fer split 1"
USES = ("labeled", "unlabeled", "validation", "test", "duplicates")
"""Which groups of images a saved split has."""


@dataclass(frozen=True)
class Document:
    """A saved split, not yet matched with a table.

    Attributes:
        classes: names of the classes.
        seed: of the draw.
        balance: of the draw.
        notes: counts.
        labels: class name of every labeled image.
        uses: for each of :data:`USES` names of images, and their content in hexadecimal digits.
    """

    classes: tuple[str, ...]
    seed: int
    balance: str
    notes: Mapping[str, int]
    labels: Mapping[str, str]
    uses: Mapping[str, Mapping[str, str]]


def write_document(document: Document, file: Path) -> None:
    """Write a split so that the file is either the old or the new one, never half of it."""
    content = {
        "format": FORMAT,
        "classes": document.classes,
        "seed": document.seed,
        "balance": document.balance,
        "notes": dict(document.notes),
        "labels": document.labels,
        **document.uses,
    }
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def read_document(file: Path) -> Document:
    """Read a saved split.

    Raises:
        UserError: not readable, or anything but a saved split.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{file}: expected format {FORMAT!r}, got {content['format']!r}")
        return Document(
            classes=tuple(map(str, content["classes"])),
            seed=int(content["seed"]),
            balance=str(content["balance"]),
            notes={str(name): int(count) for name, count in content["notes"].items()},
            labels=_texts(content["labels"]),
            uses={use: _texts(content[use]) for use in USES},
        )
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: expected a split saved by leaf: {error}") from error


def contents_of(rows: Rows, table: FaceTable, hashes: NDArray[np.uint8]) -> dict[str, str]:
    """Name -> content in hexadecimal digits, sorted by name."""
    return {table.names[row]: hashes[row].tobytes().hex() for row in by_name(rows, table)}


def by_name(rows: Rows, table: FaceTable) -> list[int]:
    """Rows in the order of their names."""
    return sorted(rows.tolist(), key=table.names.__getitem__)


def match(
    entries: Mapping[str, str], table: FaceTable, hashes: NDArray[np.uint8], file: Path
) -> Rows:
    """Rows of saved images, in the order of the entries.

    Raises:
        UserError: an image is not in the table, or its content is another.
    """
    rows = find(entries, table, file)
    try:
        saved = np.frombuffer(bytes.fromhex("".join(entries.values())), dtype=np.uint8)
        differs = np.any(saved.reshape(len(rows), hashes.shape[1]) != hashes[rows], axis=1)
    except ValueError as error:
        raise UserError(f"{file}: expected {2 * hashes.shape[1]} digits per image") from error
    if differs.any():
        name = table.names[rows[differs.argmax()]]
        raise UserError(
            f"{file}: the content of {name} has changed{_more(int(differs.sum()), 'and of')}"
        )
    return rows


def find(names: Iterable[str], table: FaceTable, file: Path) -> Rows:
    """Rows of names, in their order.

    Raises:
        UserError: a name is not in the table.
    """
    position = {name: row for row, name in enumerate(table.names)}
    wanted = list(names)
    missing = [name for name in wanted if name not in position]
    if missing:
        raise UserError(f"{file}: {missing[0]} is not in the data{_more(len(missing), 'nor')}")
    return np.array([position[name] for name in wanted], dtype=np.int64)


def read_chosen(file: Path, table: FaceTable, hashes: NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """The labeled images that a file lists.

    Args:
        file: a saved split (``.json``), or a table with the columns path (or name) and label whose
            paths are names of ``table``.
        table: the faces.
        hashes: (N, 16) uint8; a saved split must have the same content.

    Returns:
        (L,) rows, ascending, and (L,) classes in [0, C).

    Raises:
        UserError: not such a file; an image that is unknown, listed twice, changed or no training
            image; a label that is no class of the table.
    """
    if file.suffix.lower() == ".json":
        document = read_document(file)
        labels = {name: (f"{file}: {name}", label) for name, label in document.labels.items()}
        rows = match(document.uses["labeled"], table, hashes, file)
        if set(labels) != set(document.uses["labeled"]):
            raise UserError(f"{file}: expected a label for every labeled image, and no other")
    else:
        labels = _listed(file)
        rows = find(labels, table, file)
    other = np.flatnonzero(table.parts[rows] != PARTS.index("train"))
    if other.size:
        row = rows[other[0]]
        part = PARTS[table.parts[row]]
        raise UserError(f"{file}: {table.names[row]} is a {part} image: expected training images")
    rows = np.sort(rows)
    targets = [_class(*labels[table.names[row]], table.classes) for row in rows]
    return rows, np.array(targets, dtype=np.int64)


def with_classes(table: FaceTable, file: Path) -> FaceTable:
    """A table without classes of its own, such as a folder of images, takes those of a list.

    Args:
        table: the faces; returned as it is if it has classes.
        file: see :func:`read_chosen`.

    Raises:
        UserError: not such a file, or it names fewer than two classes.
    """
    if table.classes:
        return table
    if file.suffix.lower() == ".json":
        return replace(table, classes=read_document(file).classes)
    classes, _ = arrange({label for _, label in _listed(file).values()})
    if len(classes) < 2:
        raise UserError(f"{file}: expected labels of at least two classes, got {len(classes)}")
    return replace(table, classes=classes)


def _listed(file: Path) -> dict[str, tuple[str, str]]:
    """Name -> place and label of every row of a user's list."""
    found: dict[str, tuple[str, str]] = {}
    for place, (name, label) in records(file, [("path", "name"), ("label",)]):
        if name in found:
            raise UserError(f"{place}: {name} is listed twice, first in {found[name][0]}")
        found[name] = place, label
    return found


def _class(place: str, label: str, classes: tuple[str, ...]) -> int:
    """Index of a class name, or of another word for it."""
    for name in (label, canonical(label)):
        if name in classes:
            return classes.index(name)
    known = ", ".join(classes) or "none, as no image of the data is labeled"
    raise UserError(f"{place}: unknown label {label!r}, the classes are {known}")


def _more(count: int, word: str) -> str:
    """A remark on how many images besides the first have the same problem."""
    return f", {word} {count - 1} more" if count > 1 else ""


def _texts(content: object) -> dict[str, str]:
    """A mapping of texts.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise TypeError("expected texts by name")
    return content
