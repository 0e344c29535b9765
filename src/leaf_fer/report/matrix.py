"""A confusion matrix as a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from leaf_fer.report.page import GRAY, MARGIN, Page, drawable, extent, plain_style, save, wrap

TITLE, NAME, SMALL, CAPTION = 12.0, 10.0, 8.0, 9.0  # points
GAP = 0.1  # inches
# From 0 to 100 %: one hue, and on both ends black has a contrast above 7 (WCAG 2, level AAA).
LIGHT, DARK = np.array([to_rgb("#f4f8fc"), to_rgb("#58a6da")])
EMPTY = "#eeeeee"  # the row of a class without images


def confusion_matrix(
    matrix: ArrayLike, classes: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draw a confusion matrix with its rows in percent, and its counts.

    Args:
        matrix: (C, C) integer counts, rows are true classes, columns predicted ones.
        classes: names of the C classes.
        path: file to write.
        title: first line of the picture.

    Raises:
        ValueError: the matrix is not one of counts, has none, or does not fit the classes.
        UserError: the file cannot be written.
    """
    counts = np.asarray(matrix)
    num_classes = len(classes)
    if counts.shape != (num_classes, num_classes) or not num_classes:
        raise ValueError(
            f"expected a matrix ({num_classes}, {num_classes}) for {num_classes} classes, "
            f"got {counts.shape}"
        )
    if counts.dtype.kind not in "iu" or counts.min() < 0 or not counts.any():
        raise ValueError(f"expected counts >= 0, not all 0, got {counts.dtype} from {counts.min()}")
    with plain_style():
        names = break_names([drawable(name) for name in classes])
        save(draw(counts, names, drawable(title)).figure, path)


def draw(counts: NDArray[np.integer[Any]], names: list[str], title: str) -> Page:
    """The figure of :func:`confusion_matrix`; every name is one to three lines."""
    widths, heights = zip(*(extent(name, NAME) for name in names), strict=True)
    width = max(0.8, 2.8 / len(names), max(widths) + 0.16)
    height = max(0.52, 1.7 / len(names), max(heights) + 0.14)
    facts = _facts(counts)
    left = MARGIN + 0.25 + max(widths) + GAP
    right = max(left + width * len(names), MARGIN + extent(facts, CAPTION)[0]) + MARGIN
    head = wrap(title, TITLE, right - 2 * MARGIN, "bold")
    note = wrap("Every row sums to 100 %; its diagonal, in bold, is the recall of the class.",
                SMALL, right - 2 * MARGIN)  # fmt: skip
    under = MARGIN + (extent(head, TITLE, "bold")[1] + 0.08 if title else 0)
    above = under + extent(facts, CAPTION)[1] + 0.2
    top = above + 0.22 + max(heights) + 0.08
    bottom = top + height * len(names)

    page = Page(right, bottom + GAP + extent(note, SMALL)[1] + MARGIN)
    page.text(MARGIN, MARGIN, head, TITLE, weight="bold")
    page.text(MARGIN, under, facts, CAPTION, color=GRAY)
    page.text(MARGIN, bottom + GAP, note, SMALL, color=GRAY)
    across, down = left + width * len(names) / 2, (top + bottom) / 2
    page.text(across, above, "predicted class", CAPTION, color=GRAY, ha="center")
    page.text(MARGIN, down, "true class", CAPTION, color=GRAY, va="center", rotation=90)
    for place, name in enumerate(names):
        across, down = left + (place + 0.5) * width, top + (place + 0.5) * height
        page.text(across, top - 0.08, name, NAME, ha="center", va="bottom")
        page.text(left - GAP, down, name, NAME, ha="right", va="center", multialignment="right")
    _cells(page, counts, (left, top), (width, height))
    return page


def break_names(names: list[str]) -> list[str]:
    """Break long names into lines, but a word only if it is very long."""
    words = [extent(word, NAME)[0] for name in names for word in re.split("[ _/-]", name)]
    return [wrap(name, NAME, min(max(1.15, *words) + 0.05, 1.5)) for name in names]


def _facts(counts: NDArray[np.integer[Any]]) -> str:
    hits, truth = counts.diagonal(), counts.sum(axis=1)
    balanced = (hits[truth > 0] / truth[truth > 0]).mean()
    images = "1 image" if counts.sum() == 1 else f"{counts.sum():,} images"
    return (
        f"overall accuracy {100 * hits.sum() / truth.sum():.2f} %  ·  "
        f"balanced accuracy {100 * balanced:.2f} %  ·  {images}"
    )


def _cells(
    page: Page,
    counts: NDArray[np.integer[Any]],
    corner: tuple[float, float],
    size: tuple[float, float],
) -> None:
    truth = counts.sum(axis=1)
    for (row, column), count in np.ndenumerate(counts):
        share = float(count / truth[row]) if truth[row] else None
        fill = EMPTY if share is None else tuple(LIGHT + share * (DARK - LIGHT))
        percent = "n/a" if share is None else f"{100 * share:.1f} %"
        x, y = corner[0] + column * size[0], corner[1] + row * size[1]
        box = Rectangle((x, y), *size, facecolor=fill, edgecolor="white", linewidth=1.5)
        page.axes.add_patch(box)
        weight = "bold" if row == column else "normal"
        x, y = x + size[0] / 2, y + size[1] / 2
        look = {"ha": "center", "color": "black"}
        page.text(x, y + 0.03, percent, NAME, va="bottom", weight=weight, **look)
        page.text(x, y + 0.05, f"{count:,}", SMALL, va="top", **look)
