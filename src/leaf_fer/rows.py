"""Rows that are written as they come, for people or for programs; memory stays flat."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from leaf_fer.errors import UserError

ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
STYLES = ("table", "json", "jsonl", "csv", "parquet")
GROUP = 1024  # rows of a group in Parquet


class Row(Protocol):
    """What is written."""

    def text(self) -> str:
        """One line for people."""
        ...

    def nested(self) -> dict[str, Any]:
        """Ready for JSON."""
        ...

    def flat(self) -> Sequence[Any]:
        """A cell for every column; None where there is nothing."""
        ...


def style_of(asked: str | None, out: Path | None) -> str:
    """How rows are to be written: as asked for, else by the name of the file, else for people.

    Raises:
        UserError: the name does not tell, or Parquet is to be printed.
    """
    if asked is None and out is not None:
        asked = ENDINGS.get(out.suffix.lower())
        if asked is None:
            known = ", ".join(ENDINGS)
            raise UserError(f"--out {out}: expected a name that ends in {known}, or --format")
    if asked == "parquet" and out is None:
        raise UserError("--format parquet: expected --out FILE.parquet as well")
    return asked or "table"


class Rows:
    """Rows on standard output, or in a file that is whole or not there.

    ::

        with Rows("csv", {"path": str, "score": float}, Path("faces.csv")) as rows:
            rows.add(row)

    Args:
        style: one of :data:`STYLES`; ``json`` is one list, ``jsonl`` one object a line.
        columns: name and type (str, int or float) of the cells of a flat row.
        out: the file; None prints.

    Raises:
        UserError: the file cannot be written; pyarrow is not installed.
    """

    def __init__(self, style: str, columns: Mapping[str, type], out: Path | None = None) -> None:
        self._style = style
        self._columns = columns
        self._out = out
        self._part = out and out.with_name(f".{out.name}.{os.getpid()}.part")
        self._count = 0
        self._waiting: list[Sequence[Any]] = []
        self._stack = ExitStack()
        self._text: TextIO = sys.stdout
        self._parquet: Any = None

    def __enter__(self) -> Rows:
        try:
            if self._style == "parquet":
                self._open_parquet()
            elif self._part is not None:
                opened = self._part.open(
                    "w", encoding="utf-8", errors="surrogateescape", newline=""
                )
                self._text = self._stack.enter_context(opened)
        except OSError as error:
            raise self._complaint(error) from None
        if self._style == "json":
            self._text.write("[")
        if self._style == "csv":
            csv.writer(self._text).writerow(self._columns)
        return self

    def add(self, row: Row) -> None:
        """Write a row.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            self._add(row)
        except OSError as error:
            if self._out is None:
                raise
            raise self._complaint(error) from None
        self._count += 1

    def _add(self, row: Row) -> None:
        match self._style:
            case "table":
                print(row.text(), file=self._text)
            case "json":
                comma = "," if self._count else ""
                self._text.write(f"{comma}\n  {json.dumps(row.nested())}")
            case "jsonl":
                print(json.dumps(row.nested()), file=self._text)
            case "csv":
                csv.writer(self._text).writerow(row.flat())
            case "parquet":
                self._waiting.append(row.flat())
                if len(self._waiting) == GROUP:
                    self._write_group()

    def flush(self) -> None:
        """Show what has been printed at once."""
        if self._out is None:
            self._text.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._style == "json" and kind is None:
                self._text.write("\n]\n")
            if self._waiting and kind is None:
                self._write_group()
            self._stack.close()
            if self._part is not None and self._out is not None and kind is None:
                self._part.replace(self._out)
        except OSError as failure:
            if self._out is None:
                raise
            if kind is None:  # else there is an error already
                raise self._complaint(failure) from None
        finally:
            if self._part is not None:
                with suppress(OSError):
                    self._part.unlink(missing_ok=True)

    def _open_parquet(self) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            needed = "needs pyarrow: pip install 'leaf-fer[parquet]'"
            raise UserError(f"--format parquet: {needed}") from None
        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(name, kinds[kind]) for name, kind in self._columns.items()])
        self._parquet = self._stack.enter_context(parquet.ParquetWriter(str(self._part), schema))

    def _write_group(self) -> None:
        import pyarrow

        columns = zip(*self._waiting, strict=True)
        schema = self._parquet.schema
        arrays = [pyarrow.array(c, kind) for c, kind in zip(columns, schema.types, strict=True)]
        self._parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        self._waiting.clear()

    def _complaint(self, error: OSError) -> UserError:
        return UserError(f"{self._out}: cannot be written: {error.strerror or error}")
