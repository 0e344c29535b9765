"""Where faces are, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaf_fer.scenes.looking import Sight

Box = tuple[float, float, float, float]

PLACE: dict[str, type] = {
    "file": str,
    "frame": int,
    "seconds": float,
    "track": int,
    "left": float,
    "top": float,
    "right": float,
    "bottom": float,
    "score": float,
}
"""Columns that say where a face is."""


@dataclass(frozen=True)
class Place:
    """Where a face is.

    Attributes:
        file: the photo or video.
        frame, seconds, track: in a video; None in a photo.
        box: left, top, right, bottom in pixels.
        score: how sure the detector is, in [0, 1].
    """

    file: Path
    frame: int | None = None
    seconds: float | None = None
    track: int | None = None
    box: Box | None = None
    score: float | None = None

    def nested(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "file": str(self.file), "box": self.box and list(self.box)}

    def flat(self) -> list[Any]:
        """The cells of :data:`PLACE`."""
        edges = self.box or (None,) * 4
        return [str(self.file), self.frame, self.seconds, self.track, *edges, self.score]

    def text(self) -> str:
        """For people."""
        words = [str(self.file)]
        if self.seconds is not None:
            words.append(f"{self.seconds:.2f} s, face {self.track}")
        if self.box is not None:
            left, top, right, bottom = self.box
            words.append(f"{right - left:.0f} x {bottom - top:.0f} at {left:.0f},{top:.0f}")
        return ", ".join(words)


def places(sight: Sight) -> list[Place]:
    """Where the faces of a picture are, to a hundredth of a pixel and of a millisecond."""
    frame = sight.frame
    video = frame.seconds is not None
    seconds = None if frame.seconds is None else round(frame.seconds, 5)
    found = []
    for row, track in enumerate(sight.tracks.tolist()):
        left, top, right, bottom = (round(edge, 2) for edge in sight.faces.boxes[row].tolist())
        score = round(float(sight.faces.scores[row]), 4)
        number, index = (track, frame.index) if video else (None, None)
        box = (left, top, right, bottom)
        found.append(Place(frame.path, index, seconds, number, box, score))
    return found
