import sys
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from leaf_fer.data.decode import UnreadableImage
from leaf_fer.errors import UserError
from leaf_fer.faces import footage as module
from leaf_fer.faces.footage import Frame, Loss, footage, frames

from .clips import gray, video

av = pytest.importorskip("av")


def reason(path):
    with pytest.raises(UnreadableImage) as caught:
        list(frames(path))
    assert str(path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert reason(tmp_path / "a.mp4") == "is empty"


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert reason(tmp_path / "a.mp4") == "does not exist"
    assert reason(tmp_path) == "is not a file"


NEITHER = "is neither a picture nor a whole video"


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.jpg", "a.ans", "a"])
def test_a_text_is_no_video_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_text("Once upon a time\n" * 99)
    assert reason(tmp_path / name) == NEITHER


def test_a_list_of_other_files_is_not_followed(tmp_path):
    video(tmp_path / "a.mp4")
    (tmp_path / "b.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n")
    (tmp_path / "c.txt").write_text("ffconcat version 1.0\nfile a.mp4\n")
    assert reason(tmp_path / "b.m3u8") == reason(tmp_path / "c.txt") == NEITHER


def test_a_video_whose_end_is_missing_is_named(tmp_path):
    path = video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"moov", b"skip"))  # a camera writes it last
    assert reason(path) == NEITHER


def test_a_video_that_breaks_off_gives_what_is_there(tmp_path):
    path = video(tmp_path / "a.mp4", 200)
    path.write_bytes(path.read_bytes()[:-1500])
    *found, loss = footage([path])
    assert 0 < len(found) < 200
    assert loss == Loss(path, "is damaged or not whole")


def test_a_video_that_is_damaged_in_the_middle_gives_the_rest(tmp_path):
    path = video(tmp_path / "a.mp4", 200)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0)]
    content = bytearray(path.read_bytes())
    content[places[60] : places[60] + 4] = b"\xff" * 4  # how long the next piece is
    path.write_bytes(content)
    *found, loss = footage([path])
    assert 190 < len(found) < 200
    assert found[-1].seconds == pytest.approx(199 / 25, abs=1e-3)
    assert loss == Loss(path, "is damaged or not whole")


def test_a_disk_that_fails_while_a_video_is_read_costs_only_the_rest(tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4", 100)

    class Failing:
        def __init__(self, container):
            self.container, self.streams = container, container.streams

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

        def demux(self, stream):
            yield from islice(self.container.demux(stream), 50)
            raise av.error.OSError(5, "Input/output error")

    opened = module._opened
    monkeypatch.setattr(module, "_opened", lambda *arguments: Failing(opened(*arguments)))
    *found, loss = footage([path])
    assert 0 < len(found) <= 50
    assert loss == Loss(path, "is damaged or not whole")


def test_a_sound_has_no_pictures(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        for packet in (*stream.encode(sound), *stream.encode()):
            container.mux(packet)
    assert reason(tmp_path / "a.mp4") == "has no pictures"


def test_a_video_that_would_not_fit_in_memory_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 3000)
    assert reason(video(tmp_path / "a.mp4")) == "is 64 x 48 pixels; at most 3000 pixels are opened"


def test_bad_files_are_named_and_harm_no_other(tmp_path):
    Image.fromarray(gray(7)).save(tmp_path / "photo.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo.png").read_bytes()[:60])
    (tmp_path / "text.mp4").write_text("hello")
    video(tmp_path / "video.mp4", 2)
    names = ["empty.png", "photo.png", "text.mp4", "video.mp4", "cut.png", "photo.png", "gone"]
    found = [
        (thing.path.name, thing.index if isinstance(thing, Frame) else thing.reason)
        for thing in footage(tmp_path / name for name in names)
    ]
    assert found == [
        ("empty.png", "is empty"),
        ("photo.png", 0),
        ("text.mp4", NEITHER),
        ("video.mp4", 0),
        ("video.mp4", 1),
        ("cut.png", "is truncated"),
        ("photo.png", 0),
        ("gone", "does not exist"),
    ]


def test_without_pyav_photos_are_read_and_videos_say_what_is_missing(tmp_path, monkeypatch):
    Image.fromarray(gray(7)).save(tmp_path / "photo.png")
    video(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    found = footage([tmp_path / "photo.png", tmp_path / "a.mp4"])
    assert next(found).index == 0
    with pytest.raises(UserError, match=r"needs av .*: pip install 'leaf-fer\[faces\]'$"):
        next(found)
