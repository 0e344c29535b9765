"""A white page measured in inches, on which text is measured before it is placed."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from leaf_fer.files import write_atomically

Weight = Literal["normal", "bold"]

DPI = 150
LONGEST = 400  # inches; 2**16 pixels are the most that the drawing engine can do
MARGIN = 0.2
INK = "#1a1a1a"
GRAY = "#595959"
# DejaVu Sans comes with matplotlib; the others, where installed, draw names that it cannot.
FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
)


class Page:
    """A page whose coordinates are inches from its top left corner.

    Args:
        width: inches.
        height: inches.

    Raises:
        ValueError: the page would be longer or wider than can be drawn.
    """

    def __init__(self, width: float, height: float) -> None:
        if max(width, height) > LONGEST:
            raise ValueError(
                f"expected a picture of at most {LONGEST} x {LONGEST} inches, got "
                f"{width:.0f} x {height:.0f}: show fewer images"
            )
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1), frameon=False, autoscale_on=False)
        self.axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])

    def text(self, x: float, y: float, text: str, size: float, **look: Any) -> Text:
        """Place text, by default with its top left corner at (x, y)."""
        look = {"ha": "left", "va": "top", "color": INK, **look}
        return self.axes.text(x, y, text, size=size, parse_math=False, **look)

    def image(self, x: float, y: float, side: float, pixels: NDArray[np.uint8]) -> None:
        """Place a square image, (S, S, 3), with its top left corner at (x, y)."""
        box = (x, x + side, y + side, y)
        self.axes.imshow(pixels, extent=box, aspect="auto", interpolation="bicubic")


@lru_cache(maxsize=4096)
def extent(text: str, size: float, weight: Weight = "normal") -> tuple[float, float]:
    """Width and height in inches that text of a size in points takes on a page."""
    if not text:
        return 0.0, 0.0
    figure = Figure(figsize=(0.1, 0.1), dpi=DPI)
    FigureCanvasAgg(figure)  # measures as it draws
    drawn = figure.text(0, 0, text, size=size, weight=weight, parse_math=False)
    box = drawn.get_window_extent()
    return box.width / DPI, box.height / DPI


def wrap(text: str, size: float, width: float, weight: Weight = "normal") -> str:
    """Break text into lines of at most ``width`` inches.

    Lines break after spaces, ``_``, ``-`` and ``/``, and within a word only if it is too long.
    """
    lines = [""]
    for word in re.findall(r"[^ _/-]+[ _/-]*|[ _/-]+", text):
        fits = extent(word.rstrip(), size, weight)[0] <= width
        for piece in [word] if fits else word:
            longer = extent((lines[-1] + piece).rstrip(), size, weight)[0] > width
            if longer and lines[-1]:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    there = set(font_manager.get_font_names())
    return tuple(family for family in FAMILIES if family in there)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    paths = [font_manager.findfont(family) for family in _installed()]
    return frozenset[int]().union(*(font_manager.get_font(p).get_charmap() for p in paths))


def drawable(text: str) -> str:
    r"""Replace letters that no font here can draw by their escapes.

    Example:
        >>> drawable("joy\n✓")
        'joy\\n✓'
    """
    known = _letters()
    return "".join(
        letter if ord(letter) in known else letter.encode("unicode_escape").decode()
        for letter in text
    )


def plain_style() -> AbstractContextManager[None]:
    """Draw alike for everybody, whatever their matplotlibrc says.

    The settings are global while it lasts: pictures are drawn by one thread at a time.
    """
    settings = {"font.family": list(_installed()), "svg.hashsalt": "leaf-fer"}
    style: AbstractContextManager[None] = matplotlib.style.context(["default", settings])
    return style


def save(figure: Figure, path: Path) -> None:
    """Write a figure, atomically: SVG if the path ends with ``.svg``, else PNG.

    Raises:
        UserError: the file cannot be written.
    """
    svg = path.suffix.lower() == ".svg"
    content = io.BytesIO()
    metadata = {"Date": None} if svg else None  # the same picture has the same bytes
    figure.savefig(content, format="svg" if svg else "png", dpi=DPI, metadata=metadata)
    write_atomically(path, content.getvalue())
