import gc
import struct
import weakref
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from leaf_fer.errors import UserError
from leaf_fer.faces import footage as module
from leaf_fer.faces.film import Film
from leaf_fer.faces.footage import Every, footage, frames

from .clips import gray, levels, video
from .conftest import installed

av = pytest.importorskip("av")


def test_a_photo_is_one_frame_without_a_time(tmp_path):
    Image.fromarray(gray(7)).save(tmp_path / "photo.png")
    (frame,) = frames(tmp_path / "photo.png")
    assert (frame.path, frame.index, frame.seconds) == (tmp_path / "photo.png", 0, None)
    np.testing.assert_array_equal(frame.image, gray(7))


def test_the_frames_of_a_video_come_in_order_with_their_times(tmp_path):
    found = list(frames(video(tmp_path / "a.mp4")))
    assert [frame.index for frame in found] == list(range(20))
    np.testing.assert_allclose([frame.seconds for frame in found], np.arange(20) / 25, atol=1e-4)
    assert levels(found) == list(range(20))
    assert {(frame.image.shape, frame.image.dtype.name) for frame in found} == {
        ((48, 64, 3), "uint8")
    }


def test_frames_are_red_where_the_video_is(tmp_path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    with Film(tmp_path / "red.mp4") as film:
        film.add(red, 0.0)
    (frame,) = frames(tmp_path / "red.mp4")
    assert np.abs(frame.image.astype(int) - red).max() < 30
    assert frame.image.flags.c_contiguous


def test_a_variable_rate_gives_true_times(tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 2.0, 2.75]
    found = frames(video(tmp_path / "a.mp4", times=times))
    np.testing.assert_allclose([frame.seconds for frame in found], times, atol=1e-4)


def test_time_begins_with_the_video_not_with_its_clock(tmp_path):
    found = list(frames(video(tmp_path / "a.mp4", times=[5.0, 5.5, 6.0])))
    np.testing.assert_allclose([frame.seconds for frame in found], [0, 0.5, 1], atol=2e-3)


@pytest.mark.parametrize("container", ["h264", "avi", "mpegts", "matroska"])
def test_times_rise_whatever_a_format_says_of_them(tmp_path, container):
    path = tmp_path / "a.video"
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(gray(10 * number))))
        output.mux(stream.encode())
    found = list(frames(path))
    assert levels(found) == list(range(20))
    times = np.array([frame.seconds for frame in found])
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=0.1)


def test_a_clock_runs_on_where_there_is_no_time():
    clock = module._Clock(0.5)
    said = [3.0, 3.1, None, 3.4, 4.0, None]
    np.testing.assert_allclose([clock.read(t) for t in said], [0, 0.1, 0.6, 1.1, 1.6, 2.1])
    clock = module._Clock(0.5)
    np.testing.assert_allclose([clock.read(None) for _ in range(3)], [0, 0.5, 1])


def test_the_name_of_a_video_does_not_matter(tmp_path):
    assert len(list(frames(video(tmp_path / "a.mp4").rename(tmp_path / "photo.jpg")))) == 20
    assert len(list(frames(video(tmp_path / "a.mp4").rename(tmp_path / "concat:b|c")))) == 20


@pytest.mark.parametrize(
    ("every", "indices"),
    [
        ("1", list(range(20))),
        ("7", [0, 7, 14]),
        ("100", [0]),
        ("0.2s", [0, 5, 10, 15]),
        ("0.1s", [0, 3, 5, 8, 10, 13, 15, 18]),  # at 25 a second: the first from there on
        ("0.001s", list(range(20))),
        ("9s", [0]),
    ],
)
def test_some_frames_of_a_video_are_taken(tmp_path, every, indices):
    found = list(frames(video(tmp_path / "a.mp4"), Every.parse(every)))
    assert [frame.index for frame in found] == indices
    assert levels(found) == indices


def test_frames_by_time_follow_a_variable_rate(tmp_path):
    times = [0.0, 0.3, 0.6, 0.7, 2.4, 2.45, 3.0]
    found = frames(video(tmp_path / "a.mp4", times=times), Every.parse("1s"))
    assert [frame.index for frame in found] == [0, 4, 6]


