"""What people said about faces: a journal in SQLite that only grows.

An answer is a row that is never changed; undoing it is another row. What holds for a face is its
last answer that is not undone. A row is on disk before anybody is told that it is: killing the
program or cutting the power loses nothing that was confirmed. Any number of processes may write.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaf_fer.errors import UserError

APPLICATION, VERSION = 0x1EAFFE12, 1
"""What SQLite files of this kind say about themselves."""

ALIVE_SECONDS = 150.0
"""A tab that has not been heard of for so long is closed; open ones speak every 30 seconds."""

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


@dataclass(frozen=True)
class Answer:
    """What was said about a face.

    Attributes:
        event: number of the row; later answers have higher ones.
        face: number of the face.
        kind: ``label``, ``skip``, or ``reject`` for what is not a face.
        label: the class, of a label.
        tab: who said it.
    """

    event: int
    face: int
    kind: str
    label: str | None
    tab: str


def begun(file: Path) -> list[str] | None:
    """The classes that a journal was begun with; None if there is none that can be read."""
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(file)) as base:
            row = base.execute("SELECT value FROM facts WHERE name = 'classes'").fetchone()
        return None if row is None else [str(name) for name in json.loads(row[0])]
    except (sqlite3.Error, ValueError):  # whatever it is, Journal says what is wrong
        return None


class Conflict(Exception):  # noqa: N818 (somebody else was faster, which is no error)
    """A face that another tab has, or has answered meanwhile."""


class Journal:
    """The journal of a folder of faces; made where there is none. Threads may share it.

    Args:
        file: the database.
        classes: what a face may be; the same as when it was made.

    Raises:
        UserError: not such a database, a damaged one, one for other classes, or one that cannot
            be written.
    """

    def __init__(self, file: Path, classes: Sequence[str]) -> None:
        self.file = file
        self._lock = threading.RLock()
        self._stacks: dict[int, list[Answer]] = {}
        self._last = 0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(
                file, timeout=30, isolation_level=None, check_same_thread=False
            )
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--database {file}: cannot be used: {reason}") from None
        try:
            self._open(classes)
        except (sqlite3.Error, UserError) as error:
            self.close()
            ours = error if isinstance(error, UserError) else None
            raise ours or UserError(f"--database {file}: cannot be used: {error}") from None

    def _open(self, classes: Sequence[str]) -> None:
        """Make the tables, or check that they are ours; nothing is written to those of others."""
        base, file = self._base, self.file
        application, version, tables = (
            base.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "schema_version")
        )
        if tables and application != APPLICATION:
            raise UserError(f"--database {file}: is a database of another program")
        if version > VERSION:
            raise UserError(f"--database {file}: was written by a newer version of leaf-fer")
        found = base.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise UserError(f"--database {file}: damaged: {' '.join(str(found).split())}")
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")  # on disk when a transaction ends, not later
        with self._transaction():
            for statement in SCHEMA:
                base.execute(statement)
            said = json.dumps(list(classes), ensure_ascii=False)
            base.execute("INSERT OR IGNORE INTO facts VALUES ('classes', ?)", (said,))
        first = json.loads(self.fact("classes") or "[]")
        if first != list(classes):
            raise UserError(
                f"--classes {', '.join(classes)}: {file} was begun with {', '.join(first)}; "
                "labels of other classes need another --database"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing of what is written, after what others have written; waits for them."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._read()
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
            self._read()

    def _read(self) -> None:
        """Take in what is new; of a database without tables nothing."""
        if not self._base.execute("PRAGMA schema_version").fetchone()[0]:
            return
        rows = self._base.execute(
            "SELECT id, face, kind, label, tab, undoes FROM events WHERE id > ? ORDER BY id",
            (self._last,),
        ).fetchall()
        for event, face, kind, label, tab, undoes in rows:
            stack = self._stacks.setdefault(face, [])
            if kind == "undo":
                stack[:] = [answer for answer in stack if answer.event != undoes]
            else:
                stack.append(Answer(event, face, kind, label, tab))
            self._last = event

    def fact(self, name: str) -> str | None:
        """Something that was noted down."""
        with self._lock:
            row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note something down, over what was there."""
        with self._transaction():
            self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def numbers(self, names: Sequence[str]) -> dict[str, int]:
        """Numbers of faces by name; a face keeps its number for good."""
        with self._transaction():
            given = [(name,) for name in names]
            self._base.executemany("INSERT OR IGNORE INTO faces (name) VALUES (?)", given)
            known = dict(self._base.execute("SELECT name, id FROM faces"))
        return {name: known[name] for name in names}

    def answers(self) -> dict[int, Answer]:
        """What holds, by face, in the order in which it was said."""
        with self._lock:
            self._read()
            tops = [stack[-1] for stack in self._stacks.values() if stack]
        return {answer.face: answer for answer in sorted(tops, key=lambda one: one.event)}

    def held(self) -> dict[int, str]:
        """Faces that open tabs have, each with its tab."""
        with self._lock:
            alive = time.time() - ALIVE_SECONDS
            query = "SELECT face, tab FROM held JOIN tabs USING (tab) WHERE seen >= ?"
            return dict(self._base.execute(query, (alive,)))

    def hold(self, tab: str, faces: Mapping[int, int]) -> list[int]:
        """Have a tab hold these faces and no others.

        Args:
            tab: who wants them.
            faces: numbers of faces, each with the answer that is known to be there; 0 for none.

        Returns:
            Those that no other tab holds and that nobody has answered meanwhile, in their order.
        """
        with self._transaction():
            self._bury()
            now = {"tab": tab, "now": time.time()}
            self._base.execute("INSERT OR REPLACE INTO tabs VALUES (:tab, :now)", now)
            self._base.execute("DELETE FROM held WHERE tab = ?", (tab,))
            self._take(tab, [face for face, over in faces.items() if self._top(face) == over])
            mine = {face for face, owner in self.held().items() if owner == tab}
        return [face for face in faces if face in mine]

    def _top(self, face: int) -> int:
        """The event of the answer that holds; 0 if there is none."""
        stack = self._stacks.get(face)
        return stack[-1].event if stack else 0

    def _take(self, tab: str, faces: Sequence[int]) -> None:
        pairs = [(face, tab) for face in faces]
        self._base.executemany("INSERT OR IGNORE INTO held VALUES (?, ?)", pairs)

    def _bury(self) -> None:
        """Forget tabs that are closed, and let go of what they held."""
        self._base.execute("DELETE FROM tabs WHERE seen < ?", (time.time() - ALIVE_SECONDS,))
        self._base.execute("DELETE FROM held WHERE tab NOT IN (SELECT tab FROM tabs)")

    def leave(self, tab: str) -> None:
        """A tab is closed."""
        with self._transaction():
            self._base.execute("DELETE FROM tabs WHERE tab = ?", (tab,))
            self._bury()

    def answer(
        self, tab: str, face: int, kind: str, label: str | None = None, *, over: int = 0
    ) -> Answer:
        """Write down an answer; it is on disk when this returns.

        Args:
            tab: who says it.
            face: number of the face.
            kind: see :class:`Answer`.
            label: the class, of a label.
            over: the answer (its event) that is known to be there; 0 for none.

        Raises:
            Conflict: another tab holds the face, or there is another answer than ``over``.
        """
        with self._transaction():
            if self._top(face) != over or self.held().get(face, tab) != tab:
                raise Conflict(face)
            written = self._base.execute(
                "INSERT INTO events (tab, face, kind, label) VALUES (?, ?, ?, ?)",
                (tab, face, kind, label),
            )
            self._base.execute("DELETE FROM held WHERE face = ?", (face,))
        return Answer(written.lastrowid or 0, face, kind, label, tab)

    def undo(self, tab: str) -> Answer | None:
        """Undo the last answer of a tab, or of tabs that are closed; the tab then holds the face.

        Returns:
            What was undone; None if there is nothing.
        """
        with self._transaction():
            self._bury()
            undone = self.last(tab)
            if undone is None:
                return None
            self._base.execute(
                "INSERT INTO events (tab, face, kind, undoes) VALUES (?, ?, 'undo', ?)",
                (tab, undone.face, undone.event),
            )
            self._take(tab, [undone.face])
        return undone

    def last(self, tab: str) -> Answer | None:
        """What :meth:`undo` would undo."""
        with self._lock:
            alive = time.time() - ALIVE_SECONDS
            query = "SELECT tab FROM tabs WHERE seen >= ? AND tab <> ?"
            others = {row[0] for row in self._base.execute(query, (alive, tab))}
            own = [answer for answer in self.answers().values() if answer.tab not in others]
        return own[-1] if own else None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()
