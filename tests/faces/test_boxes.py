import numpy as np
import pytest

from leaf_fer.faces.boxes import areas, distinct, overlaps


def boxes(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 12, (count, 2))], axis=1)


def share(a, b):
    """The definition, for two boxes."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_overlaps_are_intersection_over_union():
    first, second = boxes(0, 7), boxes(1, 5)
    wanted = [[share(a, b) for b in second] for a in first]
    np.testing.assert_allclose(overlaps(first, second), wanted)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ([0, 0, 4, 2], 1.0),
        ([2, 0, 6, 2], 1 / 3),
        ([4, 0, 8, 2], 0.0),  # they only touch
        ([1, 1, 1, 5], 0.0),  # no area
        ([9, 9, 5, 5], 0.0),  # inside out
    ],
)
def test_overlap_in_closed_form(other, wanted):
    found = overlaps(np.array([[0.0, 0, 4, 2]]), np.array([other], dtype=float))
    assert found.item() == pytest.approx(wanted)


def test_two_boxes_without_area_overlap_nowhere():
    assert overlaps(np.ones((1, 4)), np.ones((1, 4))).item() == 0


def test_no_boxes_overlap_nothing():
    assert overlaps(np.zeros((0, 4)), boxes(0, 3)).shape == (0, 3)
    assert areas(np.zeros((0, 4))).shape == (0,)


def slow_distinct(boxes, scores, most):
    kept = []
    for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)):
        if all(share(boxes[row], boxes[other]) <= most for other in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("most", [0.0, 0.2, 0.5, 1.0])
def test_distinct_keeps_what_no_better_kept_box_covers(most):
    many = boxes(2, 40)
    scores = np.random.default_rng(3).integers(0, 20, 40) / 20  # with ties
    assert distinct(many, scores, most).tolist() == slow_distinct(many, scores, most)


def test_a_box_that_is_covered_by_a_dropped_one_only_is_kept():
    row = np.array([[0.0, 0, 10, 4], [4, 0, 14, 4], [8, 0, 18, 4]])  # a chain
    assert distinct(row, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_of_no_boxes_none_is_distinct():
    assert distinct(np.zeros((0, 4)), np.zeros(0), 0.3).tolist() == []
