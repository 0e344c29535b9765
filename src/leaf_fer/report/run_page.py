"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from leaf_fer.report import gallery, tables
from leaf_fer.report.charts import legend, plane_chart, reliability_chart
from leaf_fer.report.facts import Evidence, RunFacts
from leaf_fer.report.markup import Markup, counted, page, percent, points, table, tag
from leaf_fer.report.verdict import FEW, Sentence, budget, verdict

FACES = 24
"""On a sheet, if nobody says otherwise."""
MOST_FACES = 120
"""On a sheet, at most: the page stays below a few megabytes."""

LEAF = "M20 3C9 3 4 8 4 15c0 1.4.3 2.7.8 3.9L3 21l1.4 1.2 2-2.2C16 21.500 20.500 14 20 3Z"


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
    parts.append(("training", "Training", _training(run, beside)))
    if run.measured:
        parts.append(("confusion", "Confusion", _confusion(run)))
        parts.append(("classes", "Classes", _classes(run, beside)))
    if seen is not None:
        parts.append(("confidence", "Confidence", _confidence(run, seen)))
        if seen.usage:
            parts.append(("experts", "Experts", _experts(run, seen)))
        parts.append(("features", "Features", _features(seen)))
        if faces:
            parts += _sheets(seen, faces)
        if seen.pool is not None:
            parts.append(("pseudo", "Pseudo-labels", _pseudo(seen, faces)))
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


def style() -> str:
    """The style sheet of all pages."""
    return files("leaf_fer.report").joinpath("report.css").read_text(encoding="utf-8")


def head(title: str, facts: Sequence[tuple[str, str]]) -> Markup:
    """The top of a page: its name and some facts."""
    icon = tag("svg", tag("path", d=LEAF), viewBox="0 0 24 24", aria_hidden="true")
    listed = [tag("li", f"{name} ", tag("b", value)) for name, value in facts]
    return tag(
        "header",
        tag("p", icon, "leaf-fer report", class_="over"),
        tag("h1", title),
        tag("ul", listed, class_="facts"),
    )


def foot() -> Markup:
    """The bottom of a page: what to think of before anything is done with it."""
    return tag(
        "footer",
        tag(
            "p",
            "A classifier names how a face looks to its annotators, not what a person feels. "
            "The European Union's AI Act bans emotion recognition at work and in schools.",
        ),
        tag("p", "Pages with faces show people: they are not for publication."),
    )


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    config, metrics = run.config, run.metrics
    found = [("method", run.method), ("data", str(config["data"])), ("labels", budget(run))]
    if run.measured:
        found.append((f"{metrics['part']} faces", f"{metrics['count']:,}"))
    found += [("backbone", str(config["backbone"])), ("size", f"{config['image_size']} px")]
    found += [("seed", str(config["seed"])), ("step", f"{metrics.get('step', 0):,}")]
    if config.get("eaf", "none") != "none":
        found.append(("EAF", str(config["eaf"]).replace(",", ", ")))
    return found


def says(sentences: Sequence[Sentence]) -> Markup:
    """Sentences of a verdict, the main one first."""
    return tag("ul", [tag("li", s.text, class_=s.kind) for s in sentences], class_="says")


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
    about = f"On the {part} faces, {_weights(selection)}."
    if beside is not None:
        about += (
            f" {beside.name} has {budget(beside)} too; "
            if budget(run) == budget(beside)
            else (f" {beside.name} has {budget(beside)}; ")
        )
        other = _unlike(run, beside)
        about += f"it differs also in {other}." if other else "it differs in the method alone."
    body: list[Any] = [
        tag("h2", "Beside supervised training"),
        tag("p", about),
        tables.metrics_table(run, beside),
    ]
    if beside is None and run.method == "supervised":
        body.append(tag("p", "This run is supervised training: what methods are compared with.",
                        class_="soft"))  # fmt: skip
    elif beside is None and command:
        body.append(tag("h3", "No supervised run was found to compare with"))
        body.append(tag("p", "This makes one with the same data, labels and steps, and then the "
                             "report anew:"))  # fmt: skip
        body.append(tag("pre", tag("code", command)))
    return body