def test_a_photo_is_always_taken(tmp_path):
    Image.fromarray(gray(7)).save(tmp_path / "photo.png")
    assert len(list(frames(tmp_path / "photo.png", Every.parse("5")))) == 1


def test_every_is_frames_or_seconds():
    assert Every.parse("5") == Every(5)
    assert [Every.parse(t) for t in ("2s", "0.25s", ".25s")] == [
        Every(seconds=s) for s in (2, 0.25, 0.25)
    ]


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1.5", "s", "0s", "0.0s", "-1s", "nans", "infs", "2 s", "1e3s", "x"],
)
def test_other_words_for_every_are_refused(text):
    with pytest.raises(UserError, match=r"expected a number of frames, or seconds as in 0\.5s"):
        Every.parse(text)


def turned(path, matrix):
    """Write another display matrix into an MP4 file."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *(int(value) for value in matrix))
    path.write_bytes(content)
    return path


ONE, W = 1 << 16, 1 << 30


@pytest.mark.parametrize(
    ("matrix", "turns"),  # clockwise, as a player shows it
    [
        ((ONE, 0, 0, 0, ONE, 0, 0, 0, W), 0),
        ((0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, W), 1),
        ((-ONE, 0, 0, 0, -ONE, 0, 64 * ONE, 48 * ONE, W), 2),
        ((0, -ONE, 0, ONE, 0, 0, 0, 64 * ONE, W), 3),
    ],
)
def test_a_video_that_was_taken_sideways_is_turned(tmp_path, matrix, turns):
    image = gray(0)
    image[:24, :32] = 250  # the upper left quarter
    with Film(tmp_path / "a.mp4") as film:
        film.add(image, 0.0)
    (frame,) = frames(turned(tmp_path / "a.mp4", matrix))
    wanted = np.rot90(image, -turns)
    assert frame.image.shape == wanted.shape
    assert np.abs(frame.image.astype(int) - wanted).mean() < 5


def test_pixels_that_are_not_square_become_so(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(gray(9))), *stream.encode()):
            container.mux(packet)
    (frame,) = frames(tmp_path / "a.mp4")
    assert frame.image.shape == (48, 128, 3)


def decoded():
    """How many packets and pictures of videos are in memory."""
    return sum(issubclass(type(thing), (av.VideoFrame, av.Packet)) for thing in gc.get_objects())


def test_few_frames_are_alive_however_long_a_video_is(tmp_path):
    path = video(tmp_path / "a.mp4", 150)
    before = decoded()
    images, alive, more = [], [], []
    for frame in frames(path):
        images.append(weakref.ref(frame.image))
        alive.append(sum(image() is not None for image in images))
        if frame.index in (0, 75, 149):  # counting takes long
            more.append(decoded() - before)
    assert len(images) == 150
    assert max(alive) <= 2
    assert max(more) <= 10  # as many as a decoder gives at once, at the end


def test_frames_that_are_not_taken_cost_no_pixels(tmp_path, monkeypatch):
    made = []
    upright = module._upright
    monkeypatch.setattr(module, "_upright", lambda *all_: made.append(1) or upright(*all_))
    list(frames(video(tmp_path / "a.mp4"), Every(10)))
    assert len(made) == 2


def test_files_are_opened_when_it_is_their_turn(tmp_path):
    def paths():
        yield video(tmp_path / "a.mp4", 3)
        pytest.fail("too early")

    found = footage(paths())
    assert [next(found).index for _ in range(3)] == [0, 1, 2]


def test_the_frames_of_a_real_video_are_those_that_opencv_reads():
    cv2 = pytest.importorskip("cv2")
    path = installed("feat", "tests", "data", "single_face.mp4")
    other = cv2.VideoCapture(str(path))
    for frame in islice(frames(path), 12):
        read, image = other.read()
        assert read
        assert np.abs(frame.image.astype(int) - image[..., ::-1]).mean() < 3
