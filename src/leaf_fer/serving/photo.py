"""From what a stranger has sent to pixels: small files can be a great deal of work."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import FORMATS, UnreadableImage, decode_bytes

PHOTOS = [name for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF") if name in FORMATS]
"""What cameras, phones and browsers write. Formats with more room for surprises stay out."""

MAX_SCANS = 64
"""Of a JPEG file. Encoders write a dozen; every one goes over all pixels, and takes 10 bytes."""

_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""Anything but a stuffed zero and restarts, which belong to the pixels."""

_SCAN, _END = 0xDA, 0xD9
_ALONE = (0x01, 0xD8)


def read_photo(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The upright RGB pixels of a photo, (H, W, 3) uint8.

    Size and scans are checked before any pixel is decoded; see
    :func:`~leaf_fer.data.decode.decode`.

    Args:
        content: of a file of one of :data:`PHOTOS`.
        max_pixels: width times height that is still decoded.

    Raises:
        UnreadableImage: whatever is wrong with it.
    """
    if content[:2] == b"\xff\xd8" and scans(content) > MAX_SCANS:
        raise UnreadableImage(f"is a JPEG file of more than {MAX_SCANS} scans")
    return decode_bytes(content, max_pixels=max_pixels, formats=PHOTOS)


def scans(content: bytes) -> int:
    """The scans of a JPEG file, up to the end of its first picture or the first damage."""
    count, place = 0, 2
    while count <= MAX_SCANS and (found := _MARKER.search(content, place)):
        marker, place = found[1][0], found.end()
        if marker == _END:
            break
        count += marker == _SCAN
        if marker not in _ALONE:
            place += max(2, int.from_bytes(content[place : place + 2], "big"))
    return count
