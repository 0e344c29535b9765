"""Videos that are written picture by picture."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.errors import UserError
from leaf_fer.faces.packages import package

RATE = 25  # pictures a second that the encoder plans for, and how long the last one is shown
TICKS = 60_000  # a second: whole ones for all usual rates, and no more than MPEG-4 knows


class Film:
    """An MP4 video. Pictures leave memory as they come; the file is whole or not there.

    ::

        with Film(Path("faces.mp4")) as film:
            film.add(image, seconds)

    H.264, which browsers play, where FFmpeg has an encoder for it, else MPEG-4. No sound.

    Args:
        path: the file; what was there is replaced in the end.

    Raises:
        UserError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._av = package("av")
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> Film:
        return self

    def add(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Show a picture from some time on.

        Args:
            image: (H, W, 3) uint8 RGB; brought to the size of the first, whose sides lose a pixel
                where they are odd.
            seconds: since the video began, more than that of the picture before.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            if self._container is None:
                self._begin(image.shape[1], image.shape[0])
            picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture = picture.reformat(self._stream.width, self._stream.height, "yuv420p")
            picture.pts = self._last = max(round(seconds * TICKS), self._last + 1)
            picture.time_base = Fraction(1, TICKS)
            self._container.mux(self._stream.encode(picture))
        except self._av.error.FFmpegError as error:
            raise self._complaint(error) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._container is None:
            return
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                self._part.replace(self._path)
        except (self._av.error.FFmpegError, OSError) as failure:
            if kind is None:  # else there is an error already
                raise self._complaint(failure) from None
        finally:
            self._part.unlink(missing_ok=True)

    def _begin(self, width: int, height: int) -> None:
        h264 = "libx264" in self._av.codecs_available
        self._container = self._av.open(
            str(self._part.absolute()), "w", format="mp4", options={"movflags": "faststart"}
        )
        self._stream = self._container.add_stream("libx264" if h264 else "mpeg4", rate=RATE)
        self._stream.width, self._stream.height = max(width // 2 * 2, 2), max(height // 2 * 2, 2)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)

    def _complaint(self, error: Any) -> UserError:
        return UserError(f"{self._path}: cannot be written: {error.strerror}")