def _weights(selection: str) -> str:
    return "last weights" if selection == "last" else "weights that were best on validation"


OWN = frozenset({"method", "eaf", "watch_unlabeled", "report", "cache", "workers", "device"})
"""Options that say nothing about whether a comparison is fair."""


def _unlike(run: RunFacts, other: RunFacts) -> str:
    """The options that both have and that differ."""
    both = [name for name in run.config if name in other.config and name not in OWN]
    names = [name for name in both if run.config[name] != other.config[name]]
    return ", ".join(name.replace("_", " ") for name in names)


def _training(run: RunFacts, beside: RunFacts | None) -> list[Any]:
    shown = [(run.method, run)]
    if beside is not None:
        shown.append((beside.method, beside))
    charts = [tables.loss_chart(run.lines)]
    if any("validation" in line for line in run.lines):
        chance = 1 / len(run.classes) if run.measured else None
        charts.append(tables.validation_chart(shown, chance))
    charts += tables.pseudo_charts(run.lines)
    warnings = [line for line in run.lines if "warning" in line]
    notes = [tag("p", f"Step {line['step']}: {line['warning']}.") for line in warnings[:3]]
    return [tag("h2", "Training"), *notes, tag("div", charts, class_="charts")]


def _confusion(run: RunFacts) -> list[Any]:
    return [
        tag("h2", "Which class is taken for which"),
        tag("p", "Rows are what annotators said, columns what the model said. Every row adds up "
                 "to 100 %; its diagonal, in bold, is the recall of the class."),
        tables.confusion_table(run),
    ]  # fmt: skip


def _classes(run: RunFacts, beside: RunFacts | None) -> list[Any]:
    text = "Recall with its standard error."
    if beside is not None:
        text += f" The upright mark is {beside.method}; colored differences are beyond chance "
        text += "(two standard errors)."
    if (run.matrix.sum(axis=1) < FEW).any():
        text += f" Classes of fewer than {FEW} faces say little."
    return [tag("h2", "Every class"), tag("p", text), tables.recall_table(run, beside)]


def _confidence(run: RunFacts, seen: Evidence) -> list[Any]:
    sure, right = seen.faces.sure, seen.faces.said == seen.faces.targets
    gap = float(sure.mean() - right.mean())
    words = "surer than it is right" if gap > 0 else "less sure than it is right"
    sizes = seen.faces.sets.sum(axis=1)
    held = seen.faces.sets[np.arange(len(sizes)), seen.faces.targets].mean()
    text = [
        tag("p", f"On average it is {percent(float(sure.mean()))} sure and right in "
                 f"{percent(float(right.mean()))}: {points(abs(gap)).lstrip('+')} points {words}."),
        tag("p", f"The fewest classes that together reach {percent(seen.mass, 0)} of its belief "
                 f"are {sizes.mean():.1f} on average, and hold the true class for "
                 f"{percent(float(held))} of the faces."),
        tag("p", "Candidate sets with a promise: leaf calibrate, then leaf predict --coverage."),
    ]  # fmt: skip
    key = tag(
        "ul",
        tag("li", _swatch("bar"), "right"),
        tag("li", _swatch("many"), "share of the faces"),
        tag("li", _swatch("sure"), "mean confidence"),
        class_="key",
    )
    chart = tag("figure", key, reliability_chart(sure, right))
    return [
        tag("h2", "Is it right as often as it is sure?"),
        tag("p", "Bars at the dotted line mean that confidence can be read as a probability."),
        tag("div", chart, tag("div", text), class_="two"),
    ]


def _swatch(kind: str) -> Markup:
    shape = (
        tag("path", class_=kind, d="M1 5H23")
        if kind == "sure"
        else tag("rect", class_=kind, width="24", height="10")
    )
    return tag("svg", shape, viewBox="0 0 24 10", width="24", height="10", aria_hidden="true")


