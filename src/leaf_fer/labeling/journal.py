"""What people said about faces: a journal in SQLite that only grows.

An answer is a row that is never changed; undoing it is another row. What holds for a face is its
last answer that is not undone. A row is on disk before anybody is told that it is: killing the
program or cutting the power loses nothing that was confirmed. Any number of processes may write.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaf_fer.labeling.database import open_database

ALIVE_SECONDS = 150.0
"""A tab that has not been heard of for so long is closed; open ones speak every 30 seconds."""


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
        self._base = open_database(file, classes)

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
        """Take in what is new."""
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
