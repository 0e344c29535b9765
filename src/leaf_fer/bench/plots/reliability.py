"""Reliability diagrams: whether a model is right as often as it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from leaf_fer.bench.plots.choice import Choice, Draw, caption, check_panels, ordered
from leaf_fer.bench.plots.runs import answers
from leaf_fer.bench.plots.theme import Theme, dress, legend, page
from leaf_fer.bench.records import Record
from leaf_fer.metrics import calibration_error
from leaf_fer.metrics import reliability as bins_of

BINS = 15

Sureness = tuple[str, NDArray[np.float64], NDArray[np.bool_]]
"""Title, and by face confidence and whether the answer is right, both (N,)."""


def reliability(records: Sequence[Record], choice: Choice) -> Draw:
    """Accuracy by confidence in 15 bins, with the expected calibration error, a panel for each run.

    Raises:
        UserError: a run is not here, or there are too many.
    """
    check_panels(records)
    panels: list[Sureness] = []
    for record in ordered(records):
        found = answers(record)
        right = found.probabilities.argmax(axis=1) == found.targets
        confidence = found.probabilities.max(axis=1).astype(np.float64)
        panels.append((caption(record), confidence, right))
    return partial(_draw, panels)


def _draw(panels: Sequence[Sureness], theme: Theme) -> Figure:
    figure, axes = page(theme, len(panels), 4, (3.3, 3.5))
    for panel, (title, confidence, right) in zip(axes, panels, strict=True):
        error = calibration_error(confidence, right, BINS)
        facts = f"ECE {100 * error:.1f} %, accuracy {100 * right.mean():.1f} %"
        dress(panel, theme, f"{title}\n{facts}", "confidence", "accuracy")
        _plot(panel, confidence, right, theme)
    handles = [Patch(facecolor=theme.colors[0]), Patch(**_gap(theme))]
    legend(figure, theme, handles, ["accuracy", "gap"])
    return figure


def _gap(theme: Theme) -> dict[str, Any]:
    """A look that shows on bars and beside them: the gap may be on either side."""
    return {"facecolor": "none", "edgecolor": theme.colors[1], "hatch": "/////", "linewidth": 0.8}


def _plot(
    axes: Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_], theme: Theme
) -> None:
    count, accuracies, means = bins_of(confidence, right, BINS)
    there = np.flatnonzero(count)
    accuracy, sure = accuracies[there], means[there]
    middle = (there + 0.5) / BINS
    axes.bar(middle, accuracy, 0.92 / BINS, color=theme.colors[0])
    axes.bar(middle, sure - accuracy, 0.92 / BINS, accuracy, **_gap(theme))
    axes.plot([0, 1], [0, 1], color=theme.gray, linewidth=1, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(0, 1))
