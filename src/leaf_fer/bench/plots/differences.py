"""How far methods are above one of them, seed by seed, on the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leaf_fer.bench.comparison import METRICS, Entry, build
from leaf_fer.bench.plots.choice import Choice, Draw
from leaf_fer.bench.plots.theme import NAME, Theme, dress, legend, page
from leaf_fer.bench.records import Record, check_protocol
from leaf_fer.errors import UserError
from leaf_fer.report.page import drawable, extent

PITCH = 0.27
"""Inches from one row to the next."""

Rows = Mapping[str, Entry]
"""By name, differences in percentage points, a number for each seed."""


def differences(records: Sequence[Record], choice: Choice) -> Draw:
    """Accuracy minus that of a row, a panel for each data set and number of labels.

    Which faces were labeled moves all methods, so each run is compared with the one that had the
    same labels. Rows stand by their mean over the panels, the best on top.

    Raises:
        UserError: records do not compare, there is no such row, or nothing beside it.
    """
    check_protocol(records)
    table = build(records, choice.metric, choice.selection, choice.against)
    rows = {
        name: entries
        for name, entries in table.rows.items()
        if any(entry.percents for entry in entries)
    }
    if not rows:
        raise UserError(
            f"differences: no run has the data, labels and seed of one of {choice.against}"
        )
    title = METRICS[choice.metric][1]
    panels = {}
    for number, (data, labels) in enumerate(table.columns):
        found = {name: entries[number] for name, entries in rows.items()}
        panels[f"{data}, {labels or 'all'} labels"] = found
    return partial(_draw, panels, f"{title} minus that of {choice.against} (points)")


def _draw(panels: Mapping[str, Rows], across: str, theme: Theme) -> Figure:
    names = _ordered(panels)
    height = max(2.4, 1.2 + PITCH * len(names))
    width = 4.2 + max(extent(drawable(name), NAME)[0] for name in names)
    figure, axes = page(theme, len(panels), max(1, int(14 / width)), (width, height))
    for panel, (title, rows) in zip(axes, panels.items(), strict=True):
        dress(panel, theme, title)
        panel.grid(visible=False, axis="y")
        panel.axvline(0, color=theme.gray, linewidth=1)
        for place, name in enumerate(names):
            _plot(panel, place, rows[name], theme)
        shown = [drawable(name) for name in names]
        panel.set_yticks(range(len(names)), shown, size=NAME, color=theme.ink, parse_math=False)
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.margins(x=0.08)
    figure.supxlabel(drawable(across), size=NAME, color=theme.gray)
    keys = [_dot(theme), _bar(theme, True), _bar(theme, False)]
    words = ["a seed", "mean, every seed on one side", "mean, seeds on both sides"]
    legend(figure, theme, keys, words, max(1, int(figure.get_figwidth() / 2.6)))
    return figure


def _ordered(panels: Mapping[str, Rows]) -> list[str]:
    """The best first, by the mean of what there is in the panels."""

    def rank(name: str) -> float:
        means = [rows[name].mean for rows in panels.values()]
        there = [mean for mean in means if mean is not None]
        return -sum(there) / len(there)

    return sorted(next(iter(panels.values())), key=rank)


def _plot(axes: Axes, place: int, entry: Entry, theme: Theme) -> None:
    """The seeds as dots on a line from the least to the greatest, and their mean as a bar."""
    if entry.mean is None:
        return
    low, high = min(entry.percents), max(entry.percents)
    axes.plot([low, high], [place, place], color=theme.frame, linewidth=1.2, zorder=1)
    if len(entry.percents) > 1:
        axes.add_line(_bar(theme, low > 0 or high < 0, entry.mean, place))
    for percent in entry.percents:
        axes.add_line(_dot(theme, percent, place))


def _bar(theme: Theme, agreed: bool, x: float = 0.0, y: float = 0.0) -> Line2D:
    color = theme.colors[0 if agreed else 7]
    return Line2D([x], [y], marker="|", markersize=10, markeredgewidth=3.5, linestyle="none",
                  zorder=2, color=color)  # fmt: skip


def _dot(theme: Theme, x: float = 0.0, y: float = 0.0) -> Line2D:
    return Line2D([x], [y], marker="o", markersize=4, linestyle="none", zorder=3,
                  markerfacecolor=theme.page, markeredgecolor=theme.ink)  # fmt: skip
