"""Faces of photos and videos: found, followed and cut out, a few pictures in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import UnreadableImage, resize
from leaf_fer.faces.detection import Detector, Faces
from leaf_fer.faces.footage import Every, Frame, Loss
from leaf_fer.faces.tracking import Tracker
from leaf_fer.lookahead import ahead
from leaf_fer.recipe import Recipe
from leaf_fer.scenes.cutting import cut_face

AHEAD = 3
"""Pictures that a detector has seen before they are needed."""

Seen = tuple[Path, int]
"""File and number of a picture."""

PATIENCE = 0.5  # seconds that a face may be missed in before it is another one
RATE = 25  # pictures a second, where nothing is known


@dataclass(frozen=True, eq=False)
class Sight:
    """What is seen in a picture.

    Attributes:
        frame: the picture.
        faces: N of them, the surest first.
        tracks: (N,) int64, numbers of faces that are followed through a video; -1 in a photo.
        crops: (N, S, S, 3) uint8.
    """

    frame: Frame
    faces: Faces
    tracks: NDArray[np.int64]
    crops: NDArray[np.uint8]


class Looker:
    """Looks at pictures, one after the other.

    Args:
        detector: finds faces.
        recipe: how they are cut out.
        size: pixels per side of the crops; those of the recipe are brought to it.
        every: which pictures of a video there will be.
    """

    def __init__(
        self, detector: Detector, recipe: Recipe, size: int, every: Every | None = None
    ) -> None:
        self._detector = detector
        self._recipe = recipe
        self._size = size
        every = every or Every()
        apart = every.seconds or every.frames / RATE
        self._patience = max(1, round(PATIENCE / apart))
        self._last: Seen | None = None
        self._tracker = Tracker(patience=self._patience)

    def look(self, frame: Frame) -> Sight:
        """See the faces of the next picture."""
        if begins(frame, self._last):
            self._tracker = Tracker(patience=self._patience)
        self._last = (frame.path, frame.index)
        faces, crops = self._cut(frame, self._detector.detect(frame.image))
        tracks = np.full(len(faces), -1, np.int64)
        if frame.seconds is not None:
            tracks = self._tracker.update(faces.boxes)
        return Sight(frame, faces, tracks, crops)

    def _cut(self, frame: Frame, faces: Faces) -> tuple[Faces, NDArray[np.uint8]]:
        """The faces that can be cut out, which is all but those in a point."""
        rows, crops = [], []
        for row in range(len(faces)):
            box, points = faces.boxes[row], faces.points[row]
            side = self._recipe.size or self._size
            try:
                crop = cut_face(frame.image, box, points, self._recipe, side)
            except UnreadableImage:
                continue
            rows.append(row)
            crops.append(resize(crop, self._size))
        shape = (len(crops), self._size, self._size, 3)
        return faces.take(np.array(rows, np.intp)), np.array(crops, np.uint8).reshape(shape)


def begins(frame: Frame, last: Seen | None) -> bool:
    """Whether a picture is the first of its file, given the one before it."""
    return last is None or frame.path != last[0] or frame.index <= last[1]


def look_at(found: Iterable[Frame | Loss], looker: Looker) -> Iterator[Sight | Loss]:
    """See the faces of pictures as they come; a thread looks ahead while one is dealt with."""
    with ThreadPoolExecutor(1, "leaf-look") as pool:
        begun = (one if isinstance(one, Loss) else pool.submit(looker.look, one) for one in found)
        for one in ahead(begun, AHEAD):
            yield one if isinstance(one, Loss) else one.result()
