"""Faces listed in a table: CSV in UTF-8 with a header, or Parquet with the same columns.

::

    path,label,split
    faces/0001.jpg,happy,train
    faces/0002.jpg,,                 an empty label: an unlabeled image; an empty split: train
    /data/other/0003.jpg,sad,test

Relative paths start at the folder of the table. The column split may be missing; its values are
train, val (valid, validation) and test. Labels are names; numbers are taken as names, too.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from leaf_fer.data.layout import wrong_layout
from leaf_fer.data.names import arrange
from leaf_fer.data.table import PARTS, UNKNOWN, FaceTable
from leaf_fer.errors import UserError

PART_NAMES = {
    "": "train",
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""What people call the parts."""

PARQUET = (".parquet", ".pq")
"""Endings of Parquet files; every other table is CSV."""

Columns = Sequence[tuple[str, ...]]


def read(file: Path) -> FaceTable:
    """Read a table of faces; no image is opened.

    Args:
        file: the table; a name that ends in one of :data:`PARQUET` is Parquet.

    Raises:
        UserError: no such file, a missing column, an unknown split, a path that is empty or listed
            twice.
    """
    if not file.is_file():
        raise wrong_layout("csv", file, "a table of faces", __doc__)
    root = file.parent
    places: dict[str, str] = {}
    labels: list[str] = []
    parts: list[int] = []
    for place, (path, label, split) in records(file, [("path", "name"), ("label",)], ["split"]):
        name = _name(path, root, place)
        if name in places:
            raise UserError(f"{place}: {path} is listed twice, first in {places[name]}")
        part = PART_NAMES.get(split.lower())
        if part is None:
            raise UserError(f"{place}: split {split!r}: expected train, val, test or nothing")
        places[name] = place
        labels.append(label)
        parts.append(PARTS.index(part))
    if not places:
        raise UserError(f"csv:{file}: expected at least one face, found only a header")
    classes, number = arrange(label for label in labels if label)
    targets = [number[label] if label else UNKNOWN for label in labels]
    return FaceTable(
        classes=classes,
        names=list(places),
        targets=np.array(targets, dtype=np.int64),
        parts=np.array(parts, dtype=np.uint8),
        root=root,
    )


def records(
    file: Path, required: Columns, optional: Sequence[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """The wanted columns of a table, row by row, as text.

    Args:
        file: CSV or Parquet.
        required: one tuple per column with the names that it may have, in any case.
        optional: names of columns that may be missing, and then are empty.

    Yields:
        Where the row is, for error messages, and its cells without outer blanks: required columns
        first.

    Raises:
        UserError: not a readable table, or not its columns.
    """
    parquet = file.suffix.lower() in PARQUET
    rows = _parquet(file, [*sum(required, ()), *optional]) if parquet else lines(file)
    place, header = next(rows, (f"{file}", []))
    position = {name.strip().lower(): index for index, name in enumerate(header)}
    columns = [next((position[n] for n in names if n in position), None) for names in required]
    if None in columns:
        wanted = ",".join(names[0] for names in required) + "".join(f"[,{n}]" for n in optional)
        raise UserError(f"{place}: expected the columns {wanted}, got {','.join(header)!r}")
    columns += [position.get(name) for name in optional]
    for place, row in rows:
        if len(row) != len(header):
            raise UserError(f"{place}: expected {len(header)} cells, got {len(row)}")
        yield place, ["" if index is None else row[index].strip() for index in columns]


def lines(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows of a CSV file that are not blank, the header included.

    Yields:
        ``FILE, line N`` for error messages, and the cells.

    Raises:
        UserError: the file is missing, is not UTF-8, or breaks the rules of CSV.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, skipinitialspace=True, strict=True)
            try:
                for row in reader:
                    if any(cell.strip() for cell in row):
                        yield f"{file}, line {reader.line_num}", row
            except csv.Error as error:
                raise UserError(f"{file}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: expected a table in UTF-8: {error.reason}") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def _parquet(file: Path, wanted: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Header and rows of the wanted columns of a Parquet file, as text."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        advice = "reading Parquet needs pyarrow: pip install leaf-fer[parquet]"
        raise UserError(f"{file}: {advice}") from error
    try:
        source = parquet.ParquetFile(file)
        header = [name for name in source.schema_arrow.names if name.strip().lower() in wanted]
        yield f"{file}", header
        columns = source.read(columns=header).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file}: expected a Parquet file: {error}".splitlines()[0]) from error
    for number, row in enumerate(zip(*columns.values(), strict=True), start=1):
        yield f"{file}, row {number}", [_text(value) for value in row]


def _text(value: object) -> str:
    """A cell of Parquet as CSV would write it; numbers of a column with gaps lose their '.0'."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _name(path: str, root: Path, place: str) -> str:
    """The path relative to ``root``; it stays absolute where the file is elsewhere."""
    if not path:
        raise UserError(f"{place}: the path is empty")
    name = os.path.normpath(path)
    top = os.path.normpath(root.absolute()) + os.sep
    return name.removeprefix(top).replace(os.sep, "/")
