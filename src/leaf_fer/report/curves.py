"""Losses and validation accuracy over the steps of training, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from leaf_fer.report.page import GRAY, INK, drawable, extent, plain_style, save, wrap

Place = Literal["outside upper left", "outside lower left"]
Lines = Sequence[Mapping[str, Any]]

NAME, SMALL = 10.0, 9.0  # points
WIDTH = 11.0  # inches
# Okabe and Ito (2008), without yellow, which does not show on white, and with gray.
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F",
)  # fmt: skip
MARKERS = "osD^vP*X"
STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MOST_MARKERS = 25  # on a line


def learning_curves(runs: Mapping[str, Lines], path: Path) -> None:
    """Draw loss terms, smoothed, and validation accuracy of up to eight runs side by side.

    Where no run has been validated, the losses are all there is.

    Args:
        runs: by name, the lines of metrics.jsonl: dicts with ``step`` and either ``loss``, numbers
            by term, or ``validation``, a dict with ``balanced_accuracy``. Others are passed over.
        path: file to write.

    Raises:
        ValueError: there is no run, or there are more than colors to tell them apart, or a
            line lacks its step.
        UserError: the file cannot be written.
    """
    if not 1 <= len(runs) <= len(COLORS):
        raise ValueError(f"expected 1 to {len(COLORS)} runs in a picture, got {len(runs)}")
    if not all("step" in line for lines in runs.values() for line in lines):
        raise ValueError("expected lines of metrics.jsonl, got one without its step")
    with plain_style():
        save(_curves(runs), path)


def _curves(runs: Mapping[str, Lines]) -> Figure:
    validated = any("validation" in line for lines in runs.values() for line in lines)
    titles = [f"{name}: {_best(runs[name])}" if validated else name for name in runs]
    names = [wrap(drawable(title), NAME, WIDTH - 1.5) for title in titles]
    terms = list(dict.fromkeys(
        term for lines in runs.values() for line in lines for term in line.get("loss", {})
    ))  # fmt: skip
    labels = [wrap(drawable(term), NAME, WIDTH - 1.5) for term in terms]
    styles = _styles(len(terms))
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    size = (WIDTH, 4.2 + _height(names) + _height(labels))
    figure = Figure(size, layout=layout, facecolor="white")
    losses, *others = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    keys = list(zip(COLORS, MARKERS, runs.values(), strict=False))
    last = max((line["step"] for lines in runs.values() for line in lines), default=1)
    for color, _, lines in keys:
        for term, style in zip(terms, styles, strict=True):
            _plot_term(losses, lines, term, color=color, linestyle=style)
    _dress(losses, "training loss", last)
    _limit(losses)
    for accuracy in others:  # one, or none
        for color, marker, lines in keys:
            _plot_validation(accuracy, lines, color=color, marker=marker)
        _dress(accuracy, "balanced accuracy on the validation set", last)
        accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.6g} %")
    marked = [(color, marker if validated else "") for color, marker, _ in keys]
    by_color = [Line2D([], [], color=color, marker=marker) for color, marker in marked]
    _legend(figure, by_color, names, "outside upper left")
    by_style = [Line2D([], [], color=INK, linestyle=style) for style in styles]
    if terms:
        _legend(figure, by_style, labels, "outside lower left")
    return figure


def _best(lines: Lines) -> str:
    scores = [
        (s["balanced_accuracy"], -line["step"]) for line in lines if (s := line.get("validation"))
    ]
    if not scores:
        return "no validation"
    score, step = max(scores)
    return f"best {100 * score:.2f} % at step {-step:,}"


def _columns(labels: list[str]) -> int:
    """How many columns of a legend fit."""
    widest = max((extent(label, NAME)[0] for label in labels), default=0.0)
    return max(1, min(len(labels), int((WIDTH - 0.4) / (widest + 0.85))))


def _height(labels: list[str]) -> float:
    """Height of a legend in inches."""
    tallest = max((extent(label, NAME)[1] for label in labels), default=0.0)
    return math.ceil(len(labels) / _columns(labels)) * (tallest + 0.1)


def _styles(count: int) -> list[Any]:
    """Line styles that differ: beyond the usual ones, dashes with ever more dots."""
    more = [(0, (6, 1.5) + (1, 1.5) * dots) for dots in range(2, count)]
    return [*STYLES, *more][:count]


def smooth(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Average every value with its neighbors: (N,) -> (N,).

    Args:
        values: values that are not finite are left out.
        reach: neighbors on each side, with linearly falling weight; 0 changes nothing.
    """
    weights = 1.0 + reach - np.abs(np.arange(-reach, reach + 1))
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), weights)
    count = np.convolve(finite, weights)
    inside = slice(reach, reach + len(values))
    with np.errstate(invalid="ignore"):
        return np.where(finite, total[inside] / count[inside], np.nan)


def _plot_term(axes: Axes, lines: Lines, term: str, **look: Any) -> None:
    found = [(line["step"], line["loss"][term]) for line in lines if term in line.get("loss", {})]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    finite = np.isfinite(values)
    if not finite.any():
        return
    values = np.where(finite, values, np.nan)
    reach = len(values) // 30
    if reach:
        axes.plot(steps, values, color=look["color"], linewidth=0.8, alpha=0.2)
    axes.plot(steps, smooth(values, reach), linewidth=1.7, **look)


def _plot_validation(axes: Axes, lines: Lines, **look: Any) -> None:
    found = [
        (line["step"], line["validation"]["balanced_accuracy"])
        for line in lines
        if "validation" in line
    ]
    if found:
        every = -(-len(found) // MOST_MARKERS)
        axes.plot(*zip(*found, strict=True), linewidth=1.7, markersize=5, markevery=every, **look)


def _dress(axes: Axes, title: str, last: int) -> None:
    axes.set_title(title, loc="left", size=11, color=INK)
    axes.set_xlabel("step", color=GRAY)
    axes.set_xlim(0, max(last, 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(colors=GRAY, labelsize=SMALL)
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b0b0b0")
    if not axes.lines:
        axes.set(xticks=[], yticks=[], xlabel="")
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=GRAY)


def _limit(axes: Axes) -> None:
    """Let no single peak of a raw curve squeeze the smoothed ones."""
    smoothed = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_alpha() is None]
    values = np.concatenate([np.zeros(1), *smoothed])
    low, high = np.nanmin(values), np.nanmax(values)
    if high > low:
        axes.set_ylim(low - (0.05 * (high - low) if low < 0 else 0), high + 0.1 * (high - low))


def _legend(figure: Figure, handles: list[Line2D], labels: list[str], place: Place) -> None:
    legend = figure.legend(
        handles,
        labels,
        loc=place,
        ncols=_columns(labels),
        fontsize=NAME,
        labelcolor=INK,
        frameon=False,
        handlelength=2.8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
