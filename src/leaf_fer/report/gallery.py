"""Faces in a page, with what was said about them; every picture is in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leaf_fer.report.facts import Faces, Integers
from leaf_fer.report.markup import Markup, percent, tag

SIDE = 112
"""Pixels of a face in a page, at most: sheets of faces stay small."""
QUALITY = 85
SHOWN = 5
"""Candidates of a face that are shown, at most."""


def source(pixels: NDArray[np.uint8]) -> str:
    """A face (S, S, 3) as an address that holds the picture itself."""
    image = Image.fromarray(pixels)
    if image.width > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def errors(faces: Faces, places: Integers, classes: Sequence[str], truth: str) -> Markup:
    """Wrong answers: what was said, how surely, and the class, which ``truth`` introduces."""
    items = []
    for place, pixels in zip(places.tolist(), faces.pixels(places), strict=True):
        said, true = classes[faces.said[place]], classes[faces.targets[place]]
        sure = percent(float(faces.sure[place]), 0)
        words = [tag("b", tag("span", said), tag("span", sure)), tag("span", f"{truth}: {true}")]
        text = f"A face that was called {said} with {sure}; {truth}: {true}"
        items.append(_face(pixels, text, faces.name(place), words, "wrong"))
    return tag("div", items, class_="faces")


def candidates(faces: Faces, places: Integers, classes: Sequence[str]) -> Markup:
    """Undecided answers: the candidates of every face with their probabilities."""
    items = []
    for place, pixels in zip(places.tolist(), faces.pixels(places), strict=True):
        p, true = faces.probabilities[place], int(faces.targets[place])
        ranked = [c for c in np.argsort(-p, kind="stable").tolist() if faces.sets[place, c]]
        shown = ranked[:SHOWN] if true in ranked[:SHOWN] else [*ranked[: SHOWN - 1], true]
        rows = [_candidate(classes[c], float(p[c]), c == true) for c in shown]
        more = len(set(ranked) - set(shown))
        note = f"and {more} more" if more else "all candidates"
        if true not in ranked:
            note += f", without {classes[true]}"
        rows.append(tag("li", note, class_="soft"))
        text = f"A face between {', '.join(classes[c] for c in shown)}; label: {classes[true]}"
        words = [tag("ul", rows, class_="bars")]
        items.append(_face(pixels, text, faces.name(place), words, "undecided"))
    return tag("div", items, class_="faces roomy")


def _candidate(name: str, probability: float, true: bool) -> Markup:
    """A class with its share as a bar behind it; the true one has a tick."""
    tick = tag("span", " ✔", title="what annotators said") if true else None
    return tag(
        "li",
        tag("span", name, tick, class_="name"),
        tag("span", f"{100 * probability:.0f}", class_="number"),
        style=f"--share:{100 * probability:.0f}%",
    )


def _face(
    pixels: NDArray[np.uint8], text: str, name: str, words: Sequence[Markup], kind: str
) -> Markup:
    picture = tag(
        "img", src=source(pixels), alt=text, title=name, width=SIDE, height=SIDE, class_=kind
    )
    return tag("figure", picture, tag("figcaption", *words))
