"""AffectNet, the manually annotated images (Mollahosseini et al., 2017, arXiv:1708.03985).

The original layout::

    PATH/
        Manually_Annotated_file_lists/training.csv      a row per photo, with box and 68 landmarks
        Manually_Annotated_file_lists/validation.csv    the same; some copies have no header
        Manually_Annotated_Images/689/737db248.jpg      photos, named as in the lists

The later layout::

    PATH/
        train_set/images/0.jpg                          224x224 faces
        train_set/annotations/0_exp.npy                 one label, a number or a text
        val_set/images/, val_set/annotations/           the same

The official test set is not public, so the official validation set is the part ``test``, as in
the literature. Labels 8 to 10 (none, uncertain, no face) are left out, and so is contempt where
seven classes are asked for. An image of the later layout without a label file is unlabeled.
"""

from __future__ import annotations

import io
import math
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leaf_fer.data.alignment import five_points
from leaf_fer.data.layout import require_images, wrong_layout
from leaf_fer.data.table import EXPRESSIONS, PARTS, UNKNOWN, FaceTable
from leaf_fer.data.tabular import lines
from leaf_fer.errors import UserError

LABELS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
"""The expressions of labels 0 to 7."""

OTHERS = (8, 9, 10)
"""Labels without an expression: none, uncertain, no face."""

COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
)
"""The columns that are read, in the order of a list without a header."""

_LISTS, _PHOTOS = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
_MARKS = 68
_FIRST, _LAST = 30, 54  # the landmarks that five_points reads; numbers take most of the time


def read(folder: Path, classes: Sequence[str] = EXPRESSIONS) -> FaceTable:
    """Read the labels of AffectNet; no image is opened.

    Args:
        folder: the folder of either layout.
        classes: canonical names of the expressions to keep, in canonical order.

    Raises:
        UserError: another layout, a row without box and landmarks, or a label file that holds
            anything but one label.
    """
    if (folder / _LISTS).is_dir():
        return _read_lists(folder, tuple(classes))
    if (folder / "train_set").is_dir():
        return _read_sets(folder, tuple(classes))
    kind = f"affectnet{len(classes)}"
    raise wrong_layout(kind, folder, f"{_LISTS} or train_set", __doc__)


def _read_lists(folder: Path, classes: tuple[str, ...]) -> FaceTable:
    """Read the original layout. The first of several rows of a photo counts."""
    kind = f"affectnet{len(classes)}"
    rows: dict[str, tuple[int, int]] = {}
    boxes, marks = array("f"), array("f")
    for part, list_name in (("train", "training.csv"), ("test", "validation.csv")):
        if not (folder / _LISTS / list_name).is_file():
            raise wrong_layout(kind, folder / _LISTS, list_name, __doc__)
        columns = list(range(len(COLUMNS)))
        for place, row in lines(folder / _LISTS / list_name):
            if COLUMNS[0] in row:
                columns = _columns(row, place)
                continue
            cells = _cells(row, columns, place)
            target = _target(cells[-1], classes, place)
            name = f"{_PHOTOS}/{cells[0]}"
            if target is None or name in rows:
                continue
            rows[name] = PARTS.index(part), target
            _append_face(boxes, marks, cells, place)
    require_images(kind, folder, rows, _LISTS, __doc__)
    edges = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    edges[:, 2:] += edges[:, :2]
    landmarks = np.zeros((len(rows), _MARKS, 2), dtype=np.float32)
    landmarks[:, _FIRST : _LAST + 1] = np.frombuffer(marks, np.float32).reshape(len(rows), -1, 2)
    return FaceTable(
        classes=classes,
        names=list(rows),
        targets=np.array([target for _, target in rows.values()], dtype=np.int64),
        parts=np.array([part for part, _ in rows.values()], dtype=np.uint8),
        root=folder,
        boxes=edges,
        points=five_points(landmarks).astype(np.float32),
    )


def _columns(header: list[str], place: str) -> list[int]:
    """Positions of :data:`COLUMNS` in a header."""
    names = [name.strip() for name in header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UserError(f"{place}: expected the column {missing[0]}, got {','.join(names)!r}")
    return [names.index(name) for name in COLUMNS]


def _cells(row: list[str], columns: list[int], place: str) -> list[str]:
    """The cells of :data:`COLUMNS`."""
    if len(row) <= max(columns):
        raise UserError(f"{place}: expected at least {max(columns) + 1} cells, got {len(row)}")
    return [row[column].strip() for column in columns]


def _append_face(boxes: array[float], marks: array[float], cells: list[str], place: str) -> None:
    """Append x, y, width, height and the landmarks that are read of one row."""
    texts = cells[5].split(";")
    try:
        box = [float(cell) for cell in cells[1:5]]
        points = [float(text) for text in texts[2 * _FIRST : 2 * _LAST + 2]]
    except ValueError:
        box, points = [math.nan], []
    if len(texts) != 2 * _MARKS or not math.isfinite(sum(box) + sum(points)):
        raise UserError(f"{place}: expected a box and {_MARKS} landmarks 'x;y;...' of the face")
    boxes.extend(box)
    marks.extend(points)


def _read_sets(folder: Path, classes: tuple[str, ...]) -> FaceTable:
    """Read the later layout."""
    kind = f"affectnet{len(classes)}"
    names: list[str] = []
    targets: list[int] = []
    parts: list[int] = []
    for part, top in (("train", "train_set"), ("test", "val_set")):
        for wanted in ("images", "annotations"):
            if not (folder / top / wanted).is_dir():
                raise wrong_layout(kind, folder, f"{top}/{wanted}", __doc__)
        found = _read_set(folder / top, classes)
        names += [f"{top}/images/{name}" for name in found]
        targets += found.values()
        parts += [PARTS.index(part)] * len(found)
    require_images(kind, folder, names, "annotations", __doc__)
    return FaceTable(
        classes=classes,
        names=names,
        targets=np.array(targets, dtype=np.int64),
        parts=np.array(parts, dtype=np.uint8),
        root=folder,
    )


def _read_set(folder: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Targets by image name, of one set; each folder is listed once, no file is asked for."""
    suffix = "_exp.npy"
    files = (entry.name for entry in os.scandir(folder / "images"))
    images = {file.partition(".")[0]: file for file in files if file[0] != "."}
    labels = {
        entry.name.removesuffix(suffix): entry.path
        for entry in os.scandir(folder / "annotations")
        if entry.name.endswith(suffix)
    }
    seen: dict[bytes, int | None] = {}
    found: dict[str, int] = {}
    for stem in sorted(images.keys() | labels.keys()):
        target: int | None = UNKNOWN
        if stem in labels:
            content = Path(labels[stem]).read_bytes()
            if content not in seen:
                seen[content] = _target(_label(content, labels[stem]), classes, labels[stem])
            target = seen[content]
        if target is not None:
            found[images.get(stem, f"{stem}.jpg")] = target
    return found


def _label(content: bytes, place: str) -> str:
    """The text of the one label in a file of NumPy; pickled objects are never unpacked."""
    try:
        values = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        advice = "expected a .npy file of one number or text, and no pickled object"
        raise UserError(f"{place}: {advice}") from error
    if values.size != 1:
        raise UserError(f"{place}: expected one label, got an array of shape {values.shape}")
    value = values.item()
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def _target(label: str, classes: tuple[str, ...], place: str) -> int | None:
    """The class of a label; None where the image is to be left out."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if number in OTHERS:
        return None
    if number not in range(len(LABELS)):
        raise UserError(f"{place}: expected a label of 0-10, got {label!r}")
    name = LABELS[int(number)]
    return classes.index(name) if name in classes else None
