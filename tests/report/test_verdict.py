from __future__ import annotations

import numpy as np
import pytest

from leaf_fer.report.verdict import difference, verdict

from .pages import answers, run


def words(one, beside=None):
    return [sentence.text.replace("\N{NO-BREAK SPACE}", " ") for sentence in verdict(one, beside)]


def test_a_small_difference_is_within_chance_and_a_large_one_is_not():
    one, weak, alike = (
        run(n, p=p, targets=t, method=m)
        for n, m, (p, t) in (
            ("one", "leaf", answers(300, skill=3)),
            ("weak", "supervised", answers(300, skill=0)),
            ("alike", "supervised", answers(300, seed=1, skill=3)),
        )
    )
    assert difference(one, weak).real
    assert not difference(one, alike).real
    gap = 100 * (one.balanced - weak.balanced)
    assert words(one, weak)[1].startswith(f"That is {gap:.1f} points above supervised training")
    assert "more than the choice of test faces explains" in words(one, weak)[1]
    assert "within chance" in words(one, alike)[1]
    assert [s.kind for s in verdict(one, weak)][1] == "good"
    assert [s.kind for s in verdict(weak, one)][1] == "bad"


def test_the_error_of_a_difference_is_that_of_both():
    one, two = run("one"), run("two")
    assert difference(one, two).error == pytest.approx(np.sqrt(2) * one.error)


def test_other_faces_are_told():
    assert "measured on different faces" in words(run(), run("two", measured_on="b"))[1]
    assert "different faces" not in words(run(), run("two"))[1]


def test_guessing_is_called_guessing():
    p, targets = answers(300, skill=0)
    assert "no more than guessing" in words(run(p=p, targets=targets))[0]


def test_a_collapse_is_told():
    p, targets = np.tile(np.float32([0.8, 0.1, 0.1]), (90, 1)), np.arange(90) % 3
    found = verdict(run(p=p, targets=targets), None)
    assert any("the run has collapsed" in s.text and s.kind == "bad" for s in found)


def test_a_class_that_is_never_said_is_told():
    p, targets = answers()
    p[:, 2] = 0
    assert "It never says grim." in words(run(p=p / p.sum(axis=1, keepdims=True), targets=targets))


def test_a_confidence_that_is_far_off_is_told():
    p, targets = answers(300, skill=0.5)
    sharp = p**8 / (p**8).sum(axis=1, keepdims=True)
    assert any("Do not read its confidence" in s for s in words(run(p=sharp, targets=targets)))


def test_weights_chosen_on_the_measured_faces_are_told():
    one = run()
    one.metrics.update(selection="best-on-validation", part="validation")
    assert any("chosen on the faces they are measured on" in s for s in words(one))


def test_no_error_is_told():
    targets = np.arange(90) % 3
    assert "It made no error." in words(
        run(p=np.eye(3, dtype=np.float32)[targets], targets=targets)
    )
