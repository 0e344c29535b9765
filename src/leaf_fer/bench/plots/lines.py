"""Accuracy as lines: against the number of labels (Fig. 4) and of experts (Fig. 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from leaf_fer.bench.plots.choice import Choice, Draw, grouped, ordered, percents
from leaf_fer.bench.plots.ends import End, name_ends, panel_size
from leaf_fer.bench.plots.theme import Theme, dress, look, page
from leaf_fer.bench.records import Record, check_protocol, row_name
from leaf_fer.config import options_of
from leaf_fer.errors import UserError
from leaf_fer.registry import method

METRICS = ("balanced", "overall")

Line = dict[float, list[float]]
"""By place, the accuracies of all seeds in percent."""

Panels = dict[tuple[str, str], dict[str, Line]]
"""By data set and metric, lines by name."""


def labels(records: Sequence[Record], choice: Choice) -> Draw:
    """Accuracy against the number of labels, a line for each method.

    A method that was trained with all labels is a level line.

    Raises:
        UserError: records do not compare, or labels are not a number.
    """
    every = sorted({_count(record) for record in records if record.labels})
    if not every:
        raise UserError("labels: all runs have all labels; expected some with fewer")
    panels = _panels(records, choice, row_name, _count)
    for lines in panels.values():
        for name in [name for name, line in lines.items() if 0 in line]:
            level = lines[name].pop(0)
            lines[f"{name}, all labels"] = {x: [mean(level)] for x in every}
            if not lines[name]:
                del lines[name]
    return partial(_draw, panels, "labels")


def experts(records: Sequence[Record], choice: Choice) -> Draw:
    """Accuracy against the number of experts, a line for each method and number of labels.

    Raises:
        UserError: records do not compare, or none has experts.
    """
    having = [record for record in records if record.config["eaf"] != "none"]
    if not having:
        raise UserError("experts: no run has an EAF; expected --eaf semantic,instance")

    def name(record: Record) -> str:
        entry = method(record.method)
        usual = {o.name: o.default for o in options_of(entry.key)} | entry.recipe
        config = {**record.config, "num_experts": usual["num_experts"]}
        budgets = {other.labels for other in having}
        more = f", {record.labels or 'all'} labels" if len(budgets) > 1 else ""
        return row_name(replace(record, config=config)) + more

    panels = _panels(having, choice, name, lambda record: int(record.config["num_experts"]))
    return partial(_draw, panels, "experts")


def _count(record: Record) -> float:
    """The number of labels; 0 for all."""
    if record.labels is not None and not record.labels.isdecimal():
        raise UserError(f"{record.cell}: labels {record.labels}: expected a number; use --only")
    return float(record.labels or 0)


def _panels(
    records: Sequence[Record],
    choice: Choice,
    name: Callable[[Record], str],
    place: Callable[[Record], float],
) -> Panels:
    check_protocol(records)
    groups = grouped(ordered(records), lambda record: (record.data, name(record), place(record)))
    panels: Panels = {}
    for (data, of, x), group in groups.items():
        for metric in METRICS:
            line = panels.setdefault((data, metric), {}).setdefault(of, {})
            line[x] = percents(group, metric, choice.selection)
    return panels


def _draw(panels: Panels, across: str, theme: Theme) -> Figure:
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    tallest = max(len(lines) for lines in panels.values())
    figure, axes = page(theme, len(panels), 2, panel_size(names, tallest))
    ends = []
    for panel, ((data, metric), lines) in zip(axes, panels.items(), strict=True):
        dress(panel, theme, f"{data}: {metric} accuracy", across, "%")
        ends.append([_plot(panel, names.index(name), name, lines[name], theme) for name in lines])
        _limit(panel, sorted({x for line in lines.values() for x in line}))
    figure.draw_without_rendering()
    for panel, own in zip(axes, ends, strict=True):
        name_ends(panel, own, theme)
    return figure


def _plot(axes: Axes, number: int, name: str, line: Mapping[float, list[float]],
          theme: Theme) -> End:  # fmt: skip
    """A line through the means with a band of one standard deviation on each side."""
    style = look(number, theme)
    xs = sorted(line)
    means = [mean(line[x]) for x in xs]
    widths = [stdev(line[x]) if len(line[x]) > 1 else 0.0 for x in xs]
    axes.plot(xs, means, linewidth=1.7, markersize=4.5, label=name, **style)
    if any(widths):
        low = [m - w for m, w in zip(means, widths, strict=True)]
        high = [m + w for m, w in zip(means, widths, strict=True)]
        axes.fill_between(xs, low, high, color=style["color"], alpha=0.13, linewidth=0)
    return name, xs[-1], means[-1], style


def _limit(axes: Axes, xs: Sequence[float]) -> None:
    """Ticks at the places that there are, and limits that stay."""
    if xs[-1] > 20 * xs[0]:
        axes.set_xscale("log")
    margin = (xs[-1] - xs[0] or 1) * 0.03
    axes.set_xlim(xs[0] / 1.1 if xs[-1] > 20 * xs[0] else xs[0] - margin, xs[-1] + margin)
    axes.xaxis.set_major_locator(FixedLocator(xs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(axes.get_ylim())
