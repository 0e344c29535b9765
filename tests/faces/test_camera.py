from pathlib import Path

import numpy as np
import pytest

from leaf_fer.errors import UserError
from leaf_fer.faces.film import Film
from leaf_fer.faces.footage import Every, camera

from .clips import gray

pytest.importorskip("av")
cv2 = pytest.importorskip("cv2")


def test_a_camera_is_a_video_without_an_end(tmp_path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    with Film(tmp_path / "red.mp4") as film:
        for number in range(6):
            film.add(red, number / 25)
    # OpenCV takes files for cameras.
    found = list(camera(str(tmp_path / "red.mp4"), Every(2)))
    assert [frame.index for frame in found] == [0, 2, 4]
    assert np.abs(found[0].image.astype(int) - red).max() < 30
    assert 0 <= found[0].seconds < found[1].seconds < found[2].seconds
    assert found[0].path == Path(f"camera-{tmp_path / 'red.mp4'}")


@pytest.mark.parametrize("opened", [True, False])
def test_a_camera_is_given_back(monkeypatch, opened):
    calls = []

    class Device:
        def __init__(self, number):
            calls.append(number)

        def isOpened(self):  # noqa: N802 (OpenCV's name)
            return opened

        def set(self, name, value):
            pass

        def grab(self):
            return True

        def retrieve(self):
            return True, gray(1)

        def release(self):
            calls.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Device)
    seen = camera(3)
    if opened:
        next(seen)
        seen.close()
    else:
        with pytest.raises(UserError):
            next(seen)
    assert calls == [3, "released"]


def test_a_camera_that_is_not_there_is_named(capfd):
    with pytest.raises(UserError, match="--camera 98: cannot be opened"):
        next(camera(98))
    assert capfd.readouterr() == ("", "")
