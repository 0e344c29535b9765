"""Drawings as SVG in a page: lines, reliability, points in the plane.

Colors are those of the page (report.css), so that they are right on a light and a dark one. Series
differ in color and in dashes; every drawing says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaf_fer.metrics import reliability
from leaf_fer.report.markup import SPACE, Markup, percent, tag

WIDTH, HEIGHT = 360.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 12.0, 10.0, 36.0
MOST_POINTS = 200
"""Of a line; more cannot be told apart."""
SLOTS = 8
"""Colors that the page has."""
BINS = 10


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        name: in the legend.
        steps: (n,), ascending.
        values: (n,); what is not finite is left out.
        slot: number of its color.
        dashed: whether it is.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    slot: int = 0
    dashed: bool = False


def line_chart(
    title: str, series: Sequence[Series], *, share: bool = False, mark: float | None = None
) -> Markup:
    """Lines over the steps of training, with a legend.

    Args:
        title: above it.
        series: at least one with a finite value, or the chart says that there is none.
        share: values are shares, shown in percent.
        mark: a value that a dotted line stands at, such as that of chance.
    """
    thin = [_thinned(each) for each in series]
    drawn = [each for each in thin if len(each.steps)]
    if not drawn:
        return tag("figure", tag("h3", title), tag("p", "Nothing was recorded.", class_="soft"))
    last = max(each.steps[-1] for each in drawn)
    values = [value for each in drawn for value in each.values]
    low, high = min(0.0, *values), max([*values, *([mark] if mark else [])])
    ups = ticks(low, high, 4)
    across = ticks(0, last, 4)
    scale = Scale((0, max(last, 1)), (ups[0], ups[-1]))
    parts = [_grid(scale, ups, across, share)]
    if mark is not None:
        parts.append(_line([0, last], [mark, mark], scale, "mark"))
    for each in drawn:
        style = f"line s{each.slot % SLOTS}{' dashed' if each.dashed else ''}"
        parts.append(_line(each.steps, each.values, scale, style))
    ends = "; ".join(
        f"{each.name} ends at {percent(each.values[-1]) if share else f'{each.values[-1]:.3g}'}"
        for each in drawn
    )
    return tag(
        "figure",
        tag("h3", title),
        legend([(each.name, each.slot, each.dashed) for each in drawn]),
        canvas(f"{title} over {last:,.0f} steps: {ends}", parts),
    )


def legend(names: Sequence[tuple[str, int, bool]]) -> Markup:
    """Names of series with a piece of their lines: name, slot, dashed."""
    items = []
    for name, slot, dashed in names:
        style = f"line s{slot % SLOTS}{' dashed' if dashed else ''}"
        piece = tag("path", class_=style, d="M1 5H23")
        swatch = tag("svg", piece, viewBox="0 0 24 10", width="24", height="10", aria_hidden="true")
        items.append(tag("li", swatch, name))
    return tag("ul", items, class_="key")


def classes_key(names: Sequence[tuple[str, int]]) -> Markup:
    """Names of classes with their dots: name, number of the class."""
    items = []
    for name, number in names:
        dot = tag("path", class_=_dot(number), d="M6 6h0")
        swatch = tag("svg", dot, viewBox="0 0 12 12", width="12", height="12", aria_hidden="true")
        items.append(tag("li", swatch, name))
    return tag("ul", items, class_="key dots")


def _dot(number: int) -> str:
    """The look of a class in the plane: color, and a round or a square dot."""
    return f"dot s{number % SLOTS}{' square' if number % 2 else ''}"


def canvas(
    text: str, parts: Sequence[Markup], size: tuple[float, float] = (WIDTH, HEIGHT)
) -> Markup:
    """A drawing that is as wide as its place, and what it shows in words."""
    return tag("svg", *parts, viewBox=f"0 0 {size[0]:g} {size[1]:g}", role="img", aria_label=text)


@dataclass(frozen=True)
class Scale:
    """From values to places in a drawing: the ends of the axes."""

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        """Place from the left."""
        low, high = self.across
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Place from the top."""
        low, high = self.up
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers, about ``count`` + 1 of them, the first and the last around what is shown.

    Example:
        >>> ticks(0, 150, 3), ticks(0, 0.33, 4)
        ([0.0, 50.0, 100.0, 150.0], [0.0, 0.1, 0.2, 0.3, 0.4])
    """
    if high <= low:
        high = low + 1
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _grid(scale: Scale, ups: list[float], across: list[float], share: bool) -> Markup:
    """Lines behind a chart, and the numbers of its axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    rules = "".join(f"M{LEFT:g} {scale.y(value):.1f}H{right:g}" for value in ups)
    labels = [
        tag("text", _axis(value, share), x=LEFT - 6, y=f"{scale.y(value) + 3.5:.1f}",
            text_anchor="end")
        for value in ups
    ]  # fmt: skip
    shown = [value for value in across if value <= scale.across[1] * 1.001]
    for value in shown:
        labels.append(
            tag("text", f"{value:,.0f}", x=f"{scale.x(value):.1f}", y=f"{bottom + 15:g}",
                text_anchor="middle" if value < scale.across[1] * 0.97 else "end")
        )  # fmt: skip
    labels.append(tag("text", "step", x=f"{(LEFT + right) / 2:g}", y=f"{bottom + 30:g}",
                      text_anchor="middle"))  # fmt: skip
    return tag("g", tag("path", class_="rule", d=rules), labels, class_="axis")


