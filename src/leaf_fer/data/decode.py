"""From an image file to the pixels of a face; nothing here remembers anything."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

MAX_PIXELS = 100_000_000
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000"]
if find_spec("PIL.AvifImagePlugin"):  # since Pillow 11.3
    FORMATS.append("AVIF")
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


class UnreadableImage(Exception):  # noqa: N818 (it is a finding about a file, listed by name)
    """Why a file cannot be used, in a few words that follow its name: ``is empty``."""


def decode(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The upright RGB pixels of an image file.

    Of an animation the first frame counts. What is transparent is laid over black. CMYK and other
    color spaces become RGB; color profiles are ignored. Gray of 16 bits keeps its upper 8; other
    wide gray, integer or float, is divided by the largest value of the smallest range that holds
    it: 0..1 (floats only), 0..255 or 0..65535. Beyond these its own range is stretched to 0..255.

    Args:
        path: any file; its name and extension do not matter.
        max_pixels: width times height that is still opened; guards against decompression bombs
            and is checked before any pixel is decoded.

    Returns:
        (H, W, 3) uint8, writable.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    _check_file(path)
    return _decoded(path, max_pixels, FORMATS)


def decode_bytes(
    content: bytes, *, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> NDArray[np.uint8]:
    """The upright RGB pixels of an image file that is in memory; see :func:`decode`.

    Args:
        content: of the file.
        max_pixels: see :func:`decode`.
        formats: some of :data:`FORMATS`; content of another one is not an image.

    Returns:
        (H, W, 3) uint8, writable.

    Raises:
        UnreadableImage: whatever is wrong with the content.
    """
    if not content:
        raise UnreadableImage("is empty")
    return _decoded(io.BytesIO(content), max_pixels, formats)


def upright(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an opened image, as :func:`decode` gives them: (H, W, 3) uint8, writable.

    Raises:
        UnreadableImage: its file is damaged.
    """
    try:
        with lenient:
            image.load()
            return _rgb(_upright(image))
    except Exception as error:  # on damaged files Pillow's parsers raise what they like
        raise UnreadableImage(_reason(error)) from error


def _decoded(
    source: Path | io.BytesIO, max_pixels: int, formats: Sequence[str]
) -> NDArray[np.uint8]:
    try:
        with lenient, Image.open(source, formats=list(formats)) as image:
            width, height = image.size
            if width * height > max_pixels:
                size = f"{width} x {height} pixels"
                raise UnreadableImage(f"is {size}; at most {max_pixels} pixels are opened")
            image.load()
            return _rgb(_upright(image))
    except UnreadableImage:
        raise
    except Exception as error:  # on damaged files Pillow's parsers raise what they like
        raise UnreadableImage(_reason(error)) from error


def fingerprint(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (16,) uint8, BLAKE2b of the pixels and the shape, whatever the file."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def cut(
    image: NDArray[np.uint8],
    size: int,
    box: NDArray[np.float32] | None = None,
    points: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """The face of an image: aligned by its points, else cut out by its box, else all of it.

    Args:
        image: (H, W, 3) uint8.
        size: pixels per side of the result.
        box: (4,), see :func:`crop`; NaN where unknown.
        points: (5, 2), see :func:`align`; NaN where unknown.

    Returns:
        (size, size, 3) uint8.

    Raises:
        UnreadableImage: no face can be cut out that way.
    """
    if points is not None and np.isfinite(points).all():
        return align(image, points, size)
    if box is not None and np.isfinite(box).all():
        image = crop(image, box)
    return resize(image, size)


def crop(image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The part of an image inside a box, which may reach beyond the image.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) left, top, right, bottom in pixels, rounded to whole ones.

    Raises:
        UnreadableImage: no pixel lies inside.
    """
    height, width = image.shape[:2]
    limits = (width, height, width, height)
    left, top, right, bottom = (
        round(min(max(float(edge), 0.0), limit)) for edge, limit in zip(box, limits, strict=True)
    )
    if left >= right or top >= bottom:
        edges = ", ".join(f"{edge:g}" for edge in box)
        raise UnreadableImage(f"is {width} x {height} pixels, none inside its box ({edges})")
    return image[top:bottom, left:right]


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, size, 3) uint8, bilinear with antialiasing.

    Other aspects than a square are squeezed, so that no part of a face is lost.
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def align(
    image: NDArray[np.uint8], points: NDArray[np.float32], size: int, margin: float = 0.0
) -> NDArray[np.uint8]:
    """The face turned, scaled and moved so that its five points lie where all faces have them.

    Args:
        image: (H, W, 3) uint8.
        points: (5, 2) finite, x and y of the pixel at the eye on the image's left, the other eye,
            the tip of the nose and the corners of the mouth (left first).
        size: pixels per side of the result; the 112-pixel template is scaled to it.
        margin: >= 0, what is added around the template at every side, in its sides.

    Returns:
        (size, size, 3) uint8, black where the image does not reach.

    Raises:
        UnreadableImage: the points are not those of a face.
    """
    from leaf_fer.data.alignment import SIZE, TEMPLATE, similarity

    goal = (TEMPLATE + margin * SIZE) / (1 + 2 * margin) * (size / SIZE)
    try:
        return warp(image, similarity(points, goal), size)
    except ValueError as error:
        raise UnreadableImage("has points that are not those of a face") from error


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """An image turned, scaled and moved.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3), from the x and y of a pixel, and 1, to where it goes; the same scale in all
            directions.
        size: pixels per side of the result.

    Returns:
        (size, size, 3) uint8, black where the image does not reach.
    """
    forward = np.eye(3)
    forward[:2] = matrix
    scale = float(np.sqrt(abs(np.linalg.det(forward))))
    # A transform alone would skip pixels of a large face: average blocks of them first.
    shrink = min(max(round(1 / scale), 1), *image.shape[:2])
    picture = Image.fromarray(image).reduce(shrink)
    # Points count pixels from the center of the first; Pillow counts from the image's corner.
    center = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    forward = center @ forward @ np.linalg.inv(center) @ np.diag([shrink, shrink, 1.0])
    backward = tuple(np.linalg.inv(forward)[:2].ravel().tolist())
    method, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(picture.transform((size, size), method, backward, filter_))


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableImage("does not exist") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(_reason(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("is not a file")
    if status.st_size == 0:
        raise UnreadableImage("is empty")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is not an image"
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return "is truncated"
    return f"is damaged ({text[:100] or type(error).__name__})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data say nothing about the pixels
        return image
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_narrow(np.asarray(image))[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        color = image.convert("RGBA")
        image = Image.new("RGB", color.size)
        image.paste(color, mask=color.getchannel("A"))
    return np.array(image.convert("RGB"))


def _narrow(gray: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) of a wide type -> (H, W) uint8, by the rule that :func:`decode` states."""
    if gray.dtype.kind == "u":
        return (gray.astype(np.uint16) >> 8).astype(np.uint8)
    values = np.nan_to_num(gray.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    tops = (1.0, 255.0, 65535.0) if gray.dtype.kind == "f" else (255.0, 65535.0)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        values, top = values - low, (high - low) or 1.0
    return (values * (255.0 / top)).round().astype(np.uint8)


class _Lenient:
    """While anyone decodes, Pillow warns of nothing, limits no size and accepts no truncated file.

    These are settings of the whole process, so decoding threads share one change of them: the
    first to come makes it, the last to leave undoes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._warnings = warnings.catch_warnings()
        self._settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._settings
                self._warnings.__exit__(None, None, None)


lenient = _Lenient()
"""Around :func:`decode` already; around many calls of it, it saves time."""
