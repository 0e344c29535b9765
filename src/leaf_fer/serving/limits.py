"""What a server does at most. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may ask for, and how many are looked after.

    Attributes:
        max_bytes: of an image file.
        max_pixels: width times height.
        timeout: seconds from the first byte of a request to its answer.
        max_faces: in a photo.
        queue: requests that wait, beside those that are computed.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    timeout: float = 30.0
    max_faces: int = 64
    queue: int = 16
