from pathlib import Path

import numpy as np
import pytest

from leaf_fer.faces.footage import Frame, Loss
from leaf_fer.scenes.judging import Judge
from leaf_fer.scenes.looking import Sight
from leaf_fer.scenes.places import Place
from leaf_fer.scenes.verdicts import Verdict, columns, lost, verdicts

from .conftest import CLASSES, faces

BOX = (5, 20, 35, 50)


class Graded:
    """A model that is surer of the last class the brighter a face is."""

    classes = CLASSES

    def __init__(self):
        self.batches = []

    def probabilities(self, pixels):
        self.batches.append(len(pixels))
        share = pixels.mean(axis=(1, 2, 3)) / 255
        return np.stack([0.75 * (1 - share), 0.25 * (1 - share), share], axis=1, dtype=np.float32)


def sight(path, index, seconds, *levels, tracks=None):
    image = np.zeros((60, 60, 3), np.uint8)
    crops = np.array([np.full((4, 4, 3), level) for level in levels], np.uint8)
    found = faces(*[BOX] * len(levels))
    numbers = range(len(levels)) if tracks is None else tracks
    numbers = np.array([*numbers] if seconds is not None else [-1] * len(levels), np.int64)
    frame = Frame(Path(path), index, seconds, image)
    return Sight(frame, found, numbers, crops.reshape(-1, 4, 4, 3))


def judged(sights, **options):
    model = Graded()
    found = list(Judge(model, **options).judge(sights))
    return model, found


def test_faces_of_several_pictures_are_classified_together_and_told_apart():
    sights = [sight("a", n, n / 25, *[40 * n] * (n % 3)) for n in range(6)]
    model, found = judged(sights, together=4)
    assert model.batches == [0 + 1 + 2 + 0, 1 + 2]
    for one, seen in zip(found, sights, strict=True):
        assert one.sight is seen
        expected = Graded().probabilities(seen.crops)
        np.testing.assert_allclose(one.scores, expected, atol=1e-6)


def test_no_batch_is_larger_than_asked_for():
    model, found = judged([sight("a", 0, None, *[50] * 7)], batch_size=3)
    assert model.batches == [3, 3, 1]
    assert found[0].scores.shape == (7, 3)


def test_scores_of_a_track_are_averaged_over_time():
    sights = [sight("a", n, n * 0.5, 255 * (n % 2)) for n in range(3)]
    _, found = judged(sights, smooth=0.5)
    keep = np.exp(-1)
    expected = [0, 1 - keep, (1 - keep) * keep]
    np.testing.assert_allclose([one.scores[0, 2] for one in found], expected, atol=1e-6)
    _, plain = judged(sights, smooth=0)
    np.testing.assert_allclose([one.scores[0, 2] for one in plain], [0, 1, 0], atol=1e-6)


def test_neither_photos_nor_other_videos_are_averaged():
    sights = [sight("a", 0, 0.0, 0), sight("b", 0, 0.0, 255), sight("c", 0, None, 0)]
    _, found = judged([*sights, sight("b", 0, 0.0, 0)], smooth=9)
    np.testing.assert_allclose([one.scores[0, 2] for one in found], [0, 1, 0, 0], atol=1e-6)


def test_losses_wait_for_the_pictures_before_them():
    loss = Loss(Path("a"), "is damaged or not whole")
    sights = [sight("a", 0, 0.0, 9), loss, sight("b", 0, 0.0, 9)]
    _, found = judged(sights)
    assert found[1] is loss
    assert (found[0].sight, found[2].sight) == (sights[0], sights[2])


def test_candidates_are_of_the_averaged_scores():
    def choose(scores):
        return scores >= 0.3

    sights = [sight("a", 0, 0.0, 0), sight("a", 1, 0.5, 255)]
    _, found = judged(sights, smooth=0.5, choose=choose)
    assert [one.chosen[0].tolist() for one in found] == [[True, False, False], [False, False, True]]
    (said,) = verdicts(found[1], CLASSES)
    assert said.candidates == ("grim",)


def said(level, chosen=None, seconds=0.04):
    _, (one,) = judged([sight("a.mp4", 1, seconds, level)], choose=chosen)
    (found,) = verdicts(one, CLASSES)
    return found


def test_a_verdict_says_who_where_and_what():
    found = said(51)
    assert found.nested() == {
        "file": "a.mp4",
        "frame": 1,
        "seconds": 0.04,
        "track": 0,
        "box": [5, 20, 35, 50],
        "score": 0.9,
        "label": "calm",
        "confidence": 0.6,
        "scores": {"calm": 0.6, "glad": 0.2, "grim": 0.2},
        "candidates": None,
        "error": None,
    }
    row = dict(zip(columns(CLASSES), found.flat(), strict=True))
    assert row["right"] == 35
    assert row["grim"] == 0.2
    assert found.text().startswith("calm       60 %  a.mp4, 0.04 s, face 0, 30 x 30 at 5,20  (")
    assert found.caption() == "calm 60 %"


def test_a_face_of_a_photo_has_no_time():
    found = said(51, seconds=None)
    assert found.flat()[1:4] == [None, None, None]
    assert " s, face" not in found.text()


@pytest.mark.parametrize(
    ("least", "label", "caption", "unsure"),
    [
        (0.5, "calm", "calm 60 %", "calm 60 %"),
        (0.1, "calm", "calm 60 %\nor glad, grim", "not sure\ncalm or glad or grim"),
        (0.9, "calm", "calm 60 %", "calm 60 %"),
    ],
)
def test_captions_name_the_candidates(least, label, caption, unsure):
    found = said(51, lambda scores: scores >= least)
    assert found.label == label
    assert found.caption() == caption
    assert found.unsure().caption() == unsure


def test_many_candidates_are_not_one_long_line():
    names = ("sadness", "anger", "disgust", "contempt")
    found = Verdict(Place(Path("a.jpg")), names, "anger", 0.4, (), names)
    assert found.caption() == "anger 40 %\nor sadness, disgust,\ncontempt"
    assert found.unsure().caption() == "not sure\nsadness or anger or\ndisgust or contempt"


def test_what_is_lost_is_a_row_without_a_face():
    found = lost(Loss(Path("a.mp4"), "is empty"), CLASSES)
    row = dict(zip(columns(CLASSES), found.flat(), strict=True))
    assert {name for name, value in row.items() if value} == {"file", "error"}
    assert found.nested()["error"] == "is empty"
    assert found.text() == "error         -  a.mp4  (is empty)"
