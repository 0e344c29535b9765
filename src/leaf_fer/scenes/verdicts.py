"""What is said of faces, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import numpy as np

from leaf_fer.answers import worded
from leaf_fer.faces.footage import Loss
from leaf_fer.scenes.judging import Judged
from leaf_fer.scenes.places import PLACE, Place, places

NARROW = 24
"""Letters of a line beside a face: two classes or three."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a face, as a row; or what is lost of a file.

    Attributes:
        place: where it is.
        classes: all of the model.
        label: the most probable class; None of a loss, or where several may be the true one.
        confidence: probability of the most probable class.
        scores: probabilities of all classes, in their order; empty for a loss.
        candidates: the classes that may be the true one, the most probable first; None if not
            asked for.
        error: what is lost.
    """

    place: Place
    classes: Sequence[str]
    label: str | None = None
    confidence: float | None = None
    scores: tuple[float, ...] = ()
    candidates: tuple[str, ...] | None = None
    error: str | None = None

    def unsure(self) -> Verdict:
        """The same without a label if there is more than one candidate."""
        return replace(self, label=None) if len(self.candidates or ()) > 1 else self

    def caption(self) -> str:
        """What is written beside the face."""
        others = [name for name in self.candidates or () if name != self.label]
        if self.label is None:
            head, rest = "not sure", " or ".join(others)
        else:
            head = f"{self.label} {100 * (self.confidence or 0):.0f} %"
            rest = f"or {', '.join(others)}"
        return "\n".join([head, *(wrap(rest, NARROW) if others else ())])

    def text(self) -> str:
        """One line for people."""
        if self.error is not None:
            width = max(len("not sure"), *map(len, self.classes))
            return f"{'error':{width}}      -  {self.place.text()}  ({self.error})"
        named = dict(zip(self.classes, self.scores, strict=True))
        return worded(self.label, self.confidence, named, self.candidates, self.place.text())

    def nested(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **self.place.nested(),
            "label": self.label,
            "confidence": self.confidence,
            "scores": dict(zip(self.classes, self.scores, strict=False)) or None,
            "candidates": self.candidates,
            "error": self.error,
        }

    def flat(self) -> list[Any]:
        """The cells of :func:`columns`."""
        scores = self.scores or (None,) * len(self.classes)
        candidates = ";".join(self.candidates or ())
        said = [self.label, self.confidence, *scores, candidates, self.error]
        return [*self.place.flat(), *said]


def columns(classes: Sequence[str]) -> dict[str, type]:
    """Of a table of verdicts."""
    scores = dict.fromkeys(classes, float)
    said = {"label": str, "confidence": float, **scores, "candidates": str, "error": str}
    return {**PLACE, **said}


def verdicts(judged: Judged, classes: Sequence[str]) -> list[Verdict]:
    """What is said of the faces of a picture, the surest face first."""
    found = []
    for row, place in enumerate(places(judged.sight)):
        scores = judged.scores[row]
        best = int(scores.argmax())
        values = tuple(round(value, 6) for value in scores.tolist())
        candidates = None
        if judged.chosen is not None:
            ranked = np.argsort(-scores, kind="stable").tolist()
            candidates = tuple(classes[c] for c in ranked if judged.chosen[row, c])
        found.append(Verdict(place, classes, classes[best], values[best], values, candidates))
    return found


def lost(loss: Loss, classes: Sequence[str]) -> Verdict:
    """A row that says what is lost of a file."""
    return Verdict(Place(loss.path), classes, error=loss.reason)
