"""Pseudo-labels over training: how many are used, and how even their classes are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from leaf_fer.bench.plots.choice import Choice, Draw, budget, grouped, ordered
from leaf_fer.bench.plots.ends import End, name_ends, panel_size
from leaf_fer.bench.plots.theme import Theme, dress, look, page
from leaf_fer.bench.records import Record, row_name
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError
from leaf_fer.report.curves import smooth

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and mean over the seeds, both (N,)."""

Watch = Mapping[str, Any]


def used(watch: Watch) -> float | None:
    """Share of the unlabeled images whose pseudo-label has a weight, or their mean weight."""
    mask: float | None = watch.get("mask")
    return mask


def evenness(watch: Watch) -> float | None:
    """Entropy of the classes of pseudo-labels over that of equal shares, in [0, 1]."""
    shares = np.asarray(watch.get("shares", ()), dtype=float)
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum() / np.log(len(shares))) if len(some) else None


VALUES: dict[str, Callable[[Watch], float | None]] = {
    "pseudo-labels used (mean mask)": used,
    "evenness of their classes (entropy)": evenness,
}


def pseudo(records: Sequence[Record], choice: Choice) -> Draw:
    """What runs have watched of their pseudo-labels, a row of panels for each data set and budget.

    The precision of pseudo-labels is not in any record: training does not see the true classes of
    unlabeled images.

    Raises:
        UserError: the folder of a run is not here, or no run has watched anything.
    """
    panels: dict[tuple[str, str], dict[str, Curve]] = {}
    groups = grouped(ordered(records), lambda each: (each.data, budget(each), row_name(each)))
    for (data, labels, name), seeds in groups.items():
        lines = [_lines(seed) for seed in seeds]
        for title, value in VALUES.items():
            curve = _curve(lines, value)
            own = panels.setdefault((f"{data}, {labels}", title), {})
            if curve is not None:
                own[name] = curve
    if not any(panels.values()):
        raise UserError("pseudo: no run has pseudo-labels; expected a semi-supervised method")
    return partial(_draw, panels)


def _lines(record: Record) -> list[dict[str, Any]]:
    folder = RunFolder(record.folder)
    if not folder.log.exists():
        raise UserError(f"{folder.log}: not there; expected the folder of the run")
    return [line for line in folder.lines() if "watch" in line]


def _curve(
    seeds: Sequence[Sequence[Mapping[str, Any]]], value: Callable[[Watch], float | None]
) -> Curve | None:
    by_step: dict[int, list[float]] = {}
    for line in (line for lines in seeds for line in lines):
        found = value(line["watch"])
        if found is not None:
            by_step.setdefault(line["step"], []).append(found)
    steps = sorted(by_step)
    means = np.array([np.mean(by_step[step]) for step in steps])
    return (np.array(steps, dtype=float), smooth(means, len(means) // 30)) if steps else None


def _draw(panels: Mapping[tuple[str, str], dict[str, Curve]], theme: Theme) -> Figure:
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    tallest = max(len(curves) for curves in panels.values())
    figure, axes = page(theme, len(panels), 2, panel_size(names, tallest))
    ends = []
    for panel, ((where, title), curves) in zip(axes, panels.items(), strict=True):
        dress(panel, theme, f"{where}\n{title}", "step")
        ends.append([_plot(panel, names.index(name), name, curves[name], theme) for name in curves])
        panel.set(xlim=(0, panel.get_xlim()[1]), ylim=(-0.03, 1.03))
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.draw_without_rendering()
    for panel, own in zip(axes, ends, strict=True):
        if own:
            name_ends(panel, own, theme)
    return figure


def _plot(axes: Axes, number: int, name: str, curve: Curve, theme: Theme) -> End:
    style = look(number, theme)
    steps, values = curve
    axes.plot(steps, values, linewidth=1.7, label=name, markersize=4.5,
              markevery=max(1, len(steps) // 8), **style)  # fmt: skip
    return name, float(steps[-1]), float(values[-1]), style
