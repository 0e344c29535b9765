"""The weak and the strong view of a batch of images, and its normalization.

RandAugment (Cubuk et al., 2020, arXiv:1909.13719) with the fourteen operations and ranges of
the code released with LEAF, and Cutout (DeVries & Taylor, 2017, arXiv:1708.04552). Deviations
from the released code:

* Views are made at the size of the store; the release makes the strong view at the size of the
  file and only then scales to 224. No operation but sharpness has a length in pixels.
* The 8 pixels of padding of the random crop, meant for 224, scale with the size.
* Cutout is clipped at all borders and may be empty; the release moves a square that sticks out
  to the left or above into the image, and always fills a pixel.

All random numbers come from a generator on the CPU, so a batch gets the same views on every
device, and which image gets which operation is known without waiting for the device: images
that have the same operation next are worked on together, each with its own magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from leaf_fer.data import image_ops
from leaf_fer.data.image_ops import as_images, as_rows, send

Operation = Callable[[Tensor, Tensor], Tensor]

OPERATIONS: tuple[tuple[Operation, float, float], ...] = (
    (image_ops.autocontrast, 0.0, 1.0),
    (image_ops.brightness, 0.05, 0.95),
    (image_ops.color, 0.05, 0.95),
    (image_ops.contrast, 0.05, 0.95),
    (image_ops.equalize, 0.0, 1.0),
    (image_ops.identity, 0.0, 1.0),
    (image_ops.posterize, 4.0, 8.0),
    (image_ops.rotate, -30.0, 30.0),
    (image_ops.sharpness, 0.05, 0.95),
    (image_ops.shear_x, -0.3, 0.3),
    (image_ops.shear_y, -0.3, 0.3),
    (image_ops.solarize, 0.0, 256.0),
    (image_ops.translate_x, -0.3, 0.3),
    (image_ops.translate_y, -0.3, 0.3),
)
"""Operation and the range that its magnitude is drawn from."""

BLOCK = 16
"""Images that are worked on at a time where operations need not be sorted."""

LARGEST_CUTOUT = 0.5
"""Side of the square as a fraction of the width."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the host compute with one thread for a while.

    A strong batch is some 500 short kernels. On a machine whose processors are busy, threads that
    wait for each other after every one of them take many times as long as a thread alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def weak(images: Tensor, generator: torch.Generator, *, padding: int | None = None) -> Tensor:
    """Crop at random with probability 0.5, then mirror with probability 0.5.

    Args:
        images: (B, 3, S, S) uint8.
        generator: on the CPU; four numbers are drawn per image.
        padding: zeros around the image that the crop, of the image's size, may reach into, in
            pixels; by default 8 at 224, in proportion, and at least 1.

    Returns:
        (B, 3, S, S) uint8, channels-last in memory.

    Raises:
        ValueError: the images are not (B, 3, H, W) uint8.
    """
    _expect_bytes(images)
    crops = _draw_crops(len(images), images.shape[3], padding, generator)
    return _join([_crop(images[part], crops[part]) for part in _blocks(len(images))])


@_one_thread()
def strong(
    images: Tensor, generator: torch.Generator, *, num_ops: int = 3, padding: int | None = None
) -> Tensor:
    """RandAugment, Cutout, then :func:`weak`.

    Every image gets ``num_ops`` operations drawn with replacement, each with a magnitude uniform
    over its range (RandAugment's common magnitude is not used), and a square of a side uniform
    in [0, 0.5] of the width, centered anywhere in the image.

    Args:
        images: (B, 3, S, S) uint8.
        generator: on the CPU; what it gives depends on B and ``num_ops`` only.
        num_ops: operations per image.
        padding: see :func:`weak`.

    Returns:
        (B, 3, S, S) uint8, channels-last in memory.

    Raises:
        ValueError: the images are not (B, 3, H, W) uint8.
    """
    _expect_bytes(images)
    count, _, _, width = images.shape
    operation = torch.randint(len(OPERATIONS), (count, num_ops), generator=generator)
    magnitude = torch.rand(count, num_ops, generator=generator, dtype=torch.float64)
    square = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    square[:, 0] *= LARGEST_CUTOUT
    crops = _draw_crops(count, width, padding, generator)
    queues = [
        list(zip(numbers, levels, strict=True))
        for numbers, levels in zip(operation.tolist(), magnitude.tolist(), strict=True)
    ]
    faces = _operate(list(as_rows(images)), queues)
    views = []
    for part in _blocks(count):
        cut = image_ops.cutout(as_images(torch.stack(faces[part])), *square[part].unbind(1))
        views.append(_crop(cut, crops[part]))
    return _join(views)


def _operate(faces: list[Tensor], queues: list[list[tuple[int, float]]]) -> list[Tensor]:
    """Apply to every image the operations in its queue, the last one first.

    Images do not depend on each other, so all that have the same operation next share a call,
    in whichever turn it is for them; every pass serves every queue at least once.

    Args:
        faces: B images, each (H, W * 3) uint8.
        queues: B lists of an index into :data:`OPERATIONS` and a level in [0, 1); emptied.
    """
    while any(queues):
        for number, (operate, low, high) in enumerate(OPERATIONS):
            members = [i for i, queue in enumerate(queues) if queue and queue[-1][0] == number]
            if members:
                level = torch.tensor([queues[i].pop()[1] for i in members], dtype=torch.float64)
                group = as_images(torch.stack([faces[i] for i in members]))
                results = as_rows(operate(group, low + (high - low) * level))
                for i, result in zip(members, results.unbind(), strict=True):
                    faces[i] = result
    return faces


def _draw_crops(count: int, width: int, padding: int | None, generator: torch.Generator) -> Tensor:
    """(B, 3) int64 on the CPU: mirrored or not, rows down, columns to the right."""
    padding = max(1, round(width * 8 / 224)) if padding is None else padding
    draw = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    offset = (draw[:, 2:] * (2 * padding + 1)).long() - padding
    return torch.cat((draw[:, :1] < 0.5, offset * (draw[:, 1:2] < 0.5)), dim=1)


def _crop(images: Tensor, crops: Tensor) -> Tensor:
    """Move and mirror the images as drawn."""
    count, _, height, _ = images.shape
    mirrored, down, across = crops.unbind(1)
    moved = image_ops.move_rows(
        images, torch.arange(height) + down.unsqueeze(1), across.unsqueeze(1)
    )
    both = torch.cat((as_rows(moved), as_rows(moved.flip(3))))
    choice = torch.arange(count) + count * mirrored
    return as_images(both.index_select(0, send(choice, images)))


def _blocks(count: int) -> list[slice]:
    """Parts of a batch whose intermediate results fit into a processor's cache."""
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]


def _join(views: list[Tensor]) -> Tensor:
    return as_images(torch.cat([as_rows(view) for view in views]))


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale to [0, 1], subtract the mean and divide by the standard deviation.

    Args:
        images: (B, 3, S, S) uint8.
        mean: of red, green and blue, in [0, 1].
        std: of red, green and blue, in [0, 1].

    Returns:
        (B, 3, S, S) float32, channels-last in memory.

    Raises:
        ValueError: the images are not (B, 3, H, W) uint8.
    """
    _expect_bytes(images)
    rows = as_rows(images)
    scale = torch.tensor([1 / (255 * s) for s in std]).repeat(images.shape[3])
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(images.shape[3])
    return as_images(rows.float().mul_(send(scale, rows)).add_(send(offset, rows)))


def _expect_bytes(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        found = f"{tuple(images.shape)} {images.dtype}"
        raise ValueError(f"expected images (B, 3, H, W) torch.uint8, got {found}")
