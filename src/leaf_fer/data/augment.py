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
that have the same kind of operation next are worked on together, each with its own magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from leaf_fer.data import image_ops
from leaf_fer.data.image_ops import as_images, as_rows, send

Kernel = Callable[[Tensor, Tensor], Tensor]
Argument = float | image_ops.Matrix
Step = tuple[Kernel, Argument]


class Operation(NamedTuple):
    """What an operation does with images.

    Args:
        kernel: rows and arguments of n images -> rows; operations may share it.
        low: smallest magnitude.
        high: largest magnitude.
        argument: magnitude, H and W -> argument of the kernel; by default the magnitude.
    """

    kernel: Kernel
    low: float = 0.0
    high: float = 1.0
    argument: Callable[[float, int, int], Argument] = lambda magnitude, _, __: magnitude


OPERATIONS: tuple[Operation, ...] = (
    Operation(image_ops.autocontrast),
    Operation(image_ops.brightness, 0.05, 0.95),
    Operation(image_ops.color, 0.05, 0.95),
    Operation(image_ops.contrast, 0.05, 0.95),
    Operation(image_ops.equalize),
    Operation(image_ops.identity),
    Operation(image_ops.posterize, 4.0, 8.0),
    Operation(image_ops.affine, -30.0, 30.0, image_ops.rotate),
    Operation(image_ops.sharpness, 0.05, 0.95),
    Operation(image_ops.slide, -0.3, 0.3, image_ops.shear_x),
    Operation(image_ops.affine, -0.3, 0.3, image_ops.shear_y),
    Operation(image_ops.solarize, 0.0, 256.0),
    Operation(image_ops.slide, -0.3, 0.3, image_ops.translate_x),
    Operation(image_ops.slide, -0.3, 0.3, image_ops.translate_y),
)

BLOCK_BYTES = 1 << 21
"""Size of an intermediate result up to which a processor works on images together."""

LARGEST_CUTOUT = 0.5
"""Side of the square as a fraction of the width."""

ALL = slice(None)


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
def weak(
    images: Tensor,
    generator: torch.Generator,
    *,
    padding: int | None = None,
    count: int | None = None,
    rows: slice = ALL,
) -> Tensor:
    """Crop at random with probability 0.5, then mirror with probability 0.5.

    Args:
        images: (B, 3, S, S) uint8, the images of the batch at ``rows``.
        generator: on the CPU; four numbers are drawn per image of the batch.
        padding: zeros around the image that the crop, of the image's size, may reach into, in
            pixels; by default 8 at 224, in proportion, and at least 1.
        count: images of the batch; by default those given are all.
        rows: which of them are given; each gets the view that it has in the whole batch.

    Returns:
        (B, 3, S, S) uint8, channels-last in memory.

    Raises:
        ValueError: the images are not (B, 3, H, W) uint8, or not as many as ``rows`` says.
    """
    count = _expect_batch(images, count, rows)
    crops = _draw_crops(count, images.shape[3], padding, generator)[rows]
    faces = as_rows(images)
    views = faces.new_empty(faces.shape)
    for part in _blocks(len(faces), faces):
        torch.stack(_crop(faces[part], crops[part]), out=views[part])
    return as_images(views)


@_one_thread()
def strong(
    images: Tensor,
    generator: torch.Generator,
    *,
    num_ops: int = 3,
    padding: int | None = None,
    count: int | None = None,
    rows: slice = ALL,
) -> Tensor:
    """RandAugment, Cutout, then :func:`weak`.

    Every image gets ``num_ops`` operations drawn with replacement, each with a magnitude uniform
    over its range (RandAugment's common magnitude is not used), and a square of a side uniform
    in [0, 0.5] of the width, centered anywhere in the image.

    Args:
        images: (B, 3, S, S) uint8, the images of the batch at ``rows``.
        generator: on the CPU; what it gives depends on ``count`` and ``num_ops`` only.
        num_ops: operations per image.
        padding: see :func:`weak`.
        count: see :func:`weak`.
        rows: see :func:`weak`.

    Returns:
        (B, 3, S, S) uint8, channels-last in memory.

    Raises:
        ValueError: the images are not (B, 3, H, W) uint8, or not as many as ``rows`` says.
    """
    count = _expect_batch(images, count, rows)
    operation = torch.randint(len(OPERATIONS), (count, num_ops), generator=generator)[rows]
    magnitude = torch.rand(count, num_ops, generator=generator, dtype=torch.float64)[rows]
    square = torch.rand(count, 3, generator=generator, dtype=torch.float64)[rows]
    square[:, 0] *= LARGEST_CUTOUT
    height, width = images.shape[2:]
    crops = _draw_crops(count, width, padding, generator)[rows]
    queues = [
        [_step(*drawn, height, width) for drawn in zip(numbers, levels, strict=True)]
        for numbers, levels in zip(operation.tolist(), magnitude.tolist(), strict=True)
    ]
    faces = list(as_rows(images).unbind())
    _operate(faces, queues)
    views = images.new_empty((len(images), height, width * 3))
    for part in _blocks(len(views), views):
        cut = image_ops.cutout(torch.stack(faces[part]), *square[part].unbind(1))
        torch.stack(_crop(cut, crops[part]), out=views[part])
    return as_images(views)


