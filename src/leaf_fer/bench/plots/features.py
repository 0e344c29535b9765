"""The features of encoders in the plane, by t-SNE (Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from leaf_fer.bench.plots.choice import Choice, Draw, caption, check_panels, ordered
from leaf_fer.bench.plots.runs import Answers, answers
from leaf_fer.bench.plots.theme import Theme, dress, key, legend, look, page
from leaf_fer.bench.records import Record
from leaf_fer.errors import UserError
from leaf_fer.report.plane import Plane, available, embed


def features(records: Sequence[Record], choice: Choice) -> Draw:
    """The same faces as every run sees them, a panel for each run.

    All start from the first run's two principal components, and are turned and scaled to its
    layout (Procrustes), which changes no neighborhood.

    Raises:
        UserError: runs of several data sets, one is not here, or scikit-learn is not installed.
    """
    check_panels(records)
    sets = sorted({record.data for record in records})
    if len(sets) > 1:
        raise UserError(f"features: data sets {', '.join(sets)}: expected one; narrow with --only")
    _check_installed()
    records = ordered(records)
    found = [answers(record) for record in records]
    rows, targets = _faces(found, choice.faces)
    planes = embed([run.features[np.searchsorted(run.rows, rows)] for run in found])
    titles = [caption(record) for record in records]
    return partial(_draw, titles, planes, targets, found[0].classes)


def _faces(found: Sequence[Answers], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and classes of faces that all runs were tested on, at most so many of a class."""
    common = reduce(np.intersect1d, [run.rows for run in found])
    first = found[0]
    targets = first.targets[np.searchsorted(first.rows, common)]
    shuffled = np.random.default_rng(0).permutation(len(common))
    chosen = [shuffled[targets[shuffled] == c][:most] for c in range(len(first.classes))]
    kept = np.sort(np.concatenate(chosen))
    if len(kept) < 4:
        raise UserError(f"features: {len(kept)} faces in common: expected runs tested on the same")
    return common[kept], targets[kept]


def _check_installed() -> None:
    if not available():
        raise UserError("features: needs scikit-learn: pip install leaf-fer[plots]")


def _draw(
    titles: Sequence[str],
    planes: Sequence[Plane],
    targets: NDArray[np.int64],
    classes: Sequence[str],
    theme: Theme,
) -> Figure:
    figure, axes = page(theme, len(planes), 4, (3.4, 3.6))
    for panel, title, plane in zip(axes, titles, planes, strict=True):
        dress(panel, theme, title)
        panel.spines[:].set_visible(False)
        panel.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        for number in range(len(classes)):
            style = {**look(number, theme), "linestyle": "none"}
            own = plane[targets == number]
            panel.plot(own[:, 0], own[:, 1], markersize=3.2, markeredgewidth=0, alpha=0.8, **style)
    keys = [key(number, theme) for number in range(len(classes))]
    for handle in keys:
        handle.set_linestyle("none")
    legend(figure, theme, keys, list(classes), max(2, int(figure.get_figwidth() / 1.3)))
    return figure
