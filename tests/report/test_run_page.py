from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from leaf_fer.report.gallery import SIDE
from leaf_fer.report.run_page import MOST_FACES, run_page

from .pages import CLASSES, answers, check_page, evidence, faces, recorded, run

POOL = {
    "count": 90,
    "accuracy": 0.75,
    "coverage": {"0.5": 0.8, "0.95": 0.0},
    "precision": {"0.5": 0.9, "0.95": None},
    "candidates": {"mass": 0.9, "size": 1.5, "hits": 0.95},
}


def test_a_page_has_all_that_a_run_can_show():
    one, other = run(lines=recorded()), run("two", lines=recorded(shift=0.1), method="supervised")
    seen = evidence(pool=faces(seed=1), pool_facts=POOL)
    outline = check_page(run_page(one, seen, other))
    keys = [section["id"] for section in outline.all("section")]
    assert keys == ["verdict", "beside", "training", "confusion", "classes", "confidence",
                    "experts", "features", "errors", "ambiguous", "pseudo", "made"]  # fmt: skip
    assert f"{100 * one.balanced:.1f} %" in outline.words
    assert "For looking only." in outline.words
    assert "Never used by these faces: expert 3 of the semantic EAF." in outline.words
    assert "computed on a CPU" in outline.words
    assert "1 min 15 s" in outline.words
    drawings = [drawing["aria-label"] for drawing in outline.all("svg") if "role" in drawing]
    assert any("supervised ends at 60.0" in text for text in drawings)
    assert any(text.startswith("t-SNE of 40 faces of 3 classes") for text in drawings)


def test_the_confusion_matrix_shows_counts_and_shares():
    one = run()
    text = run_page(one, None, None)
    check_page(text)
    cells = re.findall(r'<td(?: class="hit")? style="--share:([\d.]+)">(\d+)<small>(\d+)<', text)
    counts = np.array([int(count) for *_, count in cells]).reshape(3, 3)
    np.testing.assert_array_equal(counts, one.matrix)
    assert all(abs(float(share) - int(shown) / 100) < 0.01 for share, shown, _ in cells)


def test_faces_are_bounded_in_number_and_size():
    text = run_page(run(), evidence(pool=faces(seed=1), pool_facts=POOL), None, faces=10**6)
    outline = check_page(text)
    images = outline.all("img")
    assert 0 < len(images) <= 3 * MOST_FACES
    for image in images[:3]:
        content = base64.b64decode(image["src"].partition(",")[2])
        assert Image.open(io.BytesIO(content)).size == (SIDE, SIDE)
    assert len(text) < 3 << 20


def test_a_page_may_show_nobody():
    outline = check_page(run_page(run(), evidence(), None, faces=0))
    assert outline.all("img") == []
    assert "Torn between classes" not in outline.words


def test_a_sheet_has_the_most_confident_errors_first():
    p, targets = answers()
    outline = check_page(run_page(run(), evidence(), None, faces=4))
    wrong = np.flatnonzero(p.argmax(axis=1) != targets)
    worst = wrong[np.argsort(-p.max(axis=1)[wrong])][:4]
    titles = [image["title"] for image in outline.all("img") if image["class"] == "wrong"]
    assert titles == [f"face {place}" for place in worst]


def test_without_a_supervised_run_it_says_how_to_make_one():
    outline = check_page(run_page(run(), None, None, command="leaf train it --method supervised"))
    assert "leaf train it --method supervised" in outline.words
    own = check_page(run_page(run(method="supervised"), None, None, command="leaf train it"))
    assert "leaf train it" not in own.words


def test_what_a_supervised_run_differs_in_is_told():
    same = check_page(run_page(run(), None, run("two", method="supervised")))
    assert "differs in nothing but the method" in same.words
    other = check_page(run_page(run(), None, run("two", method="supervised", lr=1e-3)))
    assert "differs in the method and in --lr" in other.words


def test_a_run_that_was_not_measured_has_a_page_too():
    one = run(lines=recorded())
    outline = check_page(run_page(replace(one, metrics={"selection": "last"}), None, None))
    assert "no labeled faces to measure it on" in outline.words
    assert [section["id"] for section in outline.all("section")] == ["verdict", "training", "made"]


def test_missing_data_are_told():
    outline = check_page(run_page(run(), None, None, missing="The data has moved."))
    assert "The data has moved." in outline.words


def test_names_are_text_not_markup():
    one = run("<script>alert(1)", data='csv:"<b>&')
    outline = check_page(run_page(one, None, None))
    assert "<script>alert(1)" in outline.words
    assert 'csv:"<b>&' in outline.words


def test_a_class_without_faces_has_no_recall():
    p, targets = answers()
    kept = targets != 1
    outline = check_page(run_page(run(p=p[kept], targets=targets[kept]), None, None))
    assert f"{CLASSES[1]} n/a" in outline.words


@pytest.mark.parametrize("sample", [1, 3])
def test_few_faces_have_no_plane(sample):
    seen = replace(evidence(), plane=None, sample=np.arange(sample))
    assert "at least four faces" in check_page(run_page(run(), seen, None)).words
