"""Files that say which images are labeled: saved splits, and lists of the user's own.

A saved split is JSON. It names images and their content, never rows, so that it fits the same
images in any order and in any place::

    {"format": "leaf-fer split 1", "classes": ["neutral", ...], "seed": 0, "balance": "equal",
     "notes": {"labels": 400, ...}, "labels": {"train/a.jpg": "neutral", ...},
     "labeled": {"train/a.jpg": "3f2a...", ...}, "unlabeled": {...}, "validation": {...},
     "test": {...}, "duplicates": {...}}

Of a large group that is all the rest, only that is said; see :mod:`leaf_fer.data.rest`::

    {..., "unlabeled": {"but": ["labeled", ...], "count": 996000, "digest": "77d0..."}, ...}
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.names import arrange, canonical
from leaf_fer.data.rest import LEFT_OUT, Rest, restore
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
        labels: class name of every labeled image that is listed.
        uses: for each of :data:`USES` names of images, and their content in hexadecimal digits;
            of a large group its description.
    """

    classes: tuple[str, ...]
    seed: int
    balance: str
    notes: Mapping[str, int]
    labels: Mapping[str, str]
    uses: Mapping[str, Mapping[str, str] | Rest]


def write_document(document: Document, file: Path) -> None:
    """Write a split so that the file is either the old or the new one, never half of it."""
    content = {
        "format": FORMAT,
        "classes": document.classes,
        "seed": document.seed,
        "balance": document.balance,
        "notes": dict(document.notes),
        "labels": document.labels,
        **{
            use: asdict(group) if isinstance(group, Rest) else group
            for use, group in document.uses.items()
        },
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
            uses={use: _group(use, content[use]) for use in USES},
        )
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: expected a split saved by leaf: {error}") from error


def contents_of(rows: Rows, table: FaceTable, hashes: NDArray[np.uint8]) -> dict[str, str]:
    """Name -> content in hexadecimal digits, sorted by name."""
    ordered = table.by_name(rows).tolist()
    return {table.names[row]: hashes[row].tobytes().hex() for row in ordered}


def rows_of(
    document: Document,
    table: FaceTable,
    hashes: NDArray[np.uint8],
    file: Path,
    uses: Collection[str] = USES,
) -> dict[str, Rows]:
    """Rows of groups of a saved split, ascending; also of those that describe the ones asked for.

    Raises:
        UserError: an image is not in the table, or its content is another.
    """
    short = {use: group for use, group in document.uses.items() if isinstance(group, Rest)}
    needed = {*uses, *(name for use in uses if use in short for name in short[use].but)}
    listed = {
        use: group
        for use, group in document.uses.items()
        if use in needed and not isinstance(group, Rest)
    }
    contents = [pair for group in listed.values() for pair in group.items()]
    ends = np.cumsum([len(group) for group in listed.values()])
    parts = np.split(_match(contents, table, hashes, file), ends[:-1])
    found = {use: np.sort(rows) for use, rows in zip(listed, parts, strict=True)}
    for use, rest in short.items():
        if use in needed:
            left_out = [found[name] for name in rest.but]
            found[use] = restore(rest, use, left_out, table, hashes, file)
    return found


def _match(
    contents: Sequence[tuple[str, str]], table: FaceTable, hashes: NDArray[np.uint8], file: Path
) -> Rows:
    """Rows of saved images, names and contents, in their order.

    Raises:
        UserError: an image is not in the table, or its content is another.
    """
    rows = find([name for name, _ in contents], table, file)
    try:
        saved = np.frombuffer(bytes.fromhex("".join(text for _, text in contents)), dtype=np.uint8)
        differs = np.any(saved.reshape(len(rows), hashes.shape[1]) != hashes[rows], axis=1)
    except ValueError as error:
        raise UserError(f"{file}: expected {2 * hashes.shape[1]} digits per image") from error
    if differs.any():
        name = table.names[rows[differs.argmax()]]
        raise UserError(
            f"{file}: the content of {name} has changed{_more(int(differs.sum()), 'and of')}"
        )
    return rows


def find(names: Collection[str], table: FaceTable, file: Path) -> Rows:
    """Rows of names, in their order.

    Raises:
        UserError: a name is not in the table.
    """
    wanted = set(names)
    position = {name: row for row, name in enumerate(table.names) if name in wanted}
    missing = [name for name in names if name not in position]
    if missing:
        raise UserError(f"{file}: {missing[0]} is not in the data{_more(len(missing), 'nor')}")
    return np.array([position[name] for name in names], dtype=np.int64)


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
        rows = rows_of(document, table, hashes, file, ["labeled"])["labeled"]
        return rows, labels_of(document, rows, table, file)
    labels = _listed(file)
    rows = np.sort(find(labels, table, file))
    return rows, _classes(rows, labels, table, file)


def labels_of(document: Document, rows: Rows, table: FaceTable, file: Path) -> Rows:
    """(L,) classes in [0, C) of the labeled images of a saved split, whose rows are known.

    Raises:
        UserError: an image has no label or is no training image; a label is no class of the table.
    """
    group = document.uses["labeled"]
    if isinstance(group, Rest):
        return table.targets[rows]
    if set(document.labels) != set(group):
        raise UserError(f"{file}: expected a label for every labeled image, and no other")
    labels = {name: (f"{file}: {name}", label) for name, label in document.labels.items()}
    return _classes(rows, labels, table, file)


def _classes(
    rows: Rows, labels: Mapping[str, tuple[str, str]], table: FaceTable, file: Path
) -> Rows:
    """(L,) classes of training images, given the place and the label of each name."""
    other = np.flatnonzero(table.parts[rows] != PARTS.index("train"))
    if other.size:
        row = rows[other[0]]
        part = PARTS[table.parts[row]]
        raise UserError(f"{file}: {table.names[row]} is a {part} image: expected training images")
    targets = [_class(*labels[table.names[row]], table.classes) for row in rows]
    return np.array(targets, dtype=np.int64)


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


def _group(use: str, content: object) -> dict[str, str] | Rest:
    """A group of a saved split.

    Raises:
        KeyError, TypeError, ValueError: anything else.
    """
    if isinstance(content, dict) and isinstance(content.get("but"), list):
        but = tuple(name for name in LEFT_OUT.get(use, ()) if name in content["but"])
        return Rest(but, int(content["count"]), str(content["digest"]))
    return _texts(content)


def _texts(content: object) -> dict[str, str]:
    """A mapping of texts.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise TypeError("expected texts by name")
    return content
