"""``leaf faces``: the faces of photos and videos as files to label and to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaf_fer.faces.footage import Loss
from leaf_fer.rows import Rows
from leaf_fer.scenes.album import save
from leaf_fer.scenes.looking import Sight
from leaf_fer.scenes.places import PLACE, Place, places

COLUMNS: dict[str, type] = {"path": str, **PLACE}
TABLE = "faces"
"""Of the crops, in their folder, with the ending of its format."""


@dataclass(frozen=True)
class Crop:
    """A file with a face, as a row.

    Attributes:
        path: relative to the folder of the crops.
        place: where it was cut out.
    """

    path: str
    place: Place

    def text(self) -> str:
        """One line for people."""
        return f"{self.path}: {self.place.text()}"

    def nested(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"path": self.path, **self.place.nested()}

    def flat(self) -> list[Any]:
        """The cells of :data:`COLUMNS`."""
        return [self.path, *self.place.flat()]


def write_crops(
    seen: Iterable[Sight | Loss], folder: Path, names: Mapping[Path, str], rows: Rows
) -> Iterable[Sight | Loss]:
    """Write every face to a PNG file and a row, and hand on what was seen.

    Args:
        seen: pictures.
        folder: of the crops.
        names: of the files, see :func:`~leaf_fer.scenes.sources.find_sources`.
        rows: the table.

    Raises:
        UserError: a file cannot be written.
    """
    for one in seen:
        if not isinstance(one, Loss):
            name = names[one.frame.path]
            for number, place in enumerate(places(one)):
                last = str(number)
                if place.track is not None:
                    last = f"f{place.frame:06}-t{place.track}"
                path = f"{name}-{last}.png"
                save(one.crops[number], folder / path, "--out")
                rows.add(Crop(path, place))
        yield one
