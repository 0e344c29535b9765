"""The page that compares runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.report import tables
from leaf_fer.report.charts import Series, line_chart
from leaf_fer.report.facts import RunFacts
from leaf_fer.report.frame import foot, head, says, style
from leaf_fer.report.markup import DASH, SPACE, Markup, counted, page, percent, points, table, tag
from leaf_fer.report.run_page import OWN
from leaf_fer.report.verdict import CHANCE, Sentence, budget, difference

MOST_RUNS = 24
SEEDS = ("seed", "split_seed")


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds.

    Attributes:
        name: what tells it from the others.
        runs: at least one.
    """

    name: str
    runs: tuple[RunFacts, ...]

    def values(self, key: str) -> NDArray[np.float64]:
        """A metric of every run that has it."""
        found = [run.metrics.get(key) for run in self.runs]
        return np.array([value for value in found if value is not None], dtype=np.float64)

    def mean(self, key: str) -> float | None:
        """The mean over its runs."""
        values = self.values(key)
        return float(values.mean()) if len(values) else None

    def error(self) -> float:
        """Standard error of the mean balanced accuracy.

        That of the faces, which all seeds share, and that of the seeds, as far as it is known.
        """
        faces = float(np.mean([run.error for run in self.runs]))
        values = self.values("balanced_accuracy")
        if len(values) < 2:
            return faces
        return float(np.hypot(faces, values.std(ddof=1) / np.sqrt(len(values))))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) mean over its runs; NaN for a class without faces."""
        recalls = np.array([tables.recalls(run) for run in self.runs])
        found: NDArray[np.float64] = recalls.mean(axis=0)
        return found


def comparison_page(runs: Sequence[RunFacts]) -> str:
    """A page that needs no other file and no network.

    Args:
        runs: at least two, measured, with the same classes; the first is what others are compared
            with.
    """
    groups = grouped(runs)
    seeds = any(len(group.runs) > 1 for group in groups)
    about = [("runs", f"{len(runs)}"), ("compared with", groups[0].name)]
    about += [("data", data) for data in dict.fromkeys(str(run.config["data"]) for run in runs)]
    parts = [
        tag("section", tag("h2", "Verdict"), says(verdict(groups)), id="verdict"),
        tag("section", _metrics(groups, seeds), id="metrics"),
        tag("section", tag("h2", "Training"), _curves(groups), id="training"),
        tag("section", _recalls(groups), id="classes"),
        tag("section", _runs(runs), id="runs"),
    ]
    return page(
        "Comparison: leaf-fer report",
        style(),
        head("Comparison", about),
        tag("main", parts),
        foot(),
    )


def grouped(runs: Sequence[RunFacts]) -> list[Group]:
    """Put the seeds of a run together, in the order of the first of each."""
    found: dict[str, list[RunFacts]] = {}
    for run in runs:
        found.setdefault(_identity(run.config), []).append(run)
    names = _names([group[0] for group in found.values()])
    return [Group(name, tuple(group)) for name, group in zip(names, found.values(), strict=True)]


def _identity(config: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in config.items() if k not in (*SEEDS, *(OWN - {"method", "eaf"}))}
    return json.dumps(kept, sort_keys=True, default=str)


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """Method, with what else tells runs of one method apart: labels, EAF, or the folder."""
    for parts in (
        ("method",),
        ("method", "labels"),
        ("method", "eaf"),
        ("method", "labels", "eaf"),
    ):
        names = [", ".join(_said(run, part) for part in parts) for run in runs]
        if len(set(names)) == len(names):
            return names
    return [run.name for run in runs]


def _said(run: RunFacts, part: str) -> str:
    if part == "labels":
        return budget(run).replace(SPACE, " ")
    if part == "eaf":
        eaf = str(run.config.get("eaf", "none"))
        return "no EAF" if eaf == "none" else f"EAF {eaf.replace(',', ' and ')}"
    return run.method


def verdict(groups: Sequence[Group]) -> list[Sentence]:
    """Which is best, and by more than chance or not."""
    ranked = sorted(groups, key=lambda group: -(group.mean("balanced_accuracy") or 0))
    best = ranked[0]
    value = best.mean("balanced_accuracy") or 0.0
    found = [Sentence(_first(ranked))]
    for other in ranked[1:4]:
        gap = value - (other.mean("balanced_accuracy") or 0.0)
        error = float(np.hypot(best.error(), other.error()))
        real = gap > CHANCE * error
        bound = f"{CHANCE:g} standard errors are {points(CHANCE * error).lstrip('+')} points"
        text = f"{points(gap).lstrip('+')} points above {other.name}: "
        text += f"beyond chance ({bound})." if real else f"within chance ({bound})."
        found.append(Sentence(text, "good" if real else "note"))
    if len(ranked) > 4:
        found.append(Sentence(f"{len(ranked) - 4} more are below these."))
    if any(len(group.runs) < 3 for group in groups):
        text = "Where there are fewer than three seeds, another seed may change the order."
        found.append(Sentence(text))
    runs = [run for group in groups for run in group.runs]
    if len({run.measured_on for run in runs}) > 1:
        text = "Not all were measured on the same faces: differences may come from these."
        found.append(Sentence(text, "bad"))
    if len({(run.metrics["part"], run.metrics["selection"]) for run in runs}) > 1:
        text = "Not all were measured on the same part or with weights selected alike."
        found.append(Sentence(text, "bad"))
    return found


def _first(ranked: Sequence[Group]) -> str:
    """Whether one is the best, or only comes first."""
    best = ranked[0]
    value = best.mean("balanced_accuracy") or 0.0
    seeds = f" over {len(best.runs)} seeds" if len(best.runs) > 1 else ""
    numbers = f"{percent(value)} balanced accuracy{seeds} (standard error {100 * best.error():.1f})"
    if len(ranked) == 1:
        return f"{best.name} has {numbers}."
    error = float(np.hypot(best.error(), ranked[1].error()))
    if value - (ranked[1].mean("balanced_accuracy") or 0.0) > CHANCE * error:
        return f"{best.name} is best, with {numbers}."
    return f"No clear winner: {best.name} comes first, with {numbers}, by no more than chance."


def _metrics(groups: Sequence[Group], seeds: bool) -> list[Any]:
    names = {key: name for key, (name, _) in tables.METRICS.items()}
    heads = ["Run", "seeds", *names.values(), f"points beside {groups[0].name}"]
    rows = []
    for group in groups:
        cells: list[Any] = [group.name, str(len(group.runs))]
        cells += [_spread(group, key) for key in names]
        cells.append(_gain(group, groups[0]))
        rows.append(cells)
    text = "Mean and standard deviation over seeds; " if seeds else ""
    text += (
        f"in the last column, colored: more than {CHANCE:g} standard errors of balanced accuracy."
    )
    return [
        tag("h2", "What was measured"),
        tag("p", text[0].upper() + text[1:]),
        table("Metrics of all runs", heads, rows),
    ]


def _spread(group: Group, key: str) -> list[Any]:
    """Mean and deviation of a metric, or its standard error for one seed."""
    values = group.values(key)
    if not len(values):
        return ["n/a"]
    shown: list[Any] = [percent(float(values.mean()))]
    if len(values) > 1:
        shown.append(tag("small", f" ±{SPACE}{100 * values.std(ddof=1):.1f}"))
    return shown


def _gain(group: Group, first: Group) -> Markup:
    if group is first:
        return tag("td", DASH)
    error = float(np.hypot(group.error(), first.error()))
    value, other = group.mean("balanced_accuracy"), first.mean("balanced_accuracy")
    return tables.gain(value, other, error)


def _curves(groups: Sequence[Group]) -> Markup:
    """Validation accuracy and losses of all, the mean over seeds where these have equal steps."""
    validation, losses = [], []
    for slot, group in enumerate(groups):
        balanced = tables.at("validation", "balanced_accuracy")
        validation.append(_mean(group, balanced, slot))
        losses.append(_mean(group, _total, slot))
    charts = []
    if any(len(each.steps) for each in validation):
        chance = 1 / len(groups[0].runs[0].classes)
        charts.append(
            line_chart("Balanced accuracy on validation", validation, share=True, mark=chance)
        )
    charts.append(line_chart("Training loss, all terms", losses))
    return tag("div", charts, class_="charts")


def _total(line: Mapping[str, Any]) -> float | None:
    return sum(line["loss"].values()) if "loss" in line else None


def _mean(group: Group, value: tables.Value, slot: int) -> Series:
    by_step: dict[int, list[float]] = {}
    for run in group.runs:
        one = tables.series(run.lines, group.name, value, slot)
        for step, found in zip(one.steps, one.values, strict=True):
            by_step.setdefault(int(step), []).append(found)
    # A mean over now one seed and now three would jump without any of them doing so.
    most = max((len(found) for found in by_step.values()), default=0)
    steps = sorted(step for step, found in by_step.items() if len(found) == most)
    return Series(
        group.name, steps, [float(np.mean(by_step[s])) for s in steps], slot, dashed=bool(slot % 2)
    )


def _recalls(groups: Sequence[Group]) -> list[Any]:
    first = groups[0].runs[0]
    truth = first.matrix.sum(axis=1)
    columns = [group.recall for group in groups]
    rows = []
    for place, name in enumerate(first.classes):
        values = [float(column[place]) for column in columns]
        best = max((value for value in values if not np.isnan(value)), default=None)
        cells: list[Any] = [name, f"{truth[place]:,}"]
        for value in values:
            if np.isnan(value):
                cells.append(tag("td", DASH, class_="none"))
                continue
            kind = "hit" if value == best and len(groups) > 1 else None
            shown = f"{100 * value:.0f}"
            cells.append(tag("td", shown, class_=kind, style=f"--share:{value:.2f}"))
        rows.append(cells)
    heads = ["", tag("span", "faces"), *(tag("span", group.name) for group in groups)]
    return [
        tag("h2", "Every class"),
        tag("p", "Recall in percent, the mean over seeds. Bold: best of a row, by chance or not."),
        table("Recall of every class in every run", heads, rows, "matrix"),
    ]  # fmt: skip


def _runs(runs: Sequence[RunFacts]) -> list[Any]:
    heads = ["Folder", "method", "labels", "seed", "balanced", "points beside the first", "step"]
    rows = []
    for run in runs:
        gap = difference(run, runs[0])
        change = tables.gain(run.balanced, runs[0].balanced, gap.error)
        first = run is runs[0]
        rows.append([
            run.name, run.method, f"{run.counts.get('labeled', 0):,}", str(run.config["seed"]),
            tables.score(run, "balanced_accuracy"), tag("td", DASH) if first else change,
            f"{run.metrics.get('step', 0):,}",
        ])  # fmt: skip
    text = f"{counted(len(runs), 'run')}, with the standard error of each. "
    return [
        tag("h2", "Every run"),
        tag("p", text + _differing(runs)),
        table("Every run", heads, rows),
    ]


def _differing(runs: Sequence[RunFacts]) -> str:
    """What the runs differ in, besides method and seeds."""
    names = [name for name in runs[0].config if name not in (*OWN, *SEEDS)]
    names = [n for n in names if len({str(run.config.get(n)) for run in runs}) > 1]
    names = [n for n in names if all(n in run.config for run in runs)]
    listed = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    return f"They differ also in {listed}." if listed else "They differ in method and seeds alone."
