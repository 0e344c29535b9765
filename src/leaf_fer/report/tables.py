"""Tables and charts of runs that pages are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.metrics import recall_errors
from leaf_fer.report.charts import Series, line_chart
from leaf_fer.report.curves import smooth
from leaf_fer.report.facts import Lines, RunFacts
from leaf_fer.report.markup import DASH, SPACE, Markup, counted, percent, points, table, tag
from leaf_fer.report.verdict import CHANCE

METRICS: dict[str, tuple[str, str]] = {
    "balanced_accuracy": ("Balanced", "mean recall of the classes"),
    "overall_accuracy": ("Overall", "share of the faces that is right"),
    "macro_f1": ("Macro F1", "recall and precision of the classes"),
    "auc": ("AUC", "how well pairs of classes are told apart"),
    "ece": ("ECE", "how far confidence is off; less is better"),
}
"""By key of metrics.json: name, and what it is."""


def standard_error(run: RunFacts, key: str) -> float | None:
    """That of a metric of a run, where it is known."""
    if key == "balanced_accuracy":
        return run.error
    if key == "overall_accuracy":
        share = float(run.metrics[key])
        return math.sqrt(share * (1 - share) / int(run.matrix.sum()))
    return None


def score(run: RunFacts, key: str) -> list[Any]:
    """A metric of a run, with its standard error where it is known."""
    value, error = percent(run.metrics.get(key)), standard_error(run, key)
    if error is None:
        return [value]
    return [value, tag("small", f" ±{SPACE}{100 * error:.1f}")]


def gain(value: float | None, other: float | None, error: float | None) -> Markup:
    """A difference, colored where it is more than two standard errors, if these are known."""
    if value is None or other is None:
        return tag("td", "n/a")
    change = value - other
    real = error is not None and abs(change) > CHANCE * error
    kind = ("more" if change > 0 else "less") if real else None
    return tag("td", points(change), class_=kind)


def metrics_table(run: RunFacts, beside: RunFacts | None) -> Markup:
    """Metrics of a run, beside those of another."""
    heads = ["Metric", run.method]
    if beside is not None:
        heads += [beside.method, "difference"]
    rows = []
    for key, (name, about) in METRICS.items():
        row: list[Any] = [[name, tag("small", about)], score(run, key)]
        if beside is not None:
            errors = standard_error(run, key), standard_error(beside, key)
            noise = math.hypot(*filter(None, errors)) if all(errors) else None
            change = gain(run.metrics.get(key), beside.metrics.get(key), noise)
            row += [score(beside, key), change]
        rows.append(row)
    return table(f"Metrics on the {run.metrics['part']} faces", heads, rows, "metrics")


def confusion_table(run: RunFacts) -> Markup:
    """Rows of a confusion matrix in percent, and its counts."""
    matrix, truth = run.matrix, run.matrix.sum(axis=1)
    rows = []
    for true, name in enumerate(run.classes):
        cells: list[Any] = [name]
        for said, count in enumerate(matrix[true].tolist()):
            if not truth[true]:
                cells.append(tag("td", DASH, class_="none"))
                continue
            share = count / int(truth[true])
            small = tag("small", f"{count:,}")
            shown = [f"{100 * share:.0f}", small]
            kind = "hit" if said == true else None
            cells.append(tag("td", *shown, class_=kind, style=f"--share:{share:.2f}"))
        rows.append(cells)
    heads = ["", *(tag("span", name) for name in run.classes)]
    caption = "Confusion matrix: rows are what annotators said, columns what the model said"
    return table(caption, heads, rows, "matrix")


MOST_PAIRS = 8


def confusions_table(run: RunFacts, beside: RunFacts | None) -> Markup:
    """The most frequent confusions, as shares of the faces of the true class."""
    if beside is not None and beside.classes != run.classes:
        beside = None
    shares = [_shares(each) for each in (run, beside) if each is not None]
    pairs = [
        (true, said)
        for true, said in np.ndindex(*shares[0].shape)
        if true != said and shares[0][true, said] > 0
    ]
    pairs.sort(key=lambda pair: -shares[0][pair])
    rows = [
        [
            tag("span", f"{run.classes[true]} for {run.classes[said]}"),
            *(percent(float(share[true, said]), 0) for share in shares),
        ]
        for true, said in pairs[:MOST_PAIRS]
    ]
    heads = ["Taken", run.method, *([beside.method] if beside else [])]
    return table("The most frequent confusions", heads, rows)


def _shares(run: RunFacts) -> NDArray[np.float64]:
    """A confusion matrix whose rows sum to 1, or are 0."""
    return np.asarray(run.matrix / np.maximum(run.matrix.sum(axis=1, keepdims=True), 1))


def recalls(run: RunFacts) -> NDArray[np.float64]:
    """(C,), NaN for a class without faces."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = run.matrix.diagonal() / run.matrix.sum(axis=1)
    return found


