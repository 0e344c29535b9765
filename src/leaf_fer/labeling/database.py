"""The file behind a journal: its tables, and whether it is one."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from leaf_fer.errors import UserError

APPLICATION, VERSION = 0x1EAFFE12, 1
"""What SQLite files of this kind say about themselves."""

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS faces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        tab TEXT NOT NULL,
        face INTEGER NOT NULL REFERENCES faces,
        kind TEXT NOT NULL CHECK (kind IN ('label', 'skip', 'reject', 'undo')),
        label TEXT CHECK ((label IS NULL) = (kind <> 'label')),
        undoes INTEGER UNIQUE REFERENCES events CHECK ((undoes IS NULL) = (kind <> 'undo')))""",
    "CREATE TABLE IF NOT EXISTS tabs (tab TEXT PRIMARY KEY, seen REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS held (face INTEGER PRIMARY KEY REFERENCES faces, tab TEXT)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


def begun(file: Path) -> list[str] | None:
    """The classes that a journal was begun with; None if there is none that can be read."""
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(file)) as base:
            return _classes(base)
    except (sqlite3.Error, ValueError):  # whatever it is, open_database says what is wrong
        return None


def open_database(file: Path, classes: Sequence[str]) -> sqlite3.Connection:
    """Open the database of a journal; it is made where there is none.

    Args:
        file: the database.
        classes: what a face may be; the same as when it was made.

    Raises:
        UserError: not such a database, a damaged one, one for other classes, or one that cannot
            be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
    except (sqlite3.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--database {file}: cannot be used: {reason}") from None
    try:
        _check(base, file)
        _make(base, classes)
        first = _classes(base) or []
        if first != list(classes):
            raise UserError(
                f"--classes {', '.join(classes)}: {file} was begun with {', '.join(first)}; "
                "labels of other classes need another --database"
            )
    except (sqlite3.Error, UserError) as error:
        base.close()
        ours = error if isinstance(error, UserError) else None
        raise ours or UserError(f"--database {file}: cannot be used: {error}") from None
    return base


def _check(base: sqlite3.Connection, file: Path) -> None:
    """Refuse what is not ours or not whole; nothing is written."""
    tables, application, version = (  # in this order: another process may be making it now
        base.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("schema_version", "application_id", "user_version")
    )
    if tables and application != APPLICATION:
        raise UserError(f"--database {file}: is a database of another program")
    if version > VERSION:
        raise UserError(f"--database {file}: was written by a newer version of leaf-fer")
    found = base.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise UserError(f"--database {file}: damaged: {' '.join(str(found).split())}")


def _make(base: sqlite3.Connection, classes: Sequence[str]) -> None:
    """Make what is not there yet."""
    _log_ahead(base)
    base.execute("PRAGMA synchronous = FULL")  # on disk when a transaction ends, not later
    base.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        base.execute(statement)
    said = json.dumps(list(classes), ensure_ascii=False)
    base.execute("INSERT OR IGNORE INTO facts VALUES ('classes', ?)", (said,))
    base.execute("COMMIT")


def _log_ahead(base: sqlite3.Connection) -> None:
    """Have SQLite write ahead; unlike all else, that does not wait for others by itself."""
    for left in reversed(range(100)):
        try:
            base.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(0.1)
        else:
            return


def _classes(base: sqlite3.Connection) -> list[str] | None:
    row = base.execute("SELECT value FROM facts WHERE name = 'classes'").fetchone()
    return None if row is None else [str(name) for name in json.loads(row[0])]
