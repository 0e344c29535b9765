import numpy as np
import pytest

from leaf_fer.data.decode import UnreadableImage, align
from leaf_fer.recipe import Recipe
from leaf_fer.scenes.cutting import cut_face

from .conftest import faces


def ramp(height=120, width=160):
    """A picture whose red counts columns and whose green counts rows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


def cut(box, recipe, size, image=None):
    one = faces(box)
    return cut_face(ramp() if image is None else image, one.boxes[0], one.points[0], recipe, size)


def test_a_square_box_is_the_crop():
    expected = ramp()[20:70, 30:80]
    assert (cut((30, 20, 80, 70), Recipe("box"), 50) == expected).all()


def test_a_box_that_is_no_square_becomes_one_around_its_middle():
    assert (cut((40, 20, 70, 70), Recipe("box"), 50) == ramp()[20:70, 30:80]).all()
    assert (cut((30, 30, 80, 60), Recipe("box"), 50) == ramp()[20:70, 30:80]).all()


def test_a_margin_is_added_at_every_side():
    found = cut((50, 40, 90, 80), Recipe("box", 0.25), 60)
    assert (found == ramp()[30:90, 40:100]).all()


def test_what_is_beyond_the_picture_is_black():
    found = cut((-20, 20, 30, 70), Recipe("box"), 50)
    assert (found[:, :20] == 0).all()
    assert (found[:, 21:] == ramp()[20:70, 1:30]).all()


def test_a_large_box_is_averaged_and_not_skipped_over():
    found = cut((0, 0, 120, 120), Recipe("box"), 30)
    expected = ramp()[:, :120].reshape(30, 4, 30, 4, 3).mean((1, 3))
    assert np.abs(found[1:-1, 1:-1] - expected[1:-1, 1:-1]).max() <= 1


def test_points_without_a_margin_are_aligned_as_data_sets_are():
    one = faces((30, 20, 80, 70))
    expected = align(ramp(), one.points[0], 48)
    assert (cut((30, 20, 80, 70), Recipe("points"), 48) == expected).all()


def test_the_middle_of_an_aligned_face_with_a_margin_is_that_without():
    image = ramp()
    plain, wide = (
        cut((50, 40, 90, 80), Recipe("points", m), s, image) for m, s in ((0, 56), (0.25, 84))
    )
    assert np.abs(wide[14:-14, 14:-14].astype(int) - plain).max() <= 1


@pytest.mark.parametrize("align", ["points", "box"])
@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, np.nan, 9)])
def test_a_face_in_a_point_is_none(align, box):
    with pytest.raises(UnreadableImage):
        cut(box, Recipe(align), 32)
