import numpy as np
import pytest

from leaf_fer.data.alignment import TEMPLATE, five_points, similarity


def umeyama(source, goal):
    """The general solution of the paper, by singular values."""
    a, b = source - source.mean(0), goal - goal.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    s = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ s @ vt
    scale = np.trace(np.diag(d) @ s) / a.var(0).sum()
    linear = scale * rotation
    return np.column_stack([linear, goal.mean(0) - linear @ source.mean(0)])


def apply(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def turn(degrees, scale):
    angle = np.deg2rad(degrees)
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_points_on_the_template_are_left_alone():
    np.testing.assert_allclose(similarity(TEMPLATE), np.eye(2, 3), atol=1e-12)


@pytest.mark.parametrize("degrees", [-170, -30, 0, 45, 90, 180])
def test_a_known_turn_zoom_and_shift_is_recovered(degrees):
    wanted = np.column_stack([turn(degrees, 0.4), [7.0, -3.0]])
    np.testing.assert_allclose(similarity(TEMPLATE, apply(wanted, TEMPLATE)), wanted, atol=1e-9)


def test_a_turned_face_comes_back_to_the_template():
    turned = TEMPLATE @ turn(25, 2.5).T + [300.0, 40.0]
    np.testing.assert_allclose(apply(similarity(turned), turned), TEMPLATE, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_similarity_of_noisy_points_is_that_of_umeyama(seed):
    generator = np.random.default_rng(seed)
    points = TEMPLATE @ turn(generator.uniform(-180, 180), 3).T + generator.normal(0, 20, (5, 2))
    np.testing.assert_allclose(similarity(points), umeyama(points, TEMPLATE), atol=1e-9)


def test_a_mirrored_face_is_not_reflected():
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(mirrored)[:, :2]) > 0


def test_no_other_similarity_is_closer():
    points = TEMPLATE + np.random.default_rng(0).normal(0, 5, (5, 2))
    matrix = similarity(points)
    error = np.sum((apply(matrix, points) - TEMPLATE) ** 2)
    for row, column in np.ndindex(2, 3):
        if column < 2:
            # Keep the form [[a, -b], [b, a]] while moving a or b.
            step = np.zeros((2, 3))
            step[row, column] = 1e-3
            step[1 - row, 1 - column] = 1e-3 if row == column else -1e-3
        else:
            step = np.zeros((2, 3))
            step[row, column] = 1e-3
        assert np.sum((apply(matrix + step, points) - TEMPLATE) ** 2) > error


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.full((5, 2), np.nan)])
def test_points_that_are_no_face_are_refused(points):
    with pytest.raises(ValueError, match="expected points of a face"):
        similarity(points)


def test_the_template_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        TEMPLATE[0, 0] = 0


def test_an_eye_is_the_mean_of_its_six_landmarks():
    landmarks = np.arange(136, dtype=np.float64).reshape(68, 2)
    expected = [[77, 78], [89, 90], [60, 61], [96, 97], [108, 109]]
    np.testing.assert_allclose(five_points(landmarks), expected)


def test_five_points_takes_many_faces_at_once():
    landmarks = np.random.default_rng(0).normal(size=(3, 68, 2))
    each = np.stack([five_points(face) for face in landmarks])
    np.testing.assert_array_equal(five_points(landmarks), each)