def _step(number: int, level: float, height: int, width: int) -> Step:
    """An operation as a step; level in [0, 1) of its range of magnitudes."""
    kernel, low, high, argument = OPERATIONS[number]
    return kernel, argument(low + (high - low) * level, height, width)


def _operate(faces: list[Tensor], queues: list[list[Step]]) -> None:
    """Take for every image the steps in its queue, the last one first.

    Images do not depend on each other, so all that wait for the same kernel share a call, in
    whichever turn it is for them. An image with most steps left goes first: meanwhile others come
    to where it waits later, which saves calls.

    Args:
        faces: B images, each (H, W * 3) uint8; replaced.
        queues: B lists of steps; emptied.
    """
    while any(queues):
        kernel = max(queues, key=len)[-1][0]
        waiting = [i for i, queue in enumerate(queues) if queue and queue[-1][0] is kernel]
        for part in _blocks(len(waiting), faces[0], itemsize=4):  # float32 on the way
            members = waiting[part]
            arguments = torch.tensor([queues[i].pop()[1] for i in members], dtype=torch.float64)
            results = kernel(torch.stack([faces[i] for i in members]), arguments)
            for i, result in zip(members, results.unbind(), strict=True):
                faces[i] = result


def _draw_crops(count: int, width: int, padding: int | None, generator: torch.Generator) -> Tensor:
    """(B, 3) int64 on the CPU: mirrored or not, rows down, columns to the right."""
    padding = max(1, round(width * 8 / 224)) if padding is None else padding
    draw = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    offset = (draw[:, 2:] * (2 * padding + 1)).long() - padding
    return torch.cat((draw[:, :1] < 0.5, offset * (draw[:, 1:2] < 0.5)), dim=1)


def _crop(faces: Tensor, crops: Tensor) -> list[Tensor]:
    """Move and mirror images (n, H, W * 3) as drawn: n of (H, W * 3)."""
    mirrored, down, across = crops.unbind(1)
    row = torch.arange(faces.shape[1]) + down.unsqueeze(1)
    moved = image_ops.move_rows(faces, row, across.unsqueeze(1))
    views = list(moved.unbind())
    members = mirrored.nonzero().flatten()
    flipped = as_images(moved.index_select(0, send(members, moved))).flip(3)
    for i, view in zip(members.tolist(), as_rows(flipped).unbind(), strict=True):
        views[i] = view
    return views


def _blocks(count: int, rows: Tensor, itemsize: int = 1) -> list[slice]:
    """Parts of a batch to work on at a time: small ones on a processor, and else the whole.

    Args:
        count: images of the batch.
        rows: (..., H, W * 3), one or more of them.
        itemsize: bytes that a color takes in intermediate results.
    """
    size = BLOCK_BYTES // (rows.shape[-2:].numel() * itemsize) if rows.is_cpu else count
    return [slice(start, start + max(1, size)) for start in range(0, count, max(1, size))]


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


def _expect_batch(images: Tensor, count: int | None, rows: slice) -> int:
    """Check that the images are those rows of a batch of ``count``; return the count."""
    _expect_bytes(images)
    count = len(images) if count is None else count
    expected = len(range(count)[rows])
    if len(images) != expected:
        raise ValueError(f"expected {expected} images, {rows} of {count}, got {len(images)}")
    return count


def _expect_bytes(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        found = f"{tuple(images.shape)} {images.dtype}"
        raise ValueError(f"expected images (B, 3, H, W) torch.uint8, got {found}")
