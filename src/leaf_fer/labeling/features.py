"""Faces as numbers that are near each other for faces that look alike.

As a trained network or starting weights see them, or, without a network, as small gray pictures
whose contrast is the same everywhere. Either way principal components are kept.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from leaf_fer.data.store import Store
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_atomically

Values = NDArray[np.float32]

WIDTH = 128
"""Principal components that are kept, at most."""

SAMPLE = 10_000
"""Faces that the components are found on, at most."""

BATCH = 256
PIXELS = 32
VERSION = 1


@dataclass(frozen=True)
class Encoder:
    """What turns faces into numbers.

    Attributes:
        size: side of the images that it wants, in pixels.
        key: what identifies its numbers.
        encode: (B, size, size, 3) uint8 -> (B, D) float32.
    """

    size: int
    key: str
    encode: Callable[[NDArray[np.uint8]], Values]


def features_of(store: Store, encoder: Encoder, cache: Path) -> Values:
    """The features of all faces, computed once.

    Args:
        store: the faces, decoded in the size of the encoder.
        encoder: what sees them.
        cache: folder for the result, which is found again by the content of the faces.

    Returns:
        (N, D) float32, D <= :data:`WIDTH`; centered, the first column with a variance of 1; 0
        for faces that cannot be read.
    """
    digest = blake2b(repr((VERSION, encoder.key, store.hashes.shape)).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(store.hashes).data)
    file = cache / f"features-{digest.hexdigest()}.npy"
    try:
        found: Values = np.load(file)
        return found
    except (OSError, ValueError, EOFError):  # not there, or damaged
        found = _compute(store, encoder)
    content = io.BytesIO()
    np.save(content, found)
    try:
        write_atomically(file, content.getvalue())
    except UserError as error:
        say(f"leaf: {error}; features will be computed again next time")
    return found


def _compute(store: Store, encoder: Encoder) -> Values:
    """Find the components on a sample, then turn all faces into them."""
    rows = np.flatnonzero(store.valid)
    picked = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    sample = rows[np.sort(picked)]
    with tqdm(total=len(store), desc="looking at faces", unit="img", disable=None) as bar:
        raw = np.concatenate([_encode(store, encoder, part, bar) for part in _parts(sample)])
        center, axes = components(raw)
        found = np.zeros((len(store), axes.shape[1]), dtype=np.float32)
        found[sample] = (raw - center) @ axes
        for part in _parts(np.setdiff1d(rows, sample, assume_unique=True)):
            found[part] = (_encode(store, encoder, part, bar) - center) @ axes
        bar.update(len(store) - len(rows))
    return found


def components(values: Values) -> tuple[Values, Values]:
    """Center, (D,), and principal axes, (D, K), of (N, D); K <= :data:`WIDTH`, N and D.

    All axes have the same length, with which the first projections have a variance of 1.
    """
    center = values.mean(axis=0)
    moved = (values - center).astype(np.float64)
    spread, axes = np.linalg.eigh(moved.T @ moved / len(values))
    width = min(WIDTH, *values.shape)
    spread, axes = spread[::-1][:width], axes[:, ::-1][:, :width]
    # Which way an eigenvector points is chance; that its largest entry is positive is a rule.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    scale = np.sqrt(max(spread[0], 1e-12))
    return center, (axes / scale).astype(np.float32)


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.split(rows, range(BATCH, len(rows), BATCH)) if len(rows) else []


def _encode(store: Store, encoder: Encoder, rows: NDArray[np.int64], bar: tqdm[NoReturn]) -> Values:
    found = encoder.encode(store.gather(rows))
    bar.update(len(rows))
    return found


def plain() -> Encoder:
    """An encoder without weights."""
    return Encoder(PIXELS, f"pixels {PIXELS}", contrast)


def contrast(images: NDArray[np.uint8], radius: int = 4) -> Values:
    """Gray pictures, each pixel by mean and deviation of its neighborhood.

    Args:
        images: (B, S, S, 3) uint8.
        radius: of the square neighborhoods, in pixels.

    Returns:
        (B, S * S) float32.
    """
    gray: Values = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    mean = _blurred(gray, radius)
    deviation = np.sqrt(np.maximum(_blurred(gray**2, radius) - mean**2, 0))
    flat = (gray - mean) / (deviation + 8)  # of 255: noise in dark or plain places stays small
    return np.asarray(flat.reshape(len(images), -1), dtype=np.float32)


def _blurred(images: Values, radius: int) -> Values:
    """The mean of each pixel's neighborhood; beyond the edges pixels repeat: (B, S, S)."""
    width = 2 * radius + 1
    padded = np.pad(images, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1).mean(axis=-1)
    both = np.lib.stride_tricks.sliding_window_view(windows, width, axis=2).mean(axis=-1)
    return np.asarray(both, dtype=np.float32)
