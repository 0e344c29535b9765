"""How faces were cut out of photos: said beside the crops and in the model, and done again later.

A model that has learned from faces cut in one way does badly on faces cut in another.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leaf_fer.errors import UserError, say
from leaf_fer.files import write_json

FILE = "alignment.json"
"""In a folder of crops; it holds for the folders below too."""

FORMAT = 1
ALIGNMENTS = ("points", "box")
TEMPLATE = "arcface"


@dataclass(frozen=True)
class Recipe:
    """How a face is cut out.

    Attributes:
        align: ``points`` turns, zooms and moves it so that its five points lie on the template of
            ArcFace; ``box`` takes the square around its box.
        margin: in [0, 1], what is added at every side of the template or square, in its sides.
        size: pixels per side of the crop, which is brought to the size of a model's images then;
            None cuts at that size at once.
        detector: what found box and points; None where the data set came with them.
    """

    align: str = "points"
    margin: float = 0.0
    size: int | None = None
    detector: str | None = None

    def __post_init__(self) -> None:
        if self.align not in ALIGNMENTS:
            raise ValueError(f"align {self.align!r}: expected one of {', '.join(ALIGNMENTS)}")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin {self.margin}: expected a number in [0, 1]")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size {self.size}: expected at least 1")

    def __str__(self) -> str:
        found = f" of {self.detector}" if self.detector else ""
        return f"{self.align}{found}, margin {self.margin:g}"

    def fits(self, other: Recipe) -> bool:
        """Whether both cut a face alike, but for sharpness.

        A detector that is not known is taken for the same.
        """
        unknown = self.detector is None or other.detector is None
        same = math.isclose(self.margin, other.margin) and self.align == other.align
        return same and (unknown or self.detector == other.detector)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"format": FORMAT, "template": TEMPLATE, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Undo :meth:`to_dict`.

        Raises:
            ValueError: of another format, or a value that is not allowed.
        """
        if (values.get("format"), values.get("template")) != (FORMAT, TEMPLATE):
            raise ValueError(f"expected format {FORMAT} of leaf-fer with template {TEMPLATE!r}")
        size, detector = values.get("size"), values.get("detector")
        return cls(
            str(values["align"]),
            float(values["margin"]),
            None if size is None else int(size),
            None if detector is None else str(detector),
        )


def write(folder: Path, recipe: Recipe) -> None:
    """Say of a folder of crops how they were cut.

    Raises:
        UserError: it cannot be written.
    """
    write_json(folder / FILE, recipe.to_dict())


def read(folder: Path) -> Recipe | None:
    """What a folder of crops says, or None.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / FILE
    try:
        return Recipe.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: damaged: {error}") from None


def compare(learned: Recipe | None, met: Recipe | None, where: str) -> bool:
    """Warn of faces that are cut in another way than those that a model has learned from.

    Args:
        learned: from the model; None if not known.
        met: of the faces to be classified; None if not known.
        where: what they are called.

    Returns:
        Whether there is nothing to warn of.
    """
    if learned is None or met is None or learned.fits(met):
        return True
    say(
        f"leaf: warning: {where}: faces cut by {met}; the model has learned from faces cut by "
        f"{learned}, and may do badly here"
    )
    return False


def check_whole(learned: Recipe | None, files: Iterable[str]) -> None:
    """Warn where pictures are to be classified as they are that are not cut as a model knows them.

    Args:
        learned: from the model; None if it does not know.
        files: of the pictures.

    Raises:
        UserError: what a folder of crops says is damaged.
    """
    if learned is None:
        return
    found = recipes(os.path.abspath(os.path.dirname(file)) for file in files)  # noqa: PTH100, PTH120
    for met in sorted(filter(None, found), key=str):
        compare(learned, met, "PATH")
    if None in found:
        say(
            f"leaf: warning: the model has learned from faces cut by {learned}, and these pictures "
            "are taken as they are; --detector auto finds faces in photos and cuts them so"
        )


def common(root: Path, folders: Iterable[str]) -> Recipe | None:
    """The recipe of all crops in some folders, or None if there is none or not one for all.

    Args:
        root: where the folders are; of those in it, it is the uppermost that is looked into.
        folders: relative to the root, or absolute.

    Raises:
        UserError: a file is damaged.
    """
    top = os.path.abspath(root)  # noqa: PTH100  # links must not lead elsewhere
    found = recipes((os.path.abspath(os.path.join(top, f)) for f in folders), top)  # noqa: PTH100, PTH118
    if len(found) < 2:
        return next(iter(found), None)
    known = "; ".join(sorted(map(str, filter(None, found))))
    rest = "; and others that nothing is known of" if None in found else ""
    say(f"leaf: warning: {root}: faces in it were cut in different ways: {known}{rest}")
    return None


def recipes(folders: Iterable[str], top: str | None = None) -> set[Recipe | None]:
    """What folders of crops say, or else the folders that they are in.

    Args:
        folders: absolute.
        top: where to stop on the way up.

    Raises:
        UserError: a file is damaged.
    """
    known: dict[Path, Recipe | None] = {}

    def of(folder: Path) -> Recipe | None:
        if folder not in known:
            own, last = read(folder), folder == folder.parent or str(folder) == top
            known[folder] = of(folder.parent) if own is None and not last else own
        return known[folder]

    return {of(Path(folder)) for folder in set(folders)}
