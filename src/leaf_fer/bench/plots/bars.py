"""Methods with and without EAF, as bars (Fig. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from leaf_fer.bench.comparison import METRICS
from leaf_fer.bench.plots.choice import Choice, Draw, budget, grouped, ordered, percents
from leaf_fer.bench.plots.theme import SMALL, Theme, dress, legend, page
from leaf_fer.bench.records import Record, check_protocol
from leaf_fer.errors import UserError

WIDE = 0.44
"""Inches of a bar, so that the difference above it has room."""

Bars = dict[str, dict[str, list[float]]]
"""By labels and EAF, the accuracies of all seeds in percent."""


def eaf(records: Sequence[Record], choice: Choice) -> Draw:
    """Accuracy with and without EAF by the number of labels, a panel for each method with both.

    Raises:
        UserError: records do not compare, or no method has both.
    """
    check_protocol(records)
    groups = grouped(
        ordered(records), lambda each: (each.data, each.method, budget(each), each.config["eaf"])
    )
    panels: dict[tuple[str, str], Bars] = {}
    for (data, method, labels, levels), group in groups.items():
        bars = panels.setdefault((data, method), {}).setdefault(labels, {})
        bars[str(levels)] = percents(group, choice.metric, choice.selection)
    compared = {
        key: bars
        for key, bars in panels.items()
        if any("none" in values and len(values) > 1 for values in bars.values())
    }
    if not compared:
        raise UserError("eaf: no method was run both with --eaf none and with another")
    there = {level for bars in compared.values() for values in bars.values() for level in values}
    found = ["none", *sorted(there - {"none"})]
    return partial(_draw, compared, found, choice.metric)


def _draw(
    panels: Mapping[tuple[str, str], Bars], levels: Sequence[str], metric: str, theme: Theme
) -> Figure:
    groups = max(len(bars) for bars in panels.values())
    width = 0.9 + WIDE * groups * (len(levels) + 1)
    columns = max(1, int(14 / width))
    figure, axes = page(theme, len(panels), columns, (width, 3.2))
    for panel, ((data, method), bars) in zip(axes, panels.items(), strict=True):
        dress(panel, theme, f"{method}, {data}", up=f"{METRICS[metric][1]} (%)")
        panel.grid(visible=False, axis="x")
        _plot(panel, bars, levels, theme)
        panel.set_xlim(-0.6, groups - 0.4)
    tops = [panel.get_ylim()[1] for panel in axes]
    for panel in axes:
        panel.set_ylim(0, max(tops) * 1.04)
    names = ["without EAF", *(f"EAF {level}" for level in levels[1:])]
    handles = [Patch(facecolor=_color(number, theme)) for number in range(len(levels))]
    across = max(1, int(figure.get_figwidth() / 2.2))
    legend(figure, theme, handles, names, across)
    return figure


def _color(number: int, theme: Theme) -> str:
    """Gray without EAF, a hue with it."""
    return theme.colors[number - 1] if number else theme.colors[7]


def _plot(axes: Axes, bars: Bars, levels: Sequence[str], theme: Theme) -> None:
    wide = 1 / (len(levels) + 1)
    for place, values in enumerate(bars.values()):
        without = mean(values["none"]) if "none" in values else None
        for number, level in enumerate(levels):
            if level not in values:
                continue
            height = mean(values[level])
            error = stdev(values[level]) if len(values[level]) > 1 else 0.0
            x = place + (number - (len(levels) - 1) / 2) * wide
            axes.bar(x, height, wide * 0.92, color=_color(number, theme))
            if error:
                axes.errorbar(x, height, error, color=theme.ink, linewidth=1, capsize=3)
            if number and without is not None:
                axes.annotate(f"{height - without:+.1f}", (x, height + error), (0, 3),
                              textcoords="offset points", ha="center", va="bottom",
                              size=SMALL, color=theme.ink)  # fmt: skip
    axes.set_xticks(range(len(bars)), list(bars), parse_math=False)