def recall_table(run: RunFacts, beside: RunFacts | None) -> Markup:
    """Recall of every class as a bar, that of another run as a mark on it."""
    if beside is not None and beside.classes != run.classes:
        beside = None
    heads = ["Class", run.method]
    heads += [beside.method, "difference"] if beside else []
    others = recalls(beside) if beside else None
    errors, truth = recall_errors(run.matrix), run.matrix.sum(axis=1)
    rows = []
    for place, (name, value) in enumerate(zip(run.classes, recalls(run).tolist(), strict=True)):
        if not truth[place]:
            rows.append([name, "n/a", *(["n/a", "n/a"] if beside else [])])
            continue
        other = float(others[place]) if others is not None else None
        style = f"--share:{100 * value:.1f}%"
        mark = None
        if other is not None and not np.isnan(other):
            style, mark = f"{style};--other:{100 * other:.1f}%", tag("u")
        bar = tag("span", tag("i"), mark, class_="track", style=style, aria_hidden="true")
        error = tag("small", f" ±{SPACE}{100 * errors[place]:.0f}")
        count = tag("small", counted(int(truth[place]), "face"))
        row: list[Any] = [[name, count, bar], [percent(value, 0), error]]
        if beside is not None and other is not None:
            noise = float(np.hypot(errors[place], recall_errors(beside.matrix)[place]))
            row += [percent(other, 0), gain(value, other, noise)]
        rows.append(row)
    return table(f"Recall of every class of {run.method}", heads, rows, "recall")


def heat_table(values: NDArray[np.float64], classes: Sequence[str], caption: str) -> Markup:
    """Mean gate weights (C, E) by class and expert."""
    rows = []
    for name, weights in zip(classes, values.tolist(), strict=True):
        cells = [
            tag("td", DASH, class_="none")
            if np.isnan(weight)
            else tag("td", f"{100 * weight:.0f}", style=f"--share:{weight:.2f}")
            for weight in weights
        ]
        rows.append([name, *cells])
    return table(caption, ["", *(f"{1 + e}" for e in range(values.shape[1]))], rows, "matrix")


Value = Callable[[Mapping[str, Any]], float | None]


def at(*names: str) -> Value:
    """What a line of metrics.jsonl has under these names, one below the other."""

    def value(line: Mapping[str, Any]) -> float | None:
        found: Any = line
        for name in names:
            found = (found or {}).get(name)
        return None if found is None else float(found)

    return value


def series(lines: Lines, name: str, value: Value, slot: int, *, dashed: bool = False) -> Series:
    """A value over the steps of a run, smoothed where there are many."""
    found = [(line["step"], v) for line in lines if (v := value(line)) is not None]
    steps = [step for step, _ in found]
    values = np.array([v for _, v in found], dtype=np.float64)
    reach = len(values) // 30
    shown = smooth(values, reach) if reach else values
    return Series(name, steps, shown.tolist(), slot, dashed)


def loss_chart(lines: Lines) -> Markup:
    """Every term of the loss."""
    terms = list(dict.fromkeys(term for line in lines for term in line.get("loss", {})))
    drawn = [series(lines, term, at("loss", term), n) for n, term in enumerate(terms)]
    return line_chart("Training loss", drawn)


def validation_chart(runs: Sequence[tuple[str, RunFacts]], chance: float | None) -> Markup:
    """Balanced accuracy on the validation part over the steps of runs."""
    drawn = [
        series(run.lines, name, at("validation", "balanced_accuracy"), slot, dashed=bool(slot % 2))
        for slot, (name, run) in enumerate(runs)
    ]
    return line_chart("Balanced accuracy on validation", drawn, share=True, mark=chance)


def pseudo_charts(lines: Lines) -> list[Markup]:
    """What is known of the pseudo-labels over the steps of a run."""
    used = series(lines, "used (mean mask)", at("watch", "mask"), 0)
    right = series(lines, "right, of all", at("unlabeled", "accuracy"), 2)
    sure = series(
        lines, "right, where 95 % sure", at("unlabeled", "precision", "0.95"), 1, dashed=True
    )
    hits = series(lines, "true class among candidates", at("unlabeled", "candidates", "hits"), 3)
    drawn = [each for each in (used, right, sure, hits) if each.steps]
    return [line_chart("Pseudo-labels", drawn, share=True)] if drawn else []


def kept(level: str, expert: int) -> Value:
    """How often an expert of a level was kept."""

    def value(line: Mapping[str, Any]) -> float | None:
        found = line.get("experts", {}).get(level)
        return None if found is None else float(found[1][expert])

    return value


def expert_charts(lines: Lines) -> list[Markup]:
    """How often every expert was kept, over the steps of a run, a chart for each gate."""
    names = list(dict.fromkeys(name for line in lines for name in line.get("experts", {})))
    charts = []
    for name in names:
        first = next(line for line in lines if name in line.get("experts", {}))
        count = len(first["experts"][name][1])

        drawn = [
            series(lines, f"expert {1 + e}", kept(name, e), e, dashed=bool(e % 2))
            for e in range(count)
        ]
        charts.append(line_chart(f"How often experts were kept: {name} EAF", drawn, share=True))
    return charts
