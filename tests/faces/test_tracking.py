import math

import numpy as np
import pytest

from leaf_fer.faces.tracking import Smoother, Tracker


def box(left, top=0.0, side=10.0):
    return [left, top, left + side, top + side]


def numbers(tracker, *boxes):
    return tracker.update(np.array(boxes, dtype=float).reshape(-1, 4)).tolist()


def test_a_moving_face_keeps_its_number():
    tracker = Tracker()
    assert [numbers(tracker, box(3 * step, step)) for step in range(50)] == [[0]] * 50


def test_faces_are_told_apart_whatever_their_order():
    tracker = Tracker()
    assert numbers(tracker, box(0), box(100)) == [0, 1]
    assert numbers(tracker, box(101), box(1)) == [1, 0]


def test_numbers_within_a_frame_differ():
    tracker = Tracker()
    numbers(tracker, box(0))
    assert sorted(numbers(tracker, box(0), box(1), box(2))) == [0, 1, 2]


def test_the_pair_that_overlaps_most_comes_first():
    tracker = Tracker()
    numbers(tracker, box(0), box(6))
    # The face at 5 overlaps with both tracks, most with that at 6, which is then not free for 8.
    assert numbers(tracker, box(8), box(5)) == [2, 1]


def test_a_face_that_jumps_is_a_new_one():
    tracker = Tracker()
    numbers(tracker, box(0))
    assert numbers(tracker, box(6)) == [1]  # 4 / 16 of the union


def test_the_overlap_that_is_asked_for_suffices():
    tracker = Tracker(overlap=0.25)
    numbers(tracker, box(0))
    assert numbers(tracker, box(6)) == [0]


@pytest.mark.parametrize(("missed", "number"), [(0, 0), (1, 0), (3, 0), (4, 1), (9, 1)])
def test_a_track_survives_as_many_frames_as_asked(missed, number):
    tracker = Tracker(patience=3)
    numbers(tracker, box(0))
    for _ in range(missed):
        assert numbers(tracker) == []
    assert numbers(tracker, box(0)) == [number]


def test_being_seen_again_restores_the_patience():
    tracker = Tracker(patience=1)
    for _ in range(5):
        assert numbers(tracker, box(0)) == [0]
        numbers(tracker)


def test_numbers_are_never_used_again():
    tracker = Tracker(patience=0)
    seen = []
    for step in range(40):
        seen += numbers(tracker, *([box(0), box(50)] if step % 3 else []))
    assert sorted(set(seen)) == list(range(26))


def test_two_trackers_do_not_share_numbers():
    assert numbers(Tracker(), box(0)) == numbers(Tracker(), box(0)) == [0]


def test_lost_tracks_leave_memory():
    tracker = Tracker(patience=2)
    for step in range(100):
        numbers(tracker, box(100 * step))
    assert len(tracker._tracks) == 3


def test_the_boxes_of_a_frame_may_be_reused():
    tracker = Tracker()
    boxes = np.array([box(0)])
    tracker.update(boxes)
    boxes += 1
    tracker.update(boxes)
    boxes += 1000
    assert numbers(tracker, box(1)) == [0]


@pytest.mark.parametrize("wrong", [{"overlap": 0}, {"overlap": 1.1}, {"patience": -1}])
def test_a_tracker_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="expected 0 < overlap <= 1 and patience >= 0"):
        Tracker(**wrong)


def test_a_real_face_that_moves_through_a_picture_is_one_track(yunet, portraits):
    tracker, seen = Tracker(), []
    for step in range(12):
        canvas = np.full((240, 480, 3), 110, np.uint8)
        canvas[40:184, 10 + 25 * step : 154 + 25 * step] = portraits[0]
        seen += tracker.update(yunet.detect(canvas).boxes).tolist()
    assert seen == [0] * 12


def one(*probabilities):
    return np.array([probabilities], dtype=np.float32)


TRACK = np.array([7])


def test_without_a_time_nothing_is_smoothed():
    smoother = Smoother(0)
    smoother.smooth(TRACK, one(1, 0), 0.0)
    assert smoother.smooth(TRACK, one(0.25, 0.75), 0.1).tolist() == [[0.25, 0.75]]


