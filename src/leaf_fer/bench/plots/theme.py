"""Pages on which figures are drawn: a light and a dark one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from leaf_fer.report.curves import COLORS, MARKERS, STYLES
from leaf_fer.report.page import DPI, GRAY, INK, drawable, wrap

TITLE, NAME, SMALL = 10.0, 9.0, 8.0  # points
# The hues of Okabe and Ito, lighter where they would sink into a dark page.
LIGHTER = (
    "#4FA8E8", "#F08548", "#2CC295", "#E29AC2", "#EDB43C", "#9AD8F9", "#F2F2F2", "#9B9B9B",
)  # fmt: skip


@dataclass(frozen=True)
class Theme:
    """Colors of a page and of what is on it."""

    page: str
    ink: str
    gray: str
    grid: str
    frame: str
    colors: tuple[str, ...]


LIGHT = Theme("#ffffff", INK, GRAY, "#e3e3e3", "#b0b0b0", COLORS)
DARK = Theme("#14171c", "#ececec", "#b4b8bf", "#2d323a", "#5b616b", LIGHTER)


def look(number: int, theme: Theme) -> dict[str, Any]:
    """Color, marker and line style of a series: no two of the first 32 agree in all of them."""
    turn = number // len(theme.colors)
    return {
        "color": theme.colors[number % len(theme.colors)],
        "marker": MARKERS[(number + 3 * turn) % len(MARKERS)],
        "linestyle": STYLES[turn % len(STYLES)],
    }


def page(
    theme: Theme, count: int, columns: int, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """A figure with panels, row by row.

    Args:
        theme: of the page.
        count: panels.
        columns: panels in a row, at most.
        size: width and height in inches of one.
    """
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    extent = (columns * size[0], rows * size[1])
    figure = Figure(extent, dpi=DPI, layout=layout, facecolor=theme.page)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for left_over in axes[count:]:
        left_over.remove()
    return figure, axes[:count]


def dress(axes: Axes, theme: Theme, title: str, across: str = "", up: str = "") -> None:
    """Give a panel its title, the names of its axes and the colors of the page."""
    axes.set_facecolor(theme.page)
    axes.set_title(_fitting(axes, title), loc="left", size=TITLE, color=theme.ink,
                   parse_math=False)  # fmt: skip
    axes.set_xlabel(across, color=theme.gray, size=NAME)
    axes.set_ylabel(up, color=theme.gray, size=NAME)
    axes.tick_params(colors=theme.gray, labelsize=SMALL)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.frame)


def _fitting(axes: Axes, text: str) -> str:
    """Lines that can be drawn and do not reach into the next panel."""
    spec = axes.get_subplotspec()
    assert spec is not None
    width = cast(Figure, axes.figure).get_figwidth() / spec.get_gridspec().ncols - 0.95
    return "\n".join(wrap(drawable(line), TITLE, width) for line in text.split("\n"))


def legend(
    figure: Figure, theme: Theme, handles: list[Any], names: list[str], columns: int = 4
) -> Legend:
    """Names above all panels."""
    found = figure.legend(
        handles,
        [drawable(name) for name in names],
        loc="outside upper left",
        ncols=min(len(names), columns),
        fontsize=NAME,
        labelcolor=theme.ink,
        frameon=False,
    )
    for text in found.get_texts():
        text.set_parse_math(False)
    return found


def key(number: int, theme: Theme) -> Line2D:
    """What stands for a series in a legend."""
    return Line2D([], [], **look(number, theme))