def _experts(run: RunFacts, seen: Evidence) -> list[Any]:
    parts = [
        tag(
            "figure",
            tag("h3", f"Mean gate weight in %: {level} EAF"),
            tables.heat_table(
                values, seen.classes, f"Mean gate weights of the {level} EAF by class and expert"
            ),
        )
        for level, values in seen.usage.items()
    ]
    idle = [
        f"expert {1 + e} of the {level} EAF"
        for level, values in seen.usage.items()
        for e in np.flatnonzero(np.nan_to_num(values).max(axis=0) < 0.01).tolist()
    ]
    text = f"Never used by these faces: {', '.join(idle)}." if idle else "All experts are in use."
    return [
        tag("h2", "Which experts work on which class"),
        tag("p", f"Of {counted(len(seen.sample), 'face')}. {text}"),
        tag("div", parts, tables.expert_charts(run.lines), class_="charts"),
    ]


def _features(seen: Evidence) -> list[Any]:
    title = tag("h2", "What the encoder sees as alike")
    if seen.plane is None:
        why = "t-SNE needs scikit-learn, pip install 'leaf-fer[plots]', and at least four faces."
        return [title, tag("p", why)]
    targets = seen.faces.targets[seen.sample]
    there = [(name, c) for c, name in enumerate(seen.classes) if (targets == c).any()]
    key = legend([(name, slot, False) for name, slot in there])
    text = (
        f"t-SNE of the features of {counted(len(targets), 'face')}: neighbors are alike, "
        "distances between far groups mean nothing. A name stands in the middle of its class."
    )
    return [
        title,
        tag("p", text),
        tag("figure", key, plane_chart(seen.plane, targets, seen.classes)),
    ]


def _sheets(seen: Evidence, most: int) -> list[tuple[str, str, Any]]:
    faces, classes = seen.faces, seen.classes
    wrong, torn = faces.confident_errors(most), faces.ambiguous(most)
    count = int((faces.said != faces.targets).sum())
    errors = [
        tag("h2", "Wrong and sure of it"),
        tag("p", f"The most confident of {counted(count, 'error')}. Look for wrong annotations "
                 "too."),
        gallery.errors(faces, wrong, classes, "annotated"),
    ]  # fmt: skip
    ambiguous = [
        tag("h2", "Torn between classes"),
        tag("p", f"The least decided answers. Candidates together reach {percent(seen.mass, 0)} of "
                 "the model's belief; numbers are percent, the tick is what annotators said."),
        gallery.candidates(faces, torn, classes),
    ]  # fmt: skip
    found: list[tuple[str, str, Any]] = [("errors", "Errors", errors)] if len(wrong) else []
    return [*found, ("ambiguous", "Ambiguous faces", ambiguous)]


def _pseudo(seen: Evidence, most: int) -> list[Any]:
    pool, facts = seen.pool, seen.pool_facts
    assert pool is not None
    assert facts is not None
    body: list[Any] = [
        tag("h2", "What pseudo-labels were wrong"),
        tag(
            "p",
            tag("b", "For looking only. "),
            f"The data knows the classes of these {counted(len(pool.targets), 'unlabeled face')}; "
            "training did not see them, and nothing was chosen by them. The labels are those of "
            f"the weights in the end. All: {percent(facts['accuracy'])} right.",
        ),
    ]
    rows = [
        [f"{100 * float(least):g} %", percent(share), percent(facts["precision"][least])]
        for least, share in facts["coverage"].items()
    ]
    heads = ["At least so sure", "of the faces", "of these right"]
    body.append(table("Pseudo-labels by confidence", heads, rows))
    wrong = pool.confident_errors(most)
    if most and len(wrong):
        body.append(tag("h3", "The most confident wrong ones"))
        body.append(gallery.errors(pool, wrong, seen.classes, "true"))
    return body


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
        >>> _time(75), _time(7300)
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