def test_the_first_sight_of_a_face_is_taken_as_it_is():
    smoother = Smoother(1.0)
    smoother.smooth(np.array([1]), one(1, 0), 0.0)
    assert smoother.smooth(np.array([2]), one(0, 1), 0.1).tolist() == [[0, 1]]


def test_a_sudden_change_is_followed_exponentially():
    smoother = Smoother(0.5)
    smoother.smooth(TRACK, one(1, 0), 3.0)
    for step in range(1, 20):
        left = math.exp(-0.04 * step / 0.5)
        found = smoother.smooth(TRACK, one(0, 1), 3.0 + 0.04 * step)
        np.testing.assert_allclose(found, [[left, 1 - left]], rtol=1e-9)


def test_smoothing_does_not_depend_on_the_rate_of_frames():
    fine, coarse = Smoother(0.4), Smoother(0.4)
    for smoother in (fine, coarse):
        smoother.smooth(TRACK, one(1, 0), 0.0)
    for time in (0.1, 0.17, 0.9):
        last = fine.smooth(TRACK, one(0.3, 0.7), time)
    np.testing.assert_allclose(coarse.smooth(TRACK, one(0.3, 0.7), 0.9), last, rtol=1e-6)


def test_smoothing_is_a_weighted_sum_of_what_was_said():
    rng = np.random.default_rng(0)
    said, times = rng.dirichlet(np.ones(4), 9), np.sort(rng.uniform(0, 3, 9))
    weights = np.ones(9)
    for step in range(1, 9):
        weights[step] = 1 - math.exp(-(times[step] - times[step - 1]) / 0.7)
        weights[:step] *= 1 - weights[step]
    smoother = Smoother(0.7)
    for row, time in zip(said, times, strict=True):
        found = smoother.smooth(TRACK, row[None], time)
    np.testing.assert_allclose(found, [weights @ said])


def test_smoothed_rows_still_sum_to_one():
    rng = np.random.default_rng(1)
    smoother = Smoother(0.3)
    for step in range(200):
        tracks = rng.choice(6, size=rng.integers(0, 6), replace=False)
        found = smoother.smooth(tracks, rng.dirichlet(np.ones(7), len(tracks)), 0.04 * step)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
        assert (found >= 0).all()


def test_a_face_that_was_away_for_a_while_is_remembered():
    smoother = Smoother(0.1)
    smoother.smooth(TRACK, one(1, 0), 0.0)
    for step in range(1, 10):
        smoother.smooth(np.array([8]), one(1, 0), 0.1 * step)
    left = math.exp(-10)
    np.testing.assert_allclose(smoother.smooth(TRACK, one(0, 1), 1.0), [[left, 1 - left]])


def test_faces_are_smoothed_apart_whatever_their_order():
    smoother = Smoother(1.0)
    smoother.smooth(np.array([3, 4]), np.eye(2), 0.0)
    found = smoother.smooth(np.array([4, 3]), np.eye(2)[::-1], 1.0)
    assert found.tolist() == [[0, 1], [1, 0]]


def test_smoothing_leaves_its_input_alone():
    smoother, said = Smoother(1.0), one(0, 1)
    smoother.smooth(TRACK, one(1, 0), 0.0)
    smoother.smooth(TRACK, said, 1.0)
    assert said.tolist() == [[0, 1]]


def test_what_was_returned_may_be_written_to():
    smoother = Smoother(1.0)
    smoother.smooth(TRACK, one(1, 0), 0.0)[:] = 5
    assert smoother.smooth(TRACK, one(1, 0), 1.0).tolist() == [[1, 0]]


def test_faces_that_are_long_gone_leave_memory():
    smoother = Smoother(0.1)
    for step in range(1000):
        smoother.smooth(np.array([step]), one(1, 0), 0.5 * step)
    assert len(smoother._known) < 20


@pytest.mark.parametrize("seconds", [-0.1, math.nan])
def test_a_smoother_refuses_a_time_that_makes_no_sense(seconds):
    with pytest.raises(ValueError, match="expected seconds >= 0"):
        Smoother(seconds)
