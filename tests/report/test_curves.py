from __future__ import annotations

import numpy as np
import pytest

from leaf_fer.report import learning_curves
from leaf_fer.report.curves import COLORS, smooth


def losses(values, term="supervised"):
    return [{"step": 10 * i + 10, "loss": {term: value}} for i, value in enumerate(values)]


def validations(*scores):
    return [
        {"step": 1000 * i + 1000, "validation": {"balanced_accuracy": score}}
        for i, score in enumerate(scores)
    ]


def panels(drawing):
    """The axes of losses and of accuracy."""
    return next(iter(drawing.texts)).get_figure(root=True).axes


def test_the_legend_tells_the_best_validation_and_its_first_step(record):
    drawing = record(lambda path: learning_curves({"a": validations(0.5, 0.625, 0.625)}, path))
    assert "a: best 62.50 % at step 2,000" in drawing.words


def test_the_right_panel_shows_every_validation(record):
    drawing = record(lambda path: learning_curves({"a": validations(0.5, 0.25)}, path))
    (line,) = panels(drawing)[1].lines
    np.testing.assert_array_equal(line.get_xydata(), [[1000, 0.5], [2000, 0.25]])


def test_a_run_has_one_color_and_a_term_one_style(record):
    lines = [*losses([1.0, 2.0]), *losses([3.0, 4.0], "category")]
    runs = {"a": lines, "b": lines}
    drawn = panels(record(lambda path: learning_curves(runs, path)))[0].lines
    looks = [(line.get_color(), line.get_linestyle()) for line in drawn]
    assert looks == [(COLORS[0], "-"), (COLORS[0], "--"), (COLORS[1], "-"), (COLORS[1], "--")]


def test_a_long_curve_is_drawn_faint_and_smoothed(record):
    values = np.random.default_rng(0).uniform(size=90)
    faint, strong = panels(record(lambda path: learning_curves({"a": losses(values)}, path)))[
        0
    ].lines
    np.testing.assert_array_equal(faint.get_ydata(), values)
    np.testing.assert_array_equal(strong.get_ydata(), smooth(values, 3))
    assert faint.get_alpha() < 0.5


def test_a_single_peak_does_not_squeeze_the_curves(record):
    values = [1.0] * 400 + [1e6] + [1.0] * 400
    runs = {"a": losses([v if v < 2 else float("inf") for v in values])}
    axes = panels(record(lambda path: learning_curves(runs, path)))[0]
    assert axes.get_ylim() == pytest.approx((0, 1.1))


def test_an_empty_panel_says_so(record):
    drawing = record(lambda path: learning_curves({"a": validations(0.5)}, path))
    assert "nothing recorded" in drawing.words


def test_a_run_without_validation_says_so_beside_one_that_has_it(record):
    runs = {"a": losses([1.0, 2.0]), "b": validations(0.5)}
    drawing = record(lambda path: learning_curves(runs, path))
    assert {"a: no validation", "b: best 50.00 % at step 1,000"} < set(drawing.words)


def test_without_any_validation_the_losses_are_the_only_panel(record):
    runs = {"a": losses([1.0, 2.0]), "b": losses([3.0])}
    drawing = record(lambda path: learning_curves(runs, path))
    (axes,) = panels(drawing)
    assert axes.get_title("left") == "training loss"
    assert {"a", "b"} < set(drawing.words)
    assert not {"nothing recorded", "a: no validation"} & set(drawing.words)


def test_a_run_that_has_recorded_nothing_is_one_empty_panel(record):
    drawing = record(lambda path: learning_curves({"a": []}, path))
    assert len(panels(drawing)) == drawing.words.count("nothing recorded") == 1


def test_losses_that_are_no_numbers_are_left_out(record):
    runs = {"a": losses([1.0, float("nan"), 3.0]), "b": losses([float("nan")])}
    (line,) = panels(record(lambda path: learning_curves(runs, path)))[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [1.0, np.nan, 3.0])


def test_smoothing_is_a_mean_with_falling_weights():
    values = np.random.default_rng(0).normal(size=12)
    values[4] = np.nan
    expected = []
    for i, value in enumerate(values):
        near = [(3 - abs(i - j), values[j]) for j in range(12) if abs(i - j) < 3 and j != 4]
        mean = sum(w * v for w, v in near) / sum(w for w, _ in near)
        expected.append(np.nan if np.isnan(value) else mean)
    np.testing.assert_allclose(smooth(values, 2), expected)


def test_smoothing_with_no_neighbors_changes_nothing():
    np.testing.assert_array_equal(smooth(np.array([3.0, 1.0, 2.0]), 0), [3.0, 1.0, 2.0])


def test_no_run_or_more_runs_than_colors_are_an_error(tmp_path):
    for count in (0, len(COLORS) + 1):
        with pytest.raises(ValueError, match=f"got {count}"):
            learning_curves({str(i): [] for i in range(count)}, tmp_path / "picture.png")


def test_a_line_without_its_step_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="without its step"):
        learning_curves({"x": [{"loss": {"supervised": 1.0}}]}, tmp_path / "picture.png")
