"""Photos, videos and cameras as a stream of pictures, one in memory at a time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from leaf_fer.data.decode import MAX_PIXELS, UnreadableImage, decode
from leaf_fer.errors import UserError
from leaf_fer.faces.packages import package, silent

CONTAINERS = (
    "3g2,3gp,asf,avi,dv,flv,gxf,h264,hevc,ivf,m4a,m4v,matroska,mj2,mov,mp4,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rm,webm,wtv,yuv4mpegpipe"
)
"""FFmpeg's names of what is opened: it would draw text files, and follow lists to other files."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo, or a picture of a video.

    Attributes:
        path: its file; ``camera-N`` for a camera.
        index: its number among all pictures of the file, from 0.
        seconds: since the first picture of the video, rising; None for a photo.
        image: (H, W, 3) uint8 RGB, upright.
    """

    path: Path
    index: int
    seconds: float | None
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Loss:
    """What is lost of a file: all of it, or what follows the frames before.

    Attributes:
        path: the file.
        reason: a few words that follow its name: ``is empty``.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Every:
    """Which pictures of a video count: the first of so many, or of so many seconds.

    Attributes:
        frames: >= 1.
        seconds: >= 0; above 0 it takes the place of ``frames``.
    """

    frames: int = 1
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Every:
        """``5`` is one picture of five, ``0.5s`` one of half a second.

        Raises:
            UserError: anything else.
        """
        match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?|\.\d+)s", text, re.ASCII)
        if match and float(match[1] or match[2]) > 0:
            return cls(int(match[1] or 1), float(match[2] or 0))
        raise UserError(f"--every {text}: expected a number of frames, or seconds as in 0.5s")

    def stretch(self, index: int, seconds: float) -> int:
        """The number of the stretch that a picture is in; it counts if it is the first there."""
        # Times are rounded to ticks of the file's clock, which must not open a stretch too late.
        return math.floor(seconds / self.seconds + 1e-3) if self.seconds else index // self.frames


ALL = Every()


def footage(paths: Iterable[Path], every: Every = ALL) -> Iterator[Frame | Loss]:
    """The pictures of files, in their order. A file that cannot be read harms no other.

    Args:
        paths: photos and videos; names and extensions do not matter.
        every: which pictures of a video.

    Raises:
        UserError: there is a video, and PyAV is not installed.
    """
    for path in paths:
        try:
            yield from frames(path, every)
        except UnreadableImage as error:
            yield Loss(path, str(error))


def frames(path: Path, every: Every = ALL) -> Iterator[Frame]:
    """The pictures of a file.

    Args:
        path: a photo or a video.
        every: which pictures of a video.

    Raises:
        UnreadableImage: whatever is wrong with the file, maybe after some pictures.
        UserError: it is a video, and PyAV is not installed.
    """
    try:
        image = decode(path)
    except UnreadableImage as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
    else:
        yield Frame(path, 0, None, image)
        return
    yield from _chosen(_video(path), path, every)


def camera(number: int | str, every: Every = ALL) -> Iterator[Frame]:
    """What a camera sees from now on; endless unless it is unplugged.

    Args:
        number: of the camera, from 0; or the file of a video that takes its place.
        every: which pictures.

    Raises:
        UserError: there is no such camera, or OpenCV is not installed.
    """
    cv2 = package("cv2")
    with silent(cv2):
        device = cv2.VideoCapture(number)
    try:
        if not device.isOpened():
            raise UserError(f"--camera {number}: cannot be opened")
        device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # who is slow sees the present, not a queue
        yield from _chosen(_seen(device), Path(f"camera-{number}"), every)
    finally:
        device.release()


Shots = Iterator[tuple[float, Callable[[], NDArray[np.uint8]]]]
"""Of each picture its time in seconds, and what makes its pixels."""


def _chosen(shots: Shots, path: Path, every: Every) -> Iterator[Frame]:
    last: int | None = None
    for index, (seconds, image) in enumerate(shots):
        stretch = every.stretch(index, seconds)
        if stretch != last:
            last = stretch
            yield Frame(path, index, seconds, image())


def _seen(device: Any) -> Shots:
    begin = time.monotonic()
    while device.grab():
        yield (
            time.monotonic() - begin,
            lambda: np.ascontiguousarray(device.retrieve()[1][..., ::-1]),
        )


def _video(path: Path) -> Shots:
    av = package("av")
    damaged = False
    with _opened(av, path) as container:
        if not container.streams.video:
            raise UnreadableImage("has no pictures")
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            size = f"{stream.width} x {stream.height} pixels"
            raise UnreadableImage(f"is {size}; at most {MAX_PIXELS} pixels are opened")
        clock = _Clock(float(1 / (stream.average_rate or 25)))
        try:
            for packet in container.demux(stream):
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    damaged = True  # players go on too
                    continue
                for picture in pictures:
                    yield clock.read(picture.time), partial(_upright, picture, stream)
        except av.error.FFmpegError:
            damaged = True
    if damaged:
        raise UnreadableImage("is damaged or not whole")


class _Clock:
    """Seconds since the first picture, in spite of formats that tell no times or disordered ones.

    Args:
        step: seconds from a picture to the next one if that has no time later than it.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._begin = 0.0
        self._last: float | None = None

    def read(self, time: float | None) -> float:
        """The seconds of the next picture, whose file says this."""
        if self._last is None:
            self._begin = self._last = time or 0.0
        elif time is None or time <= self._last:
            self._last += self._step
        else:
            self._last = time
        return self._last - self._begin


def _opened(av: Any, path: Path) -> Any:
    try:
        # An absolute name is a file, whatever it begins with: no address, no protocol of FFmpeg.
        return av.open(str(path.absolute()), options={"format_whitelist": CONTAINERS})
    except av.error.FFmpegError as error:
        raise UnreadableImage("is neither a picture nor a whole video") from error


def _upright(picture: Any, stream: Any) -> NDArray[np.uint8]:
    """The pixels of a picture of a video as it is to be shown: square, and turned."""
    aspect = stream.sample_aspect_ratio or 1
    wide = picture.reformat(width=round(picture.width * aspect), format="rgb24")
    turned = np.rot90(wide.to_ndarray(), round(picture.rotation / 90))
    return np.ascontiguousarray(turned)
