"""Predictions as people or programs want to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leaf_fer.predict import Prediction


def columns(classes: Sequence[str]) -> dict[str, type]:
    """Of a table of predictions."""
    scores = dict.fromkeys(classes, float)
    return {"path": str, "label": str, "confidence": float, **scores, "candidates": str} | {
        "error": str
    }


def worded(
    label: str | None,
    confidence: float | None,
    scores: dict[str, float],
    candidates: Sequence[str] | None,
    where: str,
) -> str:
    """One line for people: label, confidence, what it is said of, and the classes that follow."""
    width = max(len("not sure"), *map(len, scores))
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    rest = ranked[1:3] if label else ranked[:3]
    others = ", ".join(f"{name} {100 * p:.0f} %" for name, p in rest)
    if candidates is not None:
        others = f"{others}; candidates: {', '.join(candidates)}"
    return f"{label or 'not sure':{width}}  {100 * (confidence or 0):3.0f} %  {where}  ({others})"


@dataclass(frozen=True)
class Answer:
    """A prediction as a row.

    Attributes:
        found: the prediction.
        classes: all of the model.
    """

    found: Prediction
    classes: Sequence[str]

    def text(self) -> str:
        """One line for people."""
        one = self.found
        if one.scores is None:
            width = max(len("not sure"), *map(len, self.classes))
            return f"{'error':{width}}      -  {one.path}  ({one.error})"
        return worded(one.label, one.confidence, one.scores, one.candidates, str(one.path))

    def nested(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self.found), "path": str(self.found.path)}

    def flat(self) -> Sequence[Any]:
        """The cells of :func:`columns`."""
        one = self.found
        scores = [(one.scores or {}).get(name) for name in self.classes]
        candidates = ";".join(one.candidates or ())
        return [str(one.path), one.label, one.confidence, *scores, candidates, one.error]
