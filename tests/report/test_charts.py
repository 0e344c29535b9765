from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from leaf_fer.report.charts import MOST_POINTS, Series, line_chart, plane_chart, reliability_chart

from .pages import Outline


def places(drawing, style):
    found = re.findall(rf'class="{style}" d="M([^"]*)"', drawing)[-1]  # the first is the legend's
    return [tuple(map(float, pair.split())) for pair in found.split("L")]


def test_a_line_goes_from_left_to_right_and_up_with_its_values():
    drawing = line_chart("loss", [Series("one", [0, 5, 10], [1.0, 3.0, 2.0])])
    (x0, y0), (x1, y1), (x2, y2) = places(drawing, "line s0")
    assert x0 < x1 < x2
    assert y1 < y2 < y0  # pixels count from the top
    assert abs((y0 - y1) - 2 * (y0 - y2)) < 0.2
    assert Outline(drawing).words.startswith("loss one")


def test_what_is_not_finite_is_left_out_and_long_lines_are_thinned():
    values = np.arange(1000.0)
    values[500] = np.nan
    drawing = line_chart("loss", [Series("one", range(1000), values)])
    assert "nan" not in drawing
    assert len(places(drawing, "line s0")) == MOST_POINTS


def test_nothing_to_draw_is_told():
    drawing = line_chart("loss", [Series("one", [1], [float("nan")])])
    assert "Nothing was recorded." in Outline(drawing).words


def test_reliability_says_how_often_each_bin_is_right():
    confidence, right = np.array([0.95, 0.91, 0.55]), np.array([True, False, True])
    (drawing,) = Outline(reliability_chart(confidence, right)).all("svg")
    assert "50 to 60 %: right in 100\N{NO-BREAK SPACE}% of 1" in drawing["aria-label"]
    assert "90 to 100 %: right in 50\N{NO-BREAK SPACE}% of 2" in drawing["aria-label"]


def test_every_face_is_a_dot_and_names_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    names = [f"class {n}" for n in range(6)]
    drawing = plane_chart(rng.standard_normal((120, 2)), np.arange(120) % 6, names)
    assert drawing.count("h0") == 120
    spots = re.findall(r'<text x="(\d+)" y="(\d+)"', drawing)
    spots = sorted((int(y), int(x)) for x, y in spots)
    for (y0, x0), (y1, x1) in pairwise(spots):
        assert y1 - y0 >= 17 or abs(x1 - x0) > 55
