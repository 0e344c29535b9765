"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leaf_fer.registry import BASELINE
from leaf_fer.report import exhibits, tables
from leaf_fer.report.facts import Evidence, RunFacts
from leaf_fer.report.frame import foot, head, says, style
from leaf_fer.report.markup import SPACE, Markup, page, points, tag
from leaf_fer.report.verdict import CHANCE, FEW, budget, verdict

FACES = 24
"""On a sheet, if nobody says otherwise."""
MOST_FACES = 120
"""On a sheet, at most: the page stays below a few megabytes."""


def run_page(
    run: RunFacts,
    seen: Evidence | None,
    beside: RunFacts | None,
    *,
    missing: str = "",
    command: str = "",
    faces: int = FACES,
) -> str:
    """The page of a run, which needs no other file and no network.

    Args:
        run: finished.
        seen: what its model says; None where model or data are not at hand.
        beside: a supervised run on the same data.
        missing: why there is no ``seen``.
        command: how to make a supervised run, where there is none.
        faces: on a sheet, at most; 0 leaves sheets out.
    """
    faces = min(faces, MOST_FACES)
    parts = [("verdict", "", _verdict(run, beside))]
    if run.measured:
        parts.append(("beside", "Beside supervised", _beside(run, beside, command)))
    parts.append(("training", "Training", _training(run)))
    if run.measured:
        parts.append(("confusion", "Confusion", _confusion(run, beside)))
        parts.append(("classes", "Classes", _classes(run, beside)))
    if seen is not None:
        parts.append(("confidence", "Confidence", exhibits.confidence(run, seen)))
        if seen.usage:
            parts.append(("experts", "Experts", exhibits.experts(run, seen)))
        parts.append(("features", "Features", exhibits.features(seen)))
        if faces:
            parts += exhibits.sheets(seen, faces)
        if seen.pool is not None:
            parts.append(("pseudo", "Pseudo-labels", exhibits.pseudo(seen, faces)))
    elif missing:
        parts.append(("missing", "", [tag("h2", "No faces"), tag("p", missing)]))
    parts.append(("made", "How it was made", _made(run)))
    links = [tag("a", name, href=f"#{key}") for key, name, _ in parts if name]
    sections = [
        tag("section", body, id=key, class_="verdict" if key == "verdict" else None)
        for key, _, body in parts
    ]
    return page(
        f"{run.name}: leaf-fer report",
        style(),
        head(run.name, _facts(run)),
        tag("nav", links, aria_label="Sections"),
        tag("main", sections),
        foot(),
    )


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    config, metrics = run.config, run.metrics
    found = [
        ("method", run.method),
        ("data", str(config["data"])),
        ("labels", budget(run).split(SPACE)[0]),
    ]
    if run.measured:
        found.append((f"{metrics['part']} faces", f"{metrics['count']:,}"))
    found += [("backbone", str(config["backbone"])), ("size", f"{config['image_size']} px")]
    found += [("seed", str(config["seed"])), ("step", f"{metrics.get('step', 0):,}")]
    if config.get("eaf", "none") != "none":
        found.append(("EAF", str(config["eaf"]).replace(",", ", ")))
    return found


def _verdict(run: RunFacts, beside: RunFacts | None) -> list[Markup]:
    title = tag("h2", "Verdict")
    if not run.measured:
        return [title, says(verdict(run, beside))]
    value = tag("b", f"{100 * run.balanced:.1f}", tag("small", " %"))
    note = f"balanced accuracy, ± {points(run.error).lstrip('+')}"
    number = tag("div", value, tag("span", note), class_="score")
    return [title, number, says(verdict(run, beside))]


