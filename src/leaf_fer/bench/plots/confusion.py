"""The confusion matrix of a run, all seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from leaf_fer.bench.plots.choice import Choice, Draw, budget, grouped, measured, ordered
from leaf_fer.bench.plots.theme import Theme
from leaf_fer.bench.records import Record, check_protocol, row_name
from leaf_fer.errors import UserError
from leaf_fer.report import matrix
from leaf_fer.report.page import GRAY, INK, drawable


def confusion(records: Sequence[Record], choice: Choice) -> Draw:
    """The confusion matrix of one method on one data set; the counts of its seeds are added.

    Raises:
        UserError: there is more than one method, data set or number of labels.
    """
    check_protocol(records)
    groups = grouped(ordered(records), lambda each: (row_name(each), each.data, budget(each)))
    if len(groups) > 1:
        one, two = list(groups)[:2]
        raise UserError(
            f"confusion: {', '.join(one)} and {', '.join(two)}: expected one; narrow with --only"
        )
    ((name, seeds),) = groups.items()
    counts = sum(np.asarray(measured(seed, "confusion_matrix", choice.selection)) for seed in seeds)
    part = measured(seeds[0], "part", choice.selection)
    many = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0].seed}"
    title = ", ".join([*name, many, f"{part} part", choice.selection])
    classes = measured(seeds[0], "classes", choice.selection)
    return partial(_draw, np.asarray(counts), [drawable(each) for each in classes], title)


def _draw(counts: NDArray[np.integer[Any]], classes: list[str], title: str, theme: Theme) -> Figure:
    figure = matrix.draw(counts, matrix.break_names(classes), drawable(title)).figure
    figure.set_facecolor(theme.page)
    colors = {INK: theme.ink, GRAY: theme.gray}  # in cells it is black, on a light ground
    for text in figure.findobj(Text):
        text.set_color(colors.get(str(text.get_color()), text.get_color()))
    return figure
