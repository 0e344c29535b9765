"""Names beside the ends of lines, none on top of another."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaf_fer.bench.plots.theme import NAME, Theme
from leaf_fer.report.page import drawable, extent

PITCH = 0.165
"""Inches from one name to the next."""

End = tuple[str, float, float, dict[str, Any]]
"""Name, last point in data coordinates, and look of a line."""


def panel_size(names: Collection[str], lines: int) -> tuple[float, float]:
    """Inches that a panel needs whose lines have names: of all of them, and most in a panel."""
    longest = max(extent(drawable(name), NAME)[0] for name in names)
    return 4.6 + longest, max(3.0, 1.1 + lines * PITCH)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move values apart by as little as possible, in the sense of least squares.

    Args:
        wanted: values in any order.
        gap: that neighbors keep.

    Example:
        >>> spread([5.0, 1.0, 5.0], 1.0)
        [4.5, 1.0, 5.5]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # mean and size; less the gaps, values may not fall
    for rank, i in enumerate(order):
        mean, size = wanted[i] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            below, count = blocks.pop()
            mean, size = (mean * size + below * count) / (size + count), size + count
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    placed = {i: means[rank] + rank * gap for rank, i in enumerate(order)}
    return [placed[i] for i in range(len(wanted))]


def name_ends(axes: Axes, ends: Sequence[End], theme: Theme) -> None:
    """Write names to the right of a panel, each with a thin line to the end of its own.

    The limits of the panel must be final and its figure laid out.
    """
    figure = cast(Figure, axes.figure)
    gap = PITCH / (axes.get_window_extent().height / figure.dpi)
    to_panel = axes.transScale + axes.transLimits
    points = [to_panel.transform((x, y)) for _, x, y, _ in ends]
    heights = spread([float(y) for _, y in points], gap)
    # All of them within the panel, if they fit there.
    shift = max(0.0, -min(heights)) - max(0.0, max(heights) - 1)
    for (name, _, _, look), (x, y), height in zip(ends, points, heights, strict=True):
        height += shift
        thin = {"color": look["color"], "linewidth": 0.7, "transform": axes.transAxes}
        axes.plot([x, 1.05, 1.08], [y, height, height], clip_on=False, alpha=0.8, **thin)
        mark = {"color": look["color"], "marker": look["marker"], "transform": axes.transAxes}
        axes.plot([1.08], [height], clip_on=False, markersize=4.5, linestyle="none", **mark)
        axes.text(1.105, height, drawable(name), size=NAME, color=theme.ink, va="center_baseline",
                  transform=axes.transAxes, parse_math=False)  # fmt: skip
