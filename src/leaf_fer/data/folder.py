"""A folder of images, one folder per class.

::

    PATH/
        happy/a.jpg, happy/more/b.jpg    labeled training images, one folder per class
        unlabeled/c.jpg                  unlabeled training images
        d.jpg                            the same
        val/happy/e.jpg                  validation images (also valid, validation), if any
        test/happy/f.jpg                 test images, if any

    PATH/train/                          the training images may also stand here: train/happy/a.jpg

Hidden files, tables and notes are passed over; any other file counts as an image, so that the
store can name those it cannot read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leaf_fer.data.layout import wrong_layout
from leaf_fer.data.names import arrange
from leaf_fer.data.table import PARTS, UNKNOWN, FaceTable
from leaf_fer.data.tabular import PART_NAMES
from leaf_fer.errors import UserError

UNLABELED = ("unlabeled", "unlabelled")
"""Names, in any case, of a folder of images without a label."""

NO_IMAGES = (".csv", ".txt", ".json", ".jsonl", ".md", ".parquet", "thumbs.db", "desktop.ini")
"""How the names of files end that are no images, in any case."""


def read(folder: Path) -> FaceTable:
    """List the images of a folder; none is opened.

    Links to class folders are followed, links to folders deeper down are not.

    Args:
        folder: the folder of the classes or parts.

    Raises:
        UserError: no images, a class folder without images, or class folders next to ``train``.
    """
    if not folder.is_dir():
        raise wrong_layout("folder", folder, "images in one folder per class", __doc__)
    found: dict[str, tuple[int, str | None]] = {}
    labels: set[str] = set()
    for part, top, skip in _sections(folder):
        for label, files in _section(folder / top, skip):
            labels |= {label} if label else set()
            found |= {top + name: (part, label) for name in files}
    if not found:
        raise wrong_layout("folder", folder, "images in one folder per class", __doc__)
    empty = sorted(labels - {label for _, label in found.values() if label})
    if empty:
        raise UserError(f"folder:{folder}: the class folder {empty[0]} has no images")
    classes, number = arrange(labels)
    rows = [(name, *found[name]) for name in sorted(found)]
    return FaceTable(
        classes=classes,
        names=[name for name, _, _ in rows],
        targets=np.array([number[label] if label else UNKNOWN for *_, label in rows], np.int64),
        parts=np.array([part for _, part, _ in rows], dtype=np.uint8),
        root=folder,
    )


def _sections(folder: Path) -> list[tuple[int, str, list[str]]]:
    """The folders that hold class folders: part, ``NAME/``, and entries that are no classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    parts = {name: PART_NAMES[name.lower()] for name in names if name.lower() in PART_NAMES}
    others = [name for name in names if name not in parts and name.lower() not in UNLABELED]
    if "train" in parts.values() and others:
        train = next(name for name, part in parts.items() if part == "train")
        problem = f"expected all class folders in {train}, found {others[0]} beside it"
        raise UserError(f"folder:{folder}: {problem}")
    none: list[str] = []
    below = [(PARTS.index(part), f"{name}/", none) for name, part in parts.items()]
    return [(PARTS.index("train"), "", list(parts)), *below]


def _section(top: Path, skip: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Label (None for no label) and image files, relative to ``top``, of every class folder."""
    beside: list[str] = []
    for entry in os.scandir(top):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            beside += [entry.name] if _may_be_image(entry) else []
        elif entry.name not in skip:
            label = None if entry.name.lower() in UNLABELED else entry.name
            yield label, list(image_files(entry.path, f"{entry.name}/"))
    yield None, beside


def image_files(folder: str, name: str) -> Iterator[str]:
    """Image files in a folder called ``name`` and in the folders below it, in any order."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from image_files(entry.path, f"{name}{entry.name}/")
        elif _may_be_image(entry):
            yield name + entry.name


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """Whether to list a file; links that lead nowhere are listed, so that they are reported."""
    if entry.name.lower().endswith(NO_IMAGES):
        return False
    return entry.is_file() or (entry.is_symlink() and not entry.is_dir())
