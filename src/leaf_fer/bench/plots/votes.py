"""What models say about faces, beside what annotators voted (``benchmarks/errors.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from leaf_fer.bench.plots.theme import SMALL, Theme, dress, key, legend, look, page
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.report import matrix

MASSES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
"""T of the candidate sets that are drawn."""

Facts = dict[str, Any]


def draw(facts: Facts, theme: Theme) -> Figure:
    """Confusion of every model; accuracy by agreement and candidate sets, a line for each."""
    models: Mapping[str, Facts] = facts["models"]
    figure, axes = page(theme, len(models) + 4, 3, (4.4, 3.9))
    for panel, (name, found) in zip(axes, models.items(), strict=False):
        numbers = [100 * found[f"{metric}_accuracy"] for metric in ("overall", "balanced")]
        title = "{}\naccuracy {:.1f} %, balanced {:.1f} %".format(name, *numbers)
        dress(panel, theme, title, "predicted class", "true class")
        draw_confusion(panel, np.array(found["confusion_matrix"]))
    agreement, *panels = axes[len(models) :]
    dress(agreement, theme, "accuracy where annotators agree\nbars: one standard error",
          "votes for the class with most of them; images", "%")  # fmt: skip
    draw_agreement(agreement, models, theme)
    titles = ("share of the votes in candidate sets", "true class in candidate sets",
              "classes in candidate sets")  # fmt: skip
    for panel, title, name in zip(panels, titles, ("vote_share", "truth", "size"), strict=True):
        dress(panel, theme, title, "mass T of the sets, %", "" if name == "size" else "%")
        draw_sets(panel, models, name, theme)
    handles = [key(number, theme) for number in range(len(models))]
    handles += [Line2D([], [], color=theme.ink, linestyle="--")]
    handles += [Line2D([], [], color=theme.ink, linestyle=":")]
    legend(figure, theme, handles, [*models, "annotators", "mass T itself"], 3)
    return figure


def draw_confusion(axes: Axes, counts: NDArray[np.int64]) -> None:
    """A confusion matrix with its rows in percent."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = LinearSegmentedColormap.from_list("confusion", [matrix.LIGHT, matrix.DARK])
    axes.imshow(share, cmap=colors, vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{value:.0f}", size=SMALL, color="black", weight=weight,
                  ha="center", va="center")  # fmt: skip
    places = range(len(EXPRESSIONS))
    axes.set_xticks(places, EXPRESSIONS, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, EXPRESSIONS)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_agreement(axes: Axes, models: Mapping[str, Facts], theme: Theme) -> None:
    """Accuracy by the share of the votes for the class with most of them."""
    for number, found in enumerate(models.values()):
        bins = [each for each in found["agreement"] if each["count"]]
        places, count = np.arange(len(bins)), np.array([each["count"] for each in bins])
        share = np.array([each["accuracy"] for each in bins])
        error = np.sqrt(share * (1 - share) / count)
        beside = places + 0.06 * (number - (len(models) - 1) / 2)  # or bars would cover each other
        axes.errorbar(beside, 100 * share, 100 * error, linewidth=1.7, markersize=4.5,
                      elinewidth=1, **look(number, theme))  # fmt: skip
    human = [100 * each["annotator"] for each in bins]
    axes.plot(places, human, color=theme.ink, linestyle="--", linewidth=1.2)
    names = ["all" if each["most"] == 100 else f"to {each['most']} %" for each in bins]
    axes.set_xticks(places, [f"{name}\n{n:,}" for name, n in zip(names, count, strict=True)])
    axes.set_ylim(0, 103)


def draw_sets(axes: Axes, models: Mapping[str, Facts], name: str, theme: Theme) -> None:
    """One of the facts about candidate sets by their mass."""
    across = [100 * mass for mass in MASSES]
    scale = 1 if name == "size" else 100
    for number, found in enumerate(models.values()):
        values = [scale * each[name] for each in found["masses"]]
        axes.plot(across, values, linewidth=1.7, markersize=4.5, **look(number, theme))
    if name == "size":
        smallest = [each["smallest"] for each in found["masses"]]
        axes.plot(across, smallest, color=theme.ink, linestyle="--", linewidth=1.2)
    else:
        axes.plot(across, across, color=theme.ink, linestyle=":", linewidth=1.2)
    axes.set_ylim(0, None if name == "size" else 103)
