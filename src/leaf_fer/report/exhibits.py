"""Sections of a page that show what a model says about faces."""

from __future__ import annotations

from typing import Any

import numpy as np

from leaf_fer.report import gallery, tables
from leaf_fer.report.charts import classes_key, plane_chart, reliability_chart
from leaf_fer.report.facts import Evidence, RunFacts
from leaf_fer.report.markup import Markup, counted, percent, points, table, tag


def confidence(run: RunFacts, seen: Evidence) -> list[Any]:
    """Reliability, and what candidate sets hold."""
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
        tag("p", "Candidate sets with a promise: ", tag("code", "leaf calibrate"), ", then ",
            tag("code", "leaf predict --coverage"), "."),
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


def experts(run: RunFacts, seen: Evidence) -> list[Any]:
    """Gate weights by class, and how often experts were kept in training."""
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
        tag("div", _paired(parts, tables.expert_charts(run.lines)), class_="halves"),
    ]


def _paired(tables_of: list[Markup], charts: list[Markup]) -> list[Markup]:
    """A table and the chart of the same level side by side."""
    if len(tables_of) != len(charts):
        return [*tables_of, *charts]
    return [part for pair in zip(tables_of, charts, strict=True) for part in pair]


def features(seen: Evidence) -> list[Any]:
    """Features in the plane."""
    title = tag("h2", "What the encoder sees as alike")
    if seen.plane is None:
        why = "t-SNE needs scikit-learn, pip install 'leaf-fer[plots]', and at least four faces."
        return [title, tag("p", why)]
    targets = seen.faces.targets[seen.sample]
    there = [(name, c) for c, name in enumerate(seen.classes) if (targets == c).any()]
    key = classes_key(there)
    text = (
        f"t-SNE of the features of {counted(len(targets), 'face')}: neighbors are alike, "
        "distances between far groups mean nothing. A name stands in the middle of its class."
    )
    return [
        title,
        tag("p", text),
        tag("figure", plane_chart(seen.plane, targets, seen.classes), key, class_="plane"),
    ]


def sheets(seen: Evidence, most: int) -> list[tuple[str, str, Any]]:
    """Sheets of confident errors and of undecided answers: key, name and content of each."""
    faces, classes = seen.faces, seen.classes
    wrong, torn = faces.confident_errors(most), faces.ambiguous((most + 1) // 2)
    count = int((faces.said != faces.targets).sum())
    errors = [
        tag("h2", "Wrong and sure of it"),
        tag("p", f"The most confident of {counted(count, 'error')}. Look for wrong labels "
                 "too."),
        gallery.errors(faces, wrong, classes, "label"),
    ]  # fmt: skip
    ambiguous = [
        tag("h2", "Torn between classes"),
        tag("p", f"The least decided answers. Candidates together reach {percent(seen.mass, 0)} of "
                 "the model's belief; numbers are percent, the tick is the label."),
        gallery.candidates(faces, torn, classes),
    ]  # fmt: skip
    found: list[tuple[str, str, Any]] = [("errors", "Errors", errors)] if len(wrong) else []
    return [*found, ("ambiguous", "Ambiguous faces", ambiguous)]


def pseudo(seen: Evidence, most: int) -> list[Any]:
    """Pseudo-labels of unlabeled faces whose class is known, which is for looking only."""
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
    heads = ["Sure, at least", "of the faces", "right"]
    sets = facts["candidates"]
    words = tag(
        "p",
        f"Candidate sets, the fewest classes that reach {percent(sets['mass'], 0)} of its belief, "
        f"have {sets['size']:.1f} classes on average and hold the true one for "
        f"{percent(sets['hits'])} of the faces.",
    )
    by_confidence = table("Pseudo-labels by confidence", heads, rows)
    body.append(tag("div", by_confidence, tag("div", words), class_="two"))
    wrong = pool.confident_errors(most)
    if most and len(wrong):
        body.append(tag("h3", "The most confident wrong ones"))
        body.append(gallery.errors(pool, wrong, seen.classes, "true"))
    return body
