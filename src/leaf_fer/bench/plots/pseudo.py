"""Pseudo-labels over training: how many are right and sure, how many are used, of which classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

FEWEST = 10
"""Images that a precision is drawn of: that of fewer jumps between nothing and all."""

Line = Mapping[str, Any]
"""Of metrics.jsonl."""

Value = Callable[[Line], float | None]


@dataclass(frozen=True)
class Curve:
    """What the seeds of a run have found; (N,) each.

    Attributes:
        steps: where.
        means: over the seeds.
        widths: standard deviations; 0 for one seed.
    """

    steps: NDArray[np.float64]
    means: NDArray[np.float64]
    widths: NDArray[np.float64]


Panels = dict[tuple[str, str], dict[str, Curve]]
"""By data set with budget and title, curves by name."""


def at(*names: str) -> Value:
    """What a line has under these names, one below the other."""

    def value(line: Line) -> float | None:
        found: Any = line
        for name in names:
            found = (found or {}).get(name)
        return None if found is None else float(found)

    return value


def precise(threshold: str) -> Value:
    """Share of the pseudo-labels at least so confident that is right, if they are not too few."""

    def value(line: Line) -> float | None:
        watched: Line | None = line.get("unlabeled")
        if watched is None or watched["coverage"][threshold] * watched["count"] < FEWEST - 0.5:
            return None
        return float(watched["precision"][threshold])

    return value


def evenness(line: Line) -> float | None:
    """Entropy of the classes of pseudo-labels over that of equal shares, in [0, 1]."""
    shares = np.asarray(line.get("watch", {}).get("shares", ()), dtype=float)
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum() / np.log(len(shares))) if len(some) else None


SIZE = "candidates of an image (mean number)"

ROWS: tuple[dict[str, Value], ...] = (
    {
        "precision, confidence of 95 % or more": precise("0.95"),
        "coverage, confidence of 95 % or more": at("unlabeled", "coverage", "0.95"),
    },
    {
        "precision, confidence of 80 % or more": precise("0.8"),
        "coverage, confidence of 80 % or more": at("unlabeled", "coverage", "0.8"),
    },
    {
        "true class among the candidates": at("unlabeled", "candidates", "hits"),
        SIZE: at("unlabeled", "candidates", "size"),
    },
    {
        "pseudo-labels used (mean mask)": at("watch", "mask"),
        "evenness of their classes (entropy)": evenness,
    },
)
"""Panels that stand side by side, by title."""


def pseudo(records: Sequence[Record], choice: Choice) -> Draw:
    """What runs have watched of their pseudo-labels, rows of panels for each data set and budget.

    Whether they are right is known of runs with ``watch_unlabeled``.

    Raises:
        UserError: the folder of a run is not here, or no run has watched anything.
    """
    places: dict[str, dict[str, list[list[Line]]]] = {}
    groups = grouped(ordered(records), lambda each: (each.data, budget(each), row_name(each)))
    for (data, labels, name), seeds in groups.items():
        places.setdefault(f"{data}, {labels}", {})[name] = [_lines(seed) for seed in seeds]
    panels = dict(panel for where, runs in places.items() for panel in _panels(where, runs))
    if not panels:
        raise UserError("pseudo: no run has pseudo-labels; expected a semi-supervised method")
    return partial(_draw, panels)


def _lines(record: Record) -> list[Line]:
    folder = RunFolder(record.folder)
    if not folder.log.exists():
        raise UserError(f"{folder.log}: not there; expected the folder of the run")
    return list(folder.lines())


def _panels(
    where: str, runs: Mapping[str, Sequence[Sequence[Line]]]
) -> Iterator[tuple[tuple[str, str], dict[str, Curve]]]:
    """The panels of a data set and budget, without rows that nobody has anything for."""
    for row in ROWS:
        found = {
            title: {n: curve for n, seeds in runs.items() if (curve := _curve(seeds, value))}
            for title, value in row.items()
        }
        if any(found.values()):
            yield from (((where, title), curves) for title, curves in found.items())


def _curve(seeds: Sequence[Sequence[Line]], value: Value) -> Curve | None:
    by_step: dict[int, list[float]] = {}
    for line in (line for lines in seeds for line in lines):
        found = value(line)
        if found is not None:
            by_step.setdefault(line["step"], []).append(found)
    if not by_step:
        return None
    # A mean over now one seed and now three would jump without any of them doing so.
    most = max(len(values) for values in by_step.values())
    steps = sorted(step for step, values in by_step.items() if len(values) == most)
    values = np.array([by_step[step] for step in steps])
    widths = values.std(axis=1, ddof=1) if most > 1 else np.zeros(len(steps))
    reach = len(steps) // 30
    return Curve(
        np.array(steps, dtype=float), smooth(values.mean(axis=1), reach), smooth(widths, reach)
    )


def _draw(panels: Panels, theme: Theme) -> Figure:
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    tallest = max(len(curves) for curves in panels.values())
    figure, axes = page(theme, len(panels), 2, panel_size(names, tallest))
    ends = []
    for panel, ((where, title), curves) in zip(axes, panels.items(), strict=True):
        dress(panel, theme, f"{where}\n{title}", "step")
        ends.append([_plot(panel, names.index(name), name, curves[name], theme) for name in curves])
        panel.set(xlim=(0, panel.get_xlim()[1]))
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if title == SIZE:
            panel.set(ylim=(0, panel.get_ylim()[1]))
        else:
            panel.set(ylim=(-0.03, 1.03))
            panel.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.draw_without_rendering()
    for panel, own in zip(axes, ends, strict=True):
        if own:
            name_ends(panel, own, theme)
    return figure


def _plot(axes: Axes, number: int, name: str, curve: Curve, theme: Theme) -> End:
    """A line through the means with a band of one standard deviation on each side."""
    style = look(number, theme)
    steps, means, widths = curve.steps, curve.means, curve.widths
    axes.plot(steps, means, linewidth=1.7, label=name, markersize=4.5,
              markevery=max(1, len(steps) // 8), **style)  # fmt: skip
    if widths.any():
        axes.fill_between(steps, means - widths, means + widths, color=style["color"], alpha=0.13,
                          linewidth=0)  # fmt: skip
    return name, float(steps[-1]), float(means[-1]), style
