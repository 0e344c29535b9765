"""Pictures with a frame around every face and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Edges = tuple[int, int, int, int]
"""Left, top, right, bottom: the outermost pixels."""

INK, PAPER = (255, 255, 255), (0, 0, 0)
SMALLEST = 9  # pixels of text that can still be read


def draw(
    image: NDArray[np.uint8], boxes: NDArray[np.floating[Any]], labels: Sequence[str]
) -> NDArray[np.uint8]:
    """A copy of a picture with boxes and labels.

    White on black, so that they stand out on whatever is there. A label stands above its box, below
    or beside it, where it hides least of the others, and never leaves the picture: text that is too
    wide is set smaller, and cut short with an ellipsis where it would become too small to read.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4), left, top, right, bottom in pixels; may reach beyond the picture.
        labels: N texts of one line or more; where one is empty, none is drawn.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    line = max(1, round(min(height, width) / 300))
    last = np.array([width, height, width, height]) - 1 - line  # room for the black around
    taken: list[Edges] = []
    for box in boxes:
        edge = tuple(np.clip(np.rint(box), line, np.maximum(last, line)).astype(int).tolist())
        taken.append(_grown(edge, line))
        pen.rectangle(taken[-1], outline=PAPER, width=3 * line)
        pen.rectangle(edge, outline=INK, width=line)
    for outer, label in zip(tuple(taken), labels, strict=True):
        if label:
            taken.append(_write(pen, outer, label, taken, 2 * line))
    return np.asarray(canvas)


def _write(
    pen: ImageDraw.ImageDraw, box: Edges, label: str, taken: list[Edges], margin: int
) -> Edges:
    """Write a label beside its box, where least is taken, and return what it takes."""
    width, height = pen.im.size
    size = max(SMALLEST, min(width, height) // 30)
    text, font = _fitting(pen, label, width - 2 * margin, size)
    left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font=font)
    wide, high = math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin
    columns = box[0], (box[0] + box[2] - wide) // 2, box[2] - wide + 1
    rows = box[1], (box[1] + box[3] - high) // 2, box[3] - high + 1
    corners = [*product((box[1] - high, box[3] + 1), columns)]
    corners += [(y, x) for x, y in product((box[2] + 1, box[0] - wide), rows)]
    places = []
    for y, x in corners:
        corner = max(0, min(x, width - wide)), max(0, min(y, height - high))
        places.append((*corner, corner[0] + wide - 1, corner[1] + high - 1))
    place = min(places, key=lambda place: sum(_shared(place, other) for other in taken))
    pen.rectangle(place, fill=PAPER)
    start = place[0] + margin - left, place[1] + margin - top
    pen.multiline_text(start, text, fill=INK, font=font)
    return place


def _shared(one: Edges, other: Edges) -> int:
    """Pixels that are in both."""
    wide = min(one[2], other[2]) - max(one[0], other[0]) + 1
    high = min(one[3], other[3]) - max(one[1], other[1]) + 1
    return max(wide, 0) * max(high, 0)


def _fitting(
    pen: ImageDraw.ImageDraw, text: str, width: int, size: int
) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text and its font, at most as wide as so many pixels."""

    def wide(text: str) -> float:
        left, _, right, _ = pen.multiline_textbbox((0, 0), text, font=font)
        return right - left

    font = _font(size)
    while wide(text) > width and size > SMALLEST:
        size -= 1
        font = _font(size)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        while wide(lines[number]) > width and len(line) > 1:
            line = line[:-1]
            lines[number] = line.rstrip() + "…"
    return "\n".join(lines), font


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib, and has letters of more scripts than Pillow's own."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def _grown(edge: Edges, by: int) -> Edges:
    left, top, right, bottom = edge
    return left - by, top - by, right + by, bottom + by
