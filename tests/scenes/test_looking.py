import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from leaf_fer.faces.footage import Every, Frame, Loss
from leaf_fer.recipe import Recipe
from leaf_fer.scenes.judging import TOGETHER, Judge
from leaf_fer.scenes.looking import AHEAD, Looker, look_at

from .conftest import CLASSES, Bright, Pointed, faces

IMAGE = np.full((100, 100, 3), 110, np.uint8)
LEFT, RIGHT = (5, 20, 35, 50), (60, 20, 90, 50)


def video(name, count, first=0, rate=25):
    path = Path(name)
    return [Frame(path, n, n / rate, IMAGE) for n in range(first, first + count)]


def photo(name):
    return Frame(Path(name), 0, None, IMAGE)


def looked(frames, *seen, recipe=Recipe("box"), size=16, every=None):  # noqa: B008
    return list(look_at(frames, Looker(Pointed(*seen), recipe, size, every)))


def test_faces_of_a_photo_have_no_track():
    (sight,) = looked([photo("a")], faces(LEFT, RIGHT))
    assert sight.tracks.tolist() == [-1, -1]
    assert sight.crops.shape == (2, 16, 16, 3)


def test_a_face_keeps_its_track_whatever_its_place_in_the_list():
    found = looked(video("a", 3), faces(LEFT, RIGHT), faces(RIGHT, LEFT), faces(RIGHT))
    assert [one.tracks.tolist() for one in found] == [[0, 1], [1, 0], [1]]


def test_another_video_has_tracks_of_its_own():
    frames = [*video("a", 2), *video("b", 1), *video("b", 1)]
    seen = [faces(LEFT), faces(LEFT, RIGHT), faces(RIGHT), faces(LEFT)]
    found = looked(frames, *seen)
    assert [one.tracks.tolist() for one in found] == [[0], [0, 1], [0], [0]]


@pytest.mark.parametrize(
    ("every", "gap", "same"),
    [
        (None, 12, True),
        (None, 13, False),
        (Every(6), 2, True),
        (Every(6), 3, False),
        (Every(1, 0.25), 2, True),
        (Every(1, 0.25), 3, False),
        (Every(1, 2.0), 1, True),
    ],
)
def test_a_face_may_be_missed_for_half_a_second_however_many_pictures_that_are(every, gap, same):
    seen = [faces(LEFT), *[faces()] * gap, faces(LEFT)]
    found = looked(video("a", gap + 2), *seen, every=every)
    assert (found[-1].tracks.tolist() == [0]) is same


def test_what_cannot_be_cut_out_is_no_face():
    (sight,) = looked([photo("a")], faces(LEFT, (7, 7, 7, 7), RIGHT))
    assert len(sight.faces) == len(sight.crops) == len(sight.tracks) == 2
    assert sight.faces.boxes[1].tolist() == list(RIGHT)


def test_crops_go_through_the_size_of_the_recipe():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    frame = Frame(Path("a"), 0, None, noise)
    (small,) = looked([frame], faces((0, 0, 96, 96)), recipe=Recipe("box", size=12), size=48)
    (sharp,) = looked([frame], faces((0, 0, 96, 96)), recipe=Recipe("box"), size=48)
    assert small.crops.shape == sharp.crops.shape
    assert small.crops.std() < 0.7 * sharp.crops.std()


def test_losses_stay_in_their_place():
    loss = Loss(Path("b"), "is empty")
    found = looked([photo("a"), loss, photo("c")], faces(LEFT), faces())
    assert found[1] is loss
    assert [len(one.faces) for one in (found[0], found[2])] == [1, 0]


def test_a_failing_detector_is_not_hidden():
    class Broken:
        name = "yunet"

        def detect(self, image):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(look_at([photo("a")], Looker(Broken(), Recipe(), 16)))


class Even:
    """A model that is as sure of every class."""

    classes = CLASSES

    def probabilities(self, pixels):
        return np.full((len(pixels), 3), 1 / 3, np.float32)


def test_a_long_video_is_in_memory_a_few_pictures_at_a_time():
    alive, most = weakref.WeakSet(), 0

    class Image(np.ndarray):
        """An array that can be counted."""

    def frames():
        nonlocal most
        for number in range(300):
            image = np.zeros((40, 40, 3), np.uint8).view(Image)
            image[10:30, 10:30] = 255
            alive.add(Held(image))
            most = max(most, len(alive))
            yield Frame(Path("a"), number, number / 25, image)

    class Held:
        """Lives as long as the array does."""

        def __init__(self, image):
            image.held = self

    for _ in Judge(Even(), smooth=0.5).judge(look_at(frames(), Looker(Bright(), Recipe("box"), 8))):
        pass
    gc.collect()
    assert 0 < most <= AHEAD + 2 * TOGETHER + 4
