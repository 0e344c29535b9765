"""RAF-DB, the basic expressions (Li et al., 2017).

::

    PATH/basic/                                  (PATH may also be the folder basic itself)
        EmoLabel/list_patition_label.txt         lines "train_00001.jpg 5", labels 1 to 7
        Image/aligned/train_00001_aligned.jpg    100x100 faces, train_* and test_*
        Image/original/train_00001.jpg           read only where there is no Image/aligned

The prefix of a name tells its part: 12,271 training and 3,068 test images, no validation images.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from leaf_fer.data.layout import require_images, wrong_layout
from leaf_fer.data.names import SEVEN
from leaf_fer.data.table import PARTS, FaceTable
from leaf_fer.errors import UserError

LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The expressions of labels 1 to 7."""

_LIST = "EmoLabel/list_patition_label.txt"


def read(folder: Path) -> FaceTable:
    """Read the list of RAF-DB; no image is opened.

    Args:
        folder: the folder ``basic`` or its parent.

    Raises:
        UserError: another layout, or a line of the list that is not a name and a label.
    """
    root = folder if (folder / _LIST).is_file() else folder / "basic"
    if not (root / _LIST).is_file():
        raise wrong_layout("rafdb", folder, f"basic/{_LIST}", __doc__)
    if (root / "Image/aligned").is_dir():
        pattern = "Image/aligned/{stem}_aligned{suffix}"
    elif (root / "Image/original").is_dir():
        pattern = "Image/original/{stem}{suffix}"
    else:
        raise wrong_layout("rafdb", root, "Image/aligned or Image/original", __doc__)
    rows: dict[str, tuple[int, int]] = {}
    lines = (root / _LIST).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, part, target = _row(line, f"{root / _LIST}, line {number}")
            file = pattern.format(stem=PurePosixPath(name).stem, suffix=PurePosixPath(name).suffix)
            if file in rows:
                raise UserError(f"{root / _LIST}, line {number}: {name} is listed twice")
            rows[file] = part, target
    require_images("rafdb", root, rows, _LIST, __doc__)
    return FaceTable(
        classes=SEVEN,
        names=list(rows),
        targets=np.array([target for _, target in rows.values()], dtype=np.int64),
        parts=np.array([part for part, _ in rows.values()], dtype=np.uint8),
        root=root,
    )


def _row(line: str, place: str) -> tuple[str, int, int]:
    """Name, index of the part, and class of one line of the list."""
    name, _, label = " ".join(line.split()).partition(" ")
    part = name.partition("_")[0]
    if part not in ("train", "test") or label not in {"1", "2", "3", "4", "5", "6", "7"}:
        raise UserError(f"{place}: expected 'train_00001.jpg 5' with a label of 1-7, got {line!r}")
    return name, PARTS.index(part), SEVEN.index(LABELS[int(label) - 1])