def _beside(run: RunFacts, beside: RunFacts | None, command: str) -> list[Any]:
    part, selection = run.metrics["part"], run.metrics["selection"]
    about = f"On the {part} faces, with the {_weights(selection)}."
    if beside is not None:
        same = " too" if budget(run) == budget(beside) else ""
        about += f" The supervised run, in {beside.name}, has {budget(beside)}{same} and differs "
        other = _unlike(run, beside)
        about += f"in the method and in {other}." if other else "in nothing but the method."
        about += f" Colored differences are beyond chance ({CHANCE:g} standard errors)."
    body: list[Any] = [
        tag("h2", "Beside supervised training"),
        tag("p", about),
        tag("div", tables.metrics_table(run, beside), _validation(run, beside), class_="halves"),
    ]
    if beside is None and run.method == BASELINE:
        body.append(tag("p", "This run is supervised training: what methods are compared with.",
                        class_="soft"))  # fmt: skip
    elif beside is None and command:
        body.append(tag("h3", "No supervised run was found to compare with"))
        body.append(tag("p", "This makes one with the same data, labels and steps, and then the "
                             "report anew:"))  # fmt: skip
        body.append(tag("pre", tag("code", command)))
    return body


def _validation(run: RunFacts, beside: RunFacts | None) -> Markup | None:
    """Accuracy over the steps, if it was measured."""
    if not any("validation" in line for line in run.lines):
        return None
    shown = [(run.method, run), *([(beside.method, beside)] if beside else [])]
    return tables.validation_chart(shown, 1 / len(run.classes))


def _weights(selection: str) -> str:
    return "last weights" if selection == "last" else "weights that were best on validation"


OWN = frozenset({"method", "watch_unlabeled", "report", "cache", "workers", "device"})
"""Options that say nothing about whether a comparison is fair."""


def _unlike(run: RunFacts, other: RunFacts) -> str:
    """The options that both have and that differ."""
    both = [name for name in run.config if name in other.config and name not in OWN]
    names = [name for name in both if run.config[name] != other.config[name]]
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _training(run: RunFacts) -> list[Any]:
    charts = [tables.loss_chart(run.lines), *tables.pseudo_charts(run.lines)]
    warnings = [line for line in run.lines if "warning" in line]
    notes = [tag("p", f"Step {line['step']}: {line['warning']}.") for line in warnings[:3]]
    return [tag("h2", "Training"), *notes, tag("div", charts, class_="charts")]


def _confusion(run: RunFacts, beside: RunFacts | None) -> list[Any]:
    return [
        tag("h2", "Which class is taken for which"),
        tag("p", "Rows are what annotators said, columns what the model said. Every row adds up "
                 "to 100 %; its diagonal, in bold, is the recall of the class."),
        tag("div", tables.confusion_table(run), tables.confusions_table(run, beside),
            class_="matrices"),
    ]  # fmt: skip


def _classes(run: RunFacts, beside: RunFacts | None) -> list[Any]:
    text = "Recall with its standard error."
    if beside is not None:
        text += f" The upright mark is {beside.method}; colored differences are beyond chance "
        text += "(two standard errors)."
    if (run.matrix.sum(axis=1) < FEW).any():
        text += f" Classes of fewer than {FEW} faces say little."
    return [tag("h2", "Every class"), tag("p", text), tables.recall_table(run, beside)]


def _made(run: RunFacts) -> list[Any]:
    metrics, counts = run.metrics, run.counts
    facts: list[tuple[str, str]] = [
        ("images", ", ".join(f"{n:,} {use}" for use, n in counts.items())),
        ("computed on", str(metrics.get("device", "?"))),
        ("training time", _time(metrics.get("seconds"))),
        ("images per second", f"{metrics.get('images_per_second') or 0:,.0f}"),
    ]
    if metrics.get("init"):
        facts.append(("starting weights", str(metrics["init"].get("origin", "?"))))
    options = [(name, _option(value)) for name, value in run.config.items()]
    return [
        tag("h2", "How it was made"),
        tag("p", "config.yaml, split.json and metrics.jsonl beside this file have all of it."),
        _listed(facts),
        tag("details", tag("summary", f"All {len(options)} options"), _listed(options)),
    ]


def _listed(pairs: Sequence[tuple[str, str]]) -> Markup:
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs])


def _option(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _time(seconds: float | None) -> str:
    r"""Seconds for people.

    Example:
        >>> _time(75), _time(7320)
        ('1 min 15 s', '2 h 2 min')
    """
    if seconds is None or not np.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
