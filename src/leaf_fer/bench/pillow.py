"""The views of a batch as most training code makes them: with Pillow, image by image.

What :mod:`leaf_fer.data.augment` is measured against: the same operations in the same ranges,
and the same pixels for the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageDraw, ImageEnhance, ImageOps
from PIL.Image import Image, Transform, Transpose, fromarray
from torch import Tensor
from torchvision.transforms import functional as to

from leaf_fer.data.augment import LARGEST_CUTOUT
from leaf_fer.data.image_ops import CUTOUT_FILL
from leaf_fer.types import MEAN, STD

Crop = tuple[bool, int, int]
"""Mirrored or not, rows down, columns to the right."""


def affine(image: Image, *matrix: float) -> Image:
    """Pixel (x, y) becomes the image's pixel at (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Transform.AFFINE, matrix)


OPERATIONS: tuple[tuple[Callable[[Image, float], Image], float, float], ...] = (
    (lambda image, _: ImageOps.autocontrast(image), 0.0, 1.0),
    (lambda image, v: ImageEnhance.Brightness(image).enhance(v), 0.05, 0.95),
    (lambda image, v: ImageEnhance.Color(image).enhance(v), 0.05, 0.95),
    (lambda image, v: ImageEnhance.Contrast(image).enhance(v), 0.05, 0.95),
    (lambda image, _: ImageOps.equalize(image), 0.0, 1.0),
    (lambda image, _: image, 0.0, 1.0),
    (lambda image, v: ImageOps.posterize(image, int(v)), 4.0, 8.0),
    (lambda image, v: image.rotate(v), -30.0, 30.0),
    (lambda image, v: ImageEnhance.Sharpness(image).enhance(v), 0.05, 0.95),
    (lambda image, v: affine(image, 1, v, 0, 0, 1, 0), -0.3, 0.3),
    (lambda image, v: affine(image, 1, 0, 0, v, 1, 0), -0.3, 0.3),
    (lambda image, v: ImageOps.solarize(image, math.ceil(v)), 0.0, 256.0),
    (lambda image, v: affine(image, 1, 0, v * image.width, 0, 1, 0), -0.3, 0.3),
    (lambda image, v: affine(image, 1, 0, 0, 0, 1, v * image.height), -0.3, 0.3),
)
"""Those of :data:`leaf_fer.data.augment.OPERATIONS`, in the same order."""


def weak(image: Image, crop: Crop) -> Image:
    """Move the image as drawn, and mirror it."""
    mirrored, down, across = crop
    if down or across:
        image = image.crop((across, down, across + image.width, down + image.height))
    return image.transpose(Transpose.FLIP_LEFT_RIGHT) if mirrored else image


def strong(
    image: Image,
    operations: Sequence[tuple[int, float]],
    square: tuple[float, float, float],
    crop: Crop,
) -> Image:
    """Apply operations, cut out a square, then :func:`weak`.

    Args:
        image: of a face.
        operations: index into :data:`OPERATIONS` and level in [0, 1), the first one first.
        square: side, x and y of the center, as fractions of the width and the height.
        crop: as drawn.
    """
    for number, level in operations:
        operate, low, high = OPERATIONS[number]
        image = operate(image, low + (high - low) * level)
    reach = square[0] * image.width / 2
    x, y = square[1] * image.width - 0.5, square[2] * image.height - 0.5
    left, top = math.ceil(x - reach), math.ceil(y - reach)
    right, bottom = math.floor(x + reach), math.floor(y + reach)
    if left <= right and top <= bottom:
        image = image.copy()  # without operations it is still the face itself
        ImageDraw.Draw(image).rectangle((left, top, right, bottom), CUTOUT_FILL)
    return weak(image, crop)


def pairs(pixels: NDArray[np.uint8], random: Random) -> list[Tensor]:
    """Weak and strong views of faces (B, S, S, 3): each (B, 3, S, S) float32, normalized."""
    padding = max(1, round(pixels.shape[2] * 8 / 224))

    def crop() -> Crop:
        moves = random.random() < 0.5
        down, across = (moves * random.randint(-padding, padding) for _ in range(2))
        return random.random() < 0.5, down, across

    views: tuple[list[Tensor], list[Tensor]] = ([], [])
    for face in map(fromarray, pixels):
        operations = [(random.randrange(len(OPERATIONS)), random.random()) for _ in range(3)]
        square = (random.random() * LARGEST_CUTOUT, random.random(), random.random())
        made = weak(face, crop()), strong(face, operations, square, crop())
        for kind, view in zip(views, made, strict=True):
            kind.append(to.normalize(to.to_tensor(view), MEAN, STD))
    return [torch.stack(kind) for kind in views]
