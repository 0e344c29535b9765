from __future__ import annotations

import numpy as np
import pytest

from leaf_fer.report import contact_sheet, prediction_sheet


def faces(count):
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)


def test_right_and_wrong_differ_by_more_than_color(record):
    drawing = record(
        lambda path: prediction_sheet(
            faces(2), ["fear", "anger"], ["fear", "awe"], [0.5, 0.256], path
        )
    )
    assert drawing.words == ["✔ fear 50 %", "✘ awe 26 %", "true: anger"]


def test_a_face_without_truth_is_neither_right_nor_wrong(record):
    drawing = record(lambda path: prediction_sheet(faces(1), [None], ["fear"], [1.0], path))
    assert drawing.words == ["fear 100 %"]


def test_candidates_are_listed(record):
    drawing = record(
        lambda path: prediction_sheet(
            faces(2), None, ["fear", "awe"], [1, 0], path, candidates=[["fear", "awe"], []]
        )
    )
    assert "candidates: fear, awe" in [words.replace("\n", " ") for words in drawing.words]


def test_a_note_is_the_last_line(record):
    drawing = record(
        lambda path: prediction_sheet(
            faces(2), ["awe", "awe"], ["fear", "awe"], [1, 1], path, notes=["votes: awe 9", ""]
        )
    )
    assert drawing.words == ["✘ fear 100 %", "true: awe\nvotes: awe 9", "✔ awe 100 %"]


def test_a_row_has_as_many_faces_as_asked(record):
    drawing = record(
        lambda path: prediction_sheet(faces(5), None, ["fear"] * 5, [0.5] * 5, path, columns=2)
    )
    rows = [round(box.y0) for box in drawing.images.values()]
    assert [rows.count(row) for row in sorted(set(rows), reverse=True)] == [2, 2, 1]


def test_a_caption_is_under_its_face_and_no_wider(record):
    names = ["compound_fearfully_disgusted", "happiness", "fear"]
    drawing = record(lambda path: prediction_sheet(faces(3), names[::-1], names, [1.0] * 3, path))
    for text, box in drawing.texts.items():
        (above,) = (i for i in drawing.images.values() if abs(i.x0 - box.x0) < 4)
        assert box.y1 < above.y0, text
        assert box.x1 < above.x1 + 4, text


def test_a_class_is_a_row_of_the_contact_sheet(record):
    drawing = record(
        lambda path: contact_sheet({"fear": faces(3), "awe": faces(0), "joy": faces(2)}, path)
    )
    middle = {text.get_text(): round((b.y0 + b.y1) / 2) for text, b in drawing.texts.items()}
    rows = [round((box.y0 + box.y1) / 2) for box in drawing.images.values()]
    assert [min(abs(row - middle["fear"]), abs(row - middle["joy"])) <= 3 for row in rows]
    assert middle["fear"] > middle["awe"] > middle["joy"]


def test_a_class_without_images_says_so(record):
    drawing = record(lambda path: contact_sheet({"fear": faces(1), "awe": faces(0)}, path))
    assert drawing.words == ["fear", "awe", "no images"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": faces(2)[0]}, r"\(N, S, S, 3\), got \(48, 48, 3\)"),
        ({"images": faces(2)[:, :40]}, r"got \(2, 40, 48, 3\)"),
        ({"images": faces(2) / 255}, "expected uint8, got float64"),
        ({"images": faces(0), "predicted": [], "confidence": [], "truth": None}, "got 0"),
        ({"truth": ["a"]}, "expected 2 truth, one an image, got 1"),
        ({"predicted": ["a"]}, "expected 2 predicted"),
        ({"confidence": [0.5]}, "expected 2 confidence"),
        ({"confidence": [0.5, 1.5]}, "confidence <= 1"),
        ({"candidates": [["a"]]}, "expected 2 candidates"),
        ({"notes": ["a"]}, "expected 2 notes"),
        ({"columns": 0}, "columns >= 1"),
    ],
)
def test_a_sheet_of_what_does_not_fit_is_an_error(tmp_path, change, message):
    given = {"images": faces(2), "truth": ["a", "b"], "predicted": ["a", "b"],
             "confidence": [0.5, 0.5], "path": tmp_path / "picture.png", **change}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        prediction_sheet(**given)


@pytest.mark.parametrize("images", [{}, {"a": faces(1)[0]}, {"a": faces(1)[..., :1]}])
def test_a_contact_sheet_of_what_does_not_fit_is_an_error(tmp_path, images):
    with pytest.raises(ValueError, match="expected images"):
        contact_sheet(images, tmp_path / "picture.png")
