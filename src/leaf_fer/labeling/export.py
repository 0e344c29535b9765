"""Labels as the tables that ``leaf train`` takes.

A list of labels, for ``leaf train FOLDER --labels FILE.csv``, names labeled faces alone: every
other image of the folder is an unlabeled one, and nothing in such a list can leave an image out.
A table of faces, for ``leaf train FILE.csv``, names all images to train on: unlabeled ones with an
empty label, and those that are not a face not at all.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from leaf_fer.data.table import PARTS, UNKNOWN
from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically
from leaf_fer.labeling.faces import Faces
from leaf_fer.labeling.journal import Answer, Journal

Said = Mapping[str, Answer]
"""What holds, by the name of the face."""


def list_of_labels(faces: Faces, said: Said) -> tuple[str, int]:
    """CSV of ``path,label``, paths relative to the folder, and how many labels it has.

    Raises:
        UserError: no face has a label.
    """
    named = ((faces.table.names[row], _label(faces, said, row)) for row in _training(faces))
    rows = [(name, label) for name, label in named if label]
    return _csv(("path", "label"), rows), _counted(label for _, label in rows)


def table_of_faces(faces: Faces, said: Said, file: Path) -> tuple[str, int]:
    """CSV of ``path,label,split`` with all faces, and how many of them have a label.

    Args:
        faces: the faces.
        said: what holds.
        file: where the table will be; paths are relative to its folder.

    Raises:
        UserError: no face has a label.
    """
    start = os.path.relpath(faces.table.root or Path(), file.parent)
    rows = []
    for row, name in enumerate(faces.table.names):
        if name not in said or said[name].kind != "reject":
            path = os.path.normpath(f"{start}/{name}").replace(os.sep, "/")
            rows.append((path, _label(faces, said, row), PARTS[faces.table.parts[row]]))
    counted = _counted(label for _, label, part in rows if part == "train")
    return _csv(("path", "label", "split"), rows), counted


def replace_own(file: Path, text: str, journal: Journal) -> None:
    """Write a file, but not over one that is not as this function left it.

    Raises:
        UserError: it is not, or it cannot be written.
    """
    if file.exists() and _digest(file.read_bytes()) != journal.fact(file.name):
        raise UserError(
            f"{file} is there and holds something else: rename it, or choose another name with "
            "leaf label --export"
        )
    write_atomically(file, text.encode())
    journal.note(file.name, _digest(text.encode()))


def _training(faces: Faces) -> list[int]:
    rows: list[int] = faces.table.rows("train").tolist()
    return rows


def _label(faces: Faces, said: Said, row: int) -> str:
    """The class of a face, by answer or by folder, or nothing."""
    answer = said.get(faces.table.names[row])
    if answer is not None:
        return answer.label or ""
    target = int(faces.targets[row])
    return "" if target == UNKNOWN else faces.classes[target]


def _counted(labels: Iterable[str]) -> int:
    found = sum(bool(label) for label in labels)
    if not found:
        raise UserError("--export: no face has a label yet")
    return found


def _csv(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
