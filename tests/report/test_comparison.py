from __future__ import annotations

import numpy as np
import pytest

from leaf_fer.report.comparison import comparison_page, grouped, verdict

from .pages import answers, check_page, recorded, run


def seeds(name, method, skill, count=3):
    made = []
    for seed in range(count):
        p, targets = answers(300, seed, skill)
        made.append(run(f"{name}{seed}", p=p, targets=targets, method=method, seed=seed,
                        lines=recorded(shift=seed / 100)))  # fmt: skip
    return made


def test_seeds_are_put_together_with_mean_and_deviation():
    runs = [*seeds("a", "leaf", 3), *seeds("b", "supervised", 0)]
    one, two = grouped(runs)
    assert (one.name, two.name) == ("leaf", "supervised")
    values = np.array([each.balanced for each in runs[:3]])
    assert one.mean("balanced_accuracy") == pytest.approx(values.mean())
    outline = check_page(comparison_page(runs))
    assert f"{100 * values.mean():.1f} % ± {100 * values.std(ddof=1):.1f}" in outline.words
    assert outline.words.count("a0 leaf") == 1
    labels = [drawing["aria-label"] for drawing in outline.all("svg") if "role" in drawing]
    assert "leaf ends at 51.0" in labels[0]  # the mean of the seeds' ends


def test_only_a_difference_beyond_chance_has_a_winner():
    clear = verdict(grouped([*seeds("a", "leaf", 3), *seeds("b", "supervised", 0)]))
    assert clear[0].text.startswith("leaf is best")
    alike = verdict(grouped([*seeds("a", "leaf", 2, 1), *seeds("b", "supervised", 2, 1)]))
    assert alike[0].text.startswith("No clear winner")
    assert any("fewer than three seeds" in sentence.text for sentence in alike)


def test_runs_of_one_method_are_told_apart_by_what_differs():
    assert [g.name for g in grouped([run(), run("two", eaf="semantic")])] == [
        "leaf, no EAF",
        "leaf, EAF semantic",
    ]
    assert [g.name for g in grouped([run(), run("two", lr=1.0)])] == ["one", "two"]
    assert (
        "They differ also in --lr."
        in check_page(comparison_page([run(), run("two", lr=1.0)])).words
    )


def test_other_faces_are_told():
    outline = check_page(comparison_page([run(), run("two", lr=1.0, measured_on="b")]))
    assert "Not all were measured on the same faces" in outline.words


def test_a_run_may_lack_curves():
    assert "Nothing was recorded." in check_page(comparison_page([run(), run("two", lr=1)])).words
