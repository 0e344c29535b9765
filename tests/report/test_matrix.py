from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from leaf_fer.report import confusion_matrix
from leaf_fer.report.matrix import DARK, EMPTY, LIGHT

COUNTS = [[3, 1], [0, 0]]  # of four images of the class "a"


def luminance(color):
    channels = np.array(to_rgb(color))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ (
        0.2126,
        0.7152,
        0.0722,
    )


@pytest.fixture(scope="module")
def drawing(record):
    return record(lambda path: confusion_matrix(COUNTS, ("a", "b"), path, "on faces"))


def place(drawing, words):
    return drawing.texts[next(text for text in drawing.texts if text.get_text() == words)]


def test_the_accuracies_are_told(drawing):
    told = "overall accuracy 75.00 %  ·  balanced accuracy 75.00 %  ·  4 images"
    assert told in drawing.words


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur(record):
    drawing = record(
        lambda path: confusion_matrix([[8, 0, 0], [1, 1, 0], [0, 0, 0]], ("a", "b", "c"), path)
    )
    told = "overall accuracy 90.00 %  ·  balanced accuracy 75.00 %  ·  10 images"
    assert told in drawing.words


def test_the_title_is_drawn(drawing):
    assert "on faces" in drawing.words


def test_rows_are_true_classes(drawing):
    right, wrong = place(drawing, "75.0 %"), place(drawing, "25.0 %")
    assert right.y0 == pytest.approx(wrong.y0, abs=1)
    assert right.x1 < wrong.x0


def test_a_row_without_images_has_no_percentages(drawing):
    assert drawing.words.count("n/a") == 2


def test_the_diagonal_is_bold(drawing):
    bold = [text.get_text() for text in drawing.texts if text.get_weight() == "bold"]
    assert bold == ["on faces", "75.0 %", "n/a"]


def test_cells_are_as_dark_as_their_share_of_the_row(drawing):
    cells = next(text.axes for text in drawing.texts).patches
    expected = [LIGHT + 0.75 * (DARK - LIGHT), LIGHT + 0.25 * (DARK - LIGHT)]
    np.testing.assert_allclose([cell.get_facecolor()[:3] for cell in cells[:2]], expected)


def test_black_is_readable_on_every_cell():
    # Contrast to black (WCAG 2); between its ends the color map only falls.
    assert min(luminance(color) + 0.05 for color in (LIGHT, DARK, EMPTY)) / 0.05 > 7


def test_class_names_are_drawn_whole(record):
    names = ("Donaudampfschifffahrtskapitaensfreude", "$x_1$", "compound_happily_surprised")
    drawing = record(lambda path: confusion_matrix(np.eye(3, dtype=int), names, path))
    drawn = [words.replace("\n", "") for words in drawing.words]
    assert [drawn.count(name) for name in names] == [2, 2, 2]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 2, 3], [1, 2, 3]], r"\(2, 2\) for 2 classes, got \(2, 3\)"),
        ([1, 2], r"got \(2,\)"),
        ([[0.5, 0.5], [0.5, 0.5]], "expected counts"),
        ([[1, -1], [0, 1]], "expected counts"),
        ([[0, 0], [0, 0]], "not all 0"),
    ],
)
def test_a_matrix_that_is_none_is_an_error(tmp_path, matrix, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(matrix, ("a", "b"), tmp_path / "picture.png")
