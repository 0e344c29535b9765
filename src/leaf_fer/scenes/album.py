"""Photos and videos with what is said of their faces, in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leaf_fer.errors import UserError
from leaf_fer.faces.drawing import draw
from leaf_fer.faces.film import Film
from leaf_fer.faces.footage import Frame
from leaf_fer.scenes.looking import Sight

QUALITY = 92  # of JPEG


class Album:
    """Writes a photo ``NAME.jpg`` for every photo and a video ``NAME.mp4`` for every video.

    Args:
        folder: where they go; made if it is not there. What is there is replaced.
        names: of the files that will be added.

    Raises:
        UserError: the folder cannot be made, or one of the files is where its picture would go.
    """

    def __init__(self, folder: Path, names: Mapping[Path, str]) -> None:
        self._folder = folder
        self._names = names
        self._film: Film | None = None
        self._of: Path | None = None
        own = {path.resolve() for path in names}
        for name in names.values():
            for ending in (".jpg", ".mp4"):
                if (folder / (name + ending)).resolve() in own:
                    raise UserError(
                        f"--annotate {folder}: {name}{ending} there would be replaced by its own "
                        "picture; choose another folder"
                    )
        make(folder, "--annotate")

    def add(self, sight: Sight, captions: Sequence[str]) -> None:
        """Draw the next picture.

        Raises:
            UserError: a file cannot be written.
        """
        frame = sight.frame
        image = draw(frame.image, sight.faces.boxes, captions)
        if frame.seconds is None:
            self.end()
            save(image, self._folder / f"{self._names[frame.path]}.jpg", "--annotate")
        else:
            self._shoot(frame, image)

    def end(self) -> None:
        """End the video that is being written, if any."""
        if self._film is not None:
            film, self._film = self._film, None
            film.__exit__(None, None, None)

    def _shoot(self, frame: Frame, image: NDArray[np.uint8]) -> None:
        assert frame.seconds is not None
        if self._film is None or frame.path != self._of:
            self.end()
            path = self._folder / f"{self._names[frame.path]}.mp4"
            make(path.parent, "--annotate")
            self._film, self._of = Film(path), frame.path
            self._film.__enter__()
        self._film.add(image, frame.seconds)

    def __enter__(self) -> Album:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._film is not None:
            self._film.__exit__(kind, error, traceback)


def make(folder: Path, option: str) -> None:
    """Make a folder.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {folder}: cannot be made: {error.strerror}") from None


def save(image: NDArray[np.uint8], path: Path, option: str) -> None:
    """Write a picture, in the format that its name says.

    Raises:
        UserError: it cannot be written.
    """
    make(path.parent, option)
    try:
        Image.fromarray(image).save(path, quality=QUALITY)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{option} {path}: cannot be written: {reason}") from None
