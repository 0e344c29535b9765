import sys

import numpy as np
import pytest

from leaf_fer.errors import UserError
from leaf_fer.faces import film as module
from leaf_fer.faces.film import Film
from leaf_fer.faces.footage import frames

from .clips import gray

av = pytest.importorskip("av")


def film_of(path, images, rate=25.0):
    with Film(path) as film:
        for number, image in enumerate(images):
            film.add(image, number / rate)
    return path


def test_opencv_reads_what_was_written(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = film_of(tmp_path / "a.mp4", [gray(20 * number) for number in range(12)], rate=10.0)
    reader = cv2.VideoCapture(str(path))
    for number in range(12):
        read, image = reader.read()
        assert read
        assert image.shape == (48, 64, 3)
        assert abs(image.mean() - 20 * number) < 3
    assert not reader.read()[0]


def test_the_last_picture_is_shown_as_the_others_are(tmp_path):
    path = film_of(tmp_path / "a.mp4", [gray(9)] * 10)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(0.4, abs=0.01)


def test_videos_are_h264_in_mp4_that_can_be_played_while_it_loads(tmp_path):
    path = film_of(tmp_path / "a.mp4", [gray(9)] * 3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize(
    ("size", "written"), [((47, 65), (46, 64)), ((48, 63), (48, 62)), ((1, 1), (2, 2))]
)
def test_odd_sizes_lose_a_pixel(tmp_path, size, written):
    (frame,) = frames(film_of(tmp_path / "a.mp4", [gray(9, *size)]))
    assert frame.image.shape[:2] == written


def test_later_pictures_are_brought_to_the_size_of_the_first(tmp_path):
    path = film_of(tmp_path / "a.mp4", [gray(9), gray(200, 96, 20)])
    assert [frame.image.shape for frame in frames(path)] == [(48, 64, 3)] * 2


def test_pictures_at_one_time_are_both_there(tmp_path):
    with Film(tmp_path / "a.mp4") as film:
        for seconds in (0.0, 0.5, 0.5, 0.4):
            film.add(gray(9), seconds)
    times = [frame.seconds for frame in frames(tmp_path / "a.mp4")]
    np.testing.assert_allclose(times, [0, 0.5, 0.5, 0.5], atol=1e-3)


def test_pictures_that_are_views_are_written(tmp_path):
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    film_of(tmp_path / "a.mp4", [image[:, ::-1], image.transpose(1, 0, 2)])


def test_until_it_is_whole_a_video_is_not_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with Film(path) as film:
        film.add(gray(9), 0.0)
        assert path.read_bytes() == b"old"
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_is_left(tmp_path):
    def broken():
        with Film(tmp_path / "a.mp4") as film:
            for number in range(100):  # so many that some are in the file
                film.add(gray(9), number / 25)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_pictures_leaves_no_file(tmp_path):
    with Film(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone/a\.mp4: cannot be written: No such file"):
        film_of(tmp_path / "gone" / "a.mp4", [gray(9)])


def test_a_name_that_is_taken_by_a_folder_is_named(tmp_path):
    (tmp_path / "a.mp4" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match=r"a\.mp4: cannot be written: Is a directory"):
        film_of(tmp_path / "a.mp4", [gray(9)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_without_an_encoder_of_h264_it_is_mpeg4(tmp_path, monkeypatch):
    class Poor:
        codecs_available = frozenset({"mpeg4"})

        def __getattr__(self, name):
            return getattr(av, name)

    monkeypatch.setattr(module, "package", lambda name: Poor())
    path = film_of(tmp_path / "a.mp4", [gray(9)] * 3)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    np.testing.assert_allclose([f.seconds for f in frames(path)], [0, 0.04, 0.08], atol=1e-4)


def test_without_pyav_the_error_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs av .*: pip install 'leaf-fer\[faces\]'$"):
        Film(tmp_path / "a.mp4")
