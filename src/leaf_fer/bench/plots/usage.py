"""Which experts work on which class: mean gate weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from leaf_fer.bench.plots.choice import Choice, Draw, caption, check_panels, ordered
from leaf_fer.bench.plots.runs import Answers, answers
from leaf_fer.bench.plots.theme import SMALL, Theme, dress, page
from leaf_fer.bench.records import Record
from leaf_fer.errors import UserError
from leaf_fer.report import matrix
from leaf_fer.report.facts import mean_by_class
from leaf_fer.report.page import drawable

Heat = tuple[str, tuple[str, ...], NDArray[np.float64]]
"""Title, classes, and (C, E) weights; NaN for a class without faces."""


def usage(records: Sequence[Record], choice: Choice) -> Draw:
    """Mean weight of every expert for the faces of every class, a panel for each gate of a run.

    Raises:
        UserError: no run has experts, or one is not here.
    """
    having = [record for record in ordered(records) if record.config["eaf"] != "none"]
    if not having:
        raise UserError("usage: no run has an EAF; expected --eaf semantic,instance")
    check_panels(having)
    return partial(_draw, [heat for record in having for heat in _heats(record)])


def _heats(record: Record) -> list[Heat]:
    found = answers(record)
    return [
        (f"{caption(record)}\n{level} EAF", found.classes, by_class(found, level))
        for level in found.gates
    ]


def by_class(found: Answers, level: str) -> NDArray[np.float64]:
    """Mean gate weights of a level: (C, E), rows sum to 1 or are NaN."""
    return mean_by_class(found.gates[level], found.targets, len(found.classes))


def _draw(heats: Sequence[Heat], theme: Theme) -> Figure:
    most = max(weights.shape[1] for _, _, weights in heats)
    tallest = max(len(classes) for _, classes, _ in heats)
    size = (1.6 + 0.5 * max(most, 4), 1.4 + 0.3 * tallest)
    figure, axes = page(theme, len(heats), 4, size)
    for panel, (title, classes, weights) in zip(axes, heats, strict=True):
        dress(panel, theme, title, "expert")
        panel.grid(visible=False)
        _plot(panel, classes, weights)
    return figure


def _plot(axes: Axes, classes: Sequence[str], weights: NDArray[np.float64]) -> None:
    colors = LinearSegmentedColormap.from_list("usage", [matrix.LIGHT, matrix.DARK])
    axes.imshow(weights, cmap=colors.with_extremes(bad=matrix.EMPTY), vmin=0, vmax=1, aspect="auto")
    for (row, column), weight in np.ndenumerate(weights):
        text = "n/a" if np.isnan(weight) else f"{weight:.2f}"
        axes.text(column, row, text, size=SMALL, color="black", ha="center", va="center")
    axes.set_xticks(range(weights.shape[1]), [str(1 + e) for e in range(weights.shape[1])])
    axes.set_yticks(range(len(classes)), [drawable(name) for name in classes], parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