def _axis(value: float, share: bool) -> str:
    return f"{100 * value:.6g}{SPACE}%" if share else f"{value:.4g}"


def _line(steps: Sequence[float], values: Sequence[float], scale: Scale, style: str) -> Markup:
    pairs = zip(steps, values, strict=True)
    places = "L".join(f"{scale.x(step):.1f} {scale.y(value):.1f}" for step, value in pairs)
    # A single point has no length; round ends of a line to itself show it.
    return tag("path", class_=style, d=f"M{places}{'h0' if len(steps) == 1 else ''}")


def _thinned(series: Series) -> Series:
    """Without what is not finite, and with few enough points."""
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) > MOST_POINTS:
        kept = np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int))
        steps, values = steps[kept], values[kept]
    return Series(series.name, steps.tolist(), values.tolist(), series.slot, series.dashed)


def reliability_chart(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Markup:
    """Accuracy by confidence in bars, the diagonal, and how many answers are so sure.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,).
    """
    count, accuracy, sure = reliability(confidence, right, BINS)
    scale = Scale((0, 1), (0, 1))
    base = HEIGHT - BOTTOM
    wide = (WIDTH - LEFT - RIGHT) / BINS
    bars = []
    for place in np.flatnonzero(count):
        x, top = scale.x(place / BINS) + 2, scale.y(accuracy[place])
        bars.append(tag("rect", x=f"{x:.1f}", y=f"{top:.1f}", width=f"{wide - 4:.1f}",
                        height=f"{base - top:.1f}", class_="bar"))  # fmt: skip
        share = count[place] / count.sum()
        bars.append(tag("rect", x=f"{x:.1f}", y=f"{base - 50 * share:.1f}", class_="many",
                        width=f"{wide - 4:.1f}", height=f"{50 * share:.1f}"))  # fmt: skip
        bars.append(tag("path", class_="sure",
                        d=f"M{x:.1f} {scale.y(sure[place]):.1f}h{wide - 4:.1f}"))  # fmt: skip
    fifths = [place / 5 for place in range(6)]
    words = [
        tag("text", f"{100 * v:.0f}{SPACE}%", x=f"{scale.x(v):.1f}", y=f"{base + 15:g}",
            text_anchor="end" if v == 1 else "middle")
        for v in fifths
    ]  # fmt: skip
    words += [
        tag("text", f"{100 * v:.0f}{SPACE}%", x=LEFT - 6, y=f"{scale.y(v) + 3.5:.1f}",
            text_anchor="end")
        for v in fifths
    ]  # fmt: skip
    words.append(tag("text", "confidence", x=f"{(LEFT + WIDTH - RIGHT) / 2:g}", y=f"{base + 30:g}",
                     text_anchor="middle"))  # fmt: skip
    rules = "".join(f"M{LEFT:g} {scale.y(v):.1f}H{WIDTH - RIGHT:g}" for v in fifths)
    frame = tag("g", tag("path", class_="rule", d=rules), words, class_="axis")
    diagonal = tag("path", class_="mark", d=f"M{scale.x(0):.1f} {base:g}L{scale.x(1):.1f} {TOP:g}")
    said = "; ".join(
        f"{100 * place / BINS:.0f} to {100 * (place + 1) / BINS:.0f} %: right in "
        f"{percent(accuracy[place], 0)} of {count[place]:,}"
        for place in np.flatnonzero(count)
    )
    return canvas(f"Accuracy by confidence. {said}", [frame, *bars, diagonal])


def plane_chart(
    plane: NDArray[np.float64], targets: NDArray[np.int64], classes: Sequence[str]
) -> Markup:
    """Points in the plane, colored by class, with the name of every class where most of it is.

    Args:
        plane: (n, 2).
        targets: (n,) int64 in [0, C).
        classes: names of the C classes.
    """
    wide, high, edge = 560.0, 420.0, 16.0
    low, span = plane.min(axis=0), np.maximum(np.ptp(plane, axis=0), 1e-9)
    places = edge + (plane - low) / span * (np.array([wide, high]) - 2 * edge)
    dots, names, spots = [], [], []
    for number, name in enumerate(classes):
        own = places[targets == number]
        if not len(own):
            continue
        # A line to itself with round or square ends is a dot: few bytes, one element a class.
        d = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in own)
        dots.append(tag("path", class_=_dot(number), d=d))
        spots.append((name, *np.median(own, axis=0)))
    for name, x, y in _apart(spots, high):
        names.append(tag("text", name, x=f"{x:.0f}", y=f"{y:.0f}", text_anchor="middle",
                         class_="halo"))  # fmt: skip
    text = f"t-SNE of {len(plane):,} faces of {len(spots)} classes"
    return canvas(text, [*dots, tag("g", names, class_="names")], (wide, high))


def _apart(
    spots: Sequence[tuple[str, float, float]], high: float
) -> list[tuple[str, float, float]]:
    """Names moved up or down until none covers another."""
    placed: list[tuple[str, float, float]] = []
    for name, x, y in sorted(spots, key=lambda spot: spot[2]):
        x = min(max(x, 4.2 * len(name) + 4), 556 - 4.2 * len(name))
        for other, across, down in placed:
            near = abs(x - across) < 4.2 * (len(name) + len(other)) + 4
            if near and y - down < 18:
                y = down + 18
        placed.append((name, x, min(y, high - 6)))
    return placed
