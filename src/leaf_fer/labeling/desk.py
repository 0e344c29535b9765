"""One face after the other, for everybody who labels a folder at the same time."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leaf_fer.data.decode import decode
from leaf_fer.data.table import UNKNOWN
from leaf_fer.errors import UserError
from leaf_fer.labeling.faces import Faces
from leaf_fer.labeling.journal import Answer, Journal

AHEAD = 2
"""Faces that a tab has: the one that is shown, and the next one."""

RECENT = 20
"""Answers whose faces the next one should not resemble."""

LARGEST = 1024
"""Longer side of the pictures that are shown, in pixels."""

Rows = NDArray[np.int64]


class Order(Protocol):
    """What chooses the next face; see :mod:`leaf_fer.labeling.order`."""

    def next(self, free: NDArray[np.bool_], rows: Rows, targets: Rows, seen: Rows) -> int | None:
        """The row of the face to show, or None if no face is free."""


class Desk:
    """Faces, what was said about them, and which comes next. Threads may share it.

    Args:
        faces: those of a folder.
        journal: of the same folder.
        order: chooses among rows of ``faces.table``.
        valid: (N,) whether an image can be read; others are not shown.
        goal: labels per class that are wanted.
    """

    def __init__(
        self,
        faces: Faces,
        journal: Journal,
        order: Order,
        valid: NDArray[np.bool_],
        goal: int,
    ) -> None:
        self.faces, self.journal, self.goal = faces, journal, goal
        self._order = order
        self._choosing = threading.Lock()
        asked = faces.rows[valid[faces.rows]].tolist()
        numbers = journal.numbers([faces.table.names[row] for row in asked])
        self._rows = {numbers[faces.table.names[row]]: row for row in asked}
        self._numbers = {row: number for number, row in self._rows.items()}
        self._asked = np.zeros(len(faces.table), dtype=np.bool_)
        self._asked[asked] = True
        self._given = faces.table.rows("train")
        self._given = self._given[(faces.targets[self._given] != UNKNOWN) & valid[self._given]]

    def offer(self, tab: str, want: Sequence[int] = (), *, again: bool = False) -> dict[str, Any]:
        """The faces that a tab has next, and how far all is.

        Args:
            tab: who asks.
            want: numbers of faces that it would like to keep, the one that is shown first.
            again: whether to show skipped faces again when no other is left.
        """
        with self._choosing:
            answers = self._answers()
            kept = [f for f in want if f in self._rows and _is_open(answers.get(f), again)]
            known = {face: _event(answers, face) for face in kept[:AHEAD]}
            mine = self.journal.hold(tab, known)
            while len(mine) < AHEAD:
                face = self._next(answers, again)
                if face is None:
                    break
                known = {**{one: known[one] for one in mine}, face: _event(answers, face)}
                mine = self.journal.hold(tab, known)
                answers = self._answers()
        shown = [{"face": face, "over": known[face]} for face in mine]
        return {"faces": shown, "progress": self.progress(tab)}

    def answer(
        self, tab: str, face: int, kind: str, choice: int | None, over: int
    ) -> dict[str, Any]:
        """Write down what a tab says about a face; it is on disk when this returns.

        Args:
            tab: who says it.
            face: its number.
            kind: ``label``, ``skip`` or ``reject``.
            choice: the class, of a label.
            over: the answer that the tab knows of; 0 for none.

        Raises:
            Conflict: another tab has the face or was faster.
            UserError: there is no such face or class.
        """
        if face not in self._rows or (kind == "label") != (choice is not None):
            raise UserError(f"no such face or answer: {face}, {kind}")
        if choice is not None and not 0 <= choice < len(self.faces.classes):
            raise UserError(f"no such class: {choice}")
        label = None if choice is None else self.faces.classes[choice]
        self.journal.answer(tab, face, kind, label, over=over)
        return {"progress": self.progress(tab)}

    def undo(self, tab: str) -> dict[str, Any]:
        """Undo the last answer of a tab, or of closed ones; the face is the tab's again."""
        undone = self.journal.undo(tab)
        what, shown = None, None
        if undone is not None:
            what = undone.label or undone.kind
            if undone.face in self._rows:  # its file may be gone
                shown = {"face": undone.face, "over": _event(self._answers(), undone.face)}
        return {"undone": what, "face": shown, "progress": self.progress(tab)}

    def progress(self, tab: str) -> dict[str, Any]:
        """Counts by class and kind, and whether there is something to undo."""
        answers = self._answers()
        kinds = Counter(answer.kind for answer in answers.values())
        labels = Counter(answer.label for answer in answers.values())
        given = np.bincount(self.faces.targets[self._given], minlength=len(self.faces.classes))
        return {
            "counts": [
                labels[name] + int(n) for name, n in zip(self.faces.classes, given, strict=True)
            ],
            "labeled": kinds["label"] + len(self._given),
            "skipped": kinds["skip"],
            "rejected": kinds["reject"],
            "left": len(self._rows) - len(answers),
            "undo": self.journal.last(tab) is not None,
        }

    def picture(self, face: int) -> bytes:
        """A face as a JPEG file; small ones keep every pixel, as PNG.

        Raises:
            KeyError: there is no such face.
            UnreadableImage: its file has changed, and cannot be read any more.
        """
        root, name = self.faces.table.root, self.faces.table.names[self._rows[face]]
        assert root is not None
        image = Image.fromarray(decode(root / name))
        small = max(image.size) <= LARGEST // 8
        image.thumbnail((LARGEST, LARGEST))
        content = io.BytesIO()
        image.save(content, "PNG" if small else "JPEG", **({} if small else {"quality": 90}))
        return content.getvalue()

    def _answers(self) -> dict[int, Answer]:
        """What holds of the faces that are here."""
        return {f: answer for f, answer in self.journal.answers().items() if f in self._rows}

    def _next(self, answers: Mapping[int, Answer], again: bool) -> int | None:
        """The number of a face that no tab has."""
        held = self.journal.held()
        free = self._asked.copy()
        free[[self._rows[face] for face in [*answers, *held] if face in self._rows]] = False
        labels = [answer for answer in answers.values() if answer.kind == "label"]
        classes = {name: number for number, name in enumerate(self.faces.classes)}
        rows = [self._rows[answer.face] for answer in labels]
        targets = [classes[answer.label or ""] for answer in labels]
        near = [face for face in [*list(answers)[-RECENT:], *held] if face in self._rows]
        row = self._order.next(
            free,
            np.array([*self._given, *rows], dtype=np.int64),
            np.array([*self.faces.targets[self._given], *targets], dtype=np.int64),
            np.array([self._rows[face] for face in near], dtype=np.int64),
        )
        if row is not None:
            return self._numbers[row]
        skipped = (f for f, answer in answers.items() if _is_open(answer, again) and f not in held)
        return next(skipped, None)


def _event(answers: Mapping[int, Answer], face: int) -> int:
    """The answer that is known of a face; 0 for none."""
    return answers[face].event if face in answers else 0


def _is_open(answer: Answer | None, again: bool) -> bool:
    """Whether a face may be asked about."""
    return answer is None or (again and answer.kind == "skip")
