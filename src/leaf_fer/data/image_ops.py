"""Image operations on whole batches, each image with its own magnitude.

Every operation takes images (n, 3, H, W) uint8 on any device and magnitudes (n,) float64 on the
CPU, and returns images of the same shape, channels-last in memory. The pixels are those that
Pillow computes with ``ImageOps``, ``ImageEnhance``, ``Image.rotate`` and ``Image.transform``
(nearest sampling, black outside), bit for bit on x86-64.

Nothing here waits for the device: shapes depend on the magnitudes alone, which are on the CPU.
The work is done on rows, (n, H, W * 3) with the three colors of a pixel side by side: kernels
that run along a row are vectorized, kernels that run over three colors are not. For the same
reason bits are masked where one would otherwise compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

GRAYS = 256
LUMA = (19595, 38470, 7471)
"""ITU-R 601-2 weights of red, green and blue, times 2**16."""
CUTOUT_FILL = (125, 123, 114)


def as_rows(images: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, H, W * 3), a view of channels-last memory and else a copy."""
    return images.permute(0, 2, 3, 1).flatten(2)


def as_images(rows: Tensor) -> Tensor:
    """(n, H, W * 3) -> (n, 3, H, W) in channels-last memory, a view."""
    return _pixels(rows).permute(0, 3, 1, 2)


def send(values: Tensor, images: Tensor) -> Tensor:
    """Values from the CPU to the device of the images, without waiting."""
    return values.to(images.device, non_blocking=True)


def _pixels(rows: Tensor) -> Tensor:
    """(n, H, W * 3) -> (n, H, W, 3), a view."""
    return rows.view(rows.shape[0], rows.shape[1], -1, 3)


def _beside(values: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """One value per image, (n,) on the CPU -> (n, 1, 1) on the device of the rows."""
    return send(values.to(dtype).view(-1, 1, 1), rows)


def _bytes(values: Tensor) -> Tensor:
    """Float32 in [0, 256) to uint8 toward zero; by way of int16, where the cast is vectorized."""
    return values.to(torch.int16).to(torch.uint8)


def _luma(rows: Tensor) -> Tensor:
    """(n, H, W * 3) uint8 -> (n, H, W) int32 in [0, 255], Pillow's conversion to mode L."""
    red, green, blue = _pixels(rows).unbind(3)
    total = red.int().mul_(LUMA[0])
    total.add_(green.int(), alpha=LUMA[1]).add_(blue.int(), alpha=LUMA[2])
    return total.add_(1 << 15).bitwise_right_shift_(16)


def _blend(rows: Tensor, start: Tensor, factor: Tensor) -> Tensor:
    """Pillow's blend, start + factor * (image - start), in its order of float32 operations."""
    factor = _beside(factor, rows, torch.float32)
    return _bytes(rows.float().sub_(start).mul_(factor).add_(start))


def identity(images: Tensor, _: Tensor) -> Tensor:
    """The images as they are."""
    return images


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image; factor in [0, 1]."""
    rows = as_rows(images)
    return as_images(_bytes(rows.float().mul_(_beside(factor, rows, torch.float32))))


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image: 0 is gray, 1 the image; factor in [0, 1]."""
    rows = as_rows(images)
    gray = _luma(rows)
    gray = torch.stack((gray, gray, gray), dim=3).flatten(2)
    return as_images(_blend(rows, gray.float(), factor))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean gray: 0 is flat, 1 the image; factor in [0, 1]."""
    rows = as_rows(images)
    gray = _luma(rows).flatten(1)
    pixels = gray.shape[1]
    total = gray.sum(dim=1, dtype=torch.int64)
    mean = (2 * total + pixels).div(2 * pixels, rounding_mode="floor")  # rounded, half up
    return as_images(_blend(rows, mean.float().view(-1, 1, 1), factor))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the smoothed image: 0 is smooth, 1 the image; factor in [0, 1].

    The smoothing is a 3 x 3 mean in which the center counts five times; the outermost pixels
    stay as they are.
    """
    rows = as_rows(images)
    wide = rows.to(torch.int16)
    across = wide[:, :, :-6] + wide[:, :, 3:-3] + wide[:, :, 6:]
    total = across[:, :-2] + across[:, 1:-1] + across[:, 2:]
    total.add_(wide[:, 1:-1, 3:-3], alpha=4)
    smooth = total.float().add_(6.5).mul_(1 / 13).floor_()  # never within 1/26 of an integer
    sharp = rows.clone()
    sharp[:, 1:-1, 3:-3] = _blend(rows[:, 1:-1, 3:-3], smooth, factor)
    return as_images(sharp)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits of every color: the integer part of ``bits``, in [1, 8]."""
    rows = as_rows(images)
    return as_images(rows & _beside(256 - 2 ** (8 - bits.floor()), rows, torch.uint8))


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the colors that reach the threshold, in [0, 256]."""
    rows = as_rows(images)
    excess = rows.to(torch.int16) - _beside(threshold.ceil(), rows, torch.int16)
    below = excess.bitwise_right_shift_(15).to(torch.uint8)  # the sign: 255 where below, else 0
    return as_images(rows ^ below.bitwise_not_())


def _cells(rows: Tensor) -> Tensor:
    """Cell of every color in a (n, 3, 256) table, (n * H * W * 3,) int32."""
    n, _, width = rows.shape
    plane = torch.arange(n * 3, dtype=torch.int32, device=rows.device).mul_(GRAYS)
    return rows.int().add_(plane.view(n, 1, 3).repeat(1, 1, width // 3)).flatten()


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch every color channel so that its extremes become 0 and 255."""
    rows = as_rows(images)
    low = _pixels(rows.amin(1, keepdim=True)).amin((1, 2)).double().unsqueeze(2)
    high = _pixels(rows.amax(1, keepdim=True)).amax((1, 2)).double().unsqueeze(2)
    gray = torch.arange(GRAYS, dtype=torch.float64, device=rows.device)
    scale = torch.full_like(low, 255).div_((high - low).clamp_(min=1))  # 255 / x is less exact
    table = torch.where(high > low, (gray * scale + -low * scale).clamp_(0, 255), gray)
    return as_images(table.to(torch.uint8).flatten().index_select(0, _cells(rows)).view_as(rows))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Flatten the histogram of every color channel."""
    rows = as_rows(images)
    cells = _cells(rows)
    counts = cells.new_zeros(len(rows) * 3 * GRAYS)
    counts = counts.index_add_(0, cells, cells.new_ones(1).expand_as(cells)).view(-1, GRAYS)
    gray = torch.arange(GRAYS, dtype=torch.int32, device=rows.device)
    brightest = (gray * (counts > 0)).amax(1, keepdim=True)
    total = counts.sum(1, keepdim=True, dtype=torch.int32)
    step = (total - counts.gather(1, brightest.long())).div(255, rounding_mode="floor")
    darker = counts.cumsum(1, dtype=torch.int32) - counts
    level = (darker + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    table = torch.where(step > 0, level, gray).to(torch.uint8).flatten()
    return as_images(table.index_select(0, cells).view_as(rows))


def move_rows(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Every row of the result is a row of the image, moved; black outside.

    Args:
        images: (n, 3, H, W) uint8.
        row: (n, H) int64 on the CPU, the image's row; any value.
        column: (n, H) or (n, 1) int64 on the CPU, the image's column that comes first; any value.
    """
    n, _, height, width = images.shape
    column = column.clamp(-width, width)
    margin = int(column.abs().max())
    pixels = F.pad(images.permute(0, 2, 3, 1), (0, 0, margin, margin, 0, 1)).contiguous()
    first = torch.arange(n).view(n, 1) * (height + 1)
    first = first + torch.where((row >= 0) & (row < height), row, height)  # row H is black
    first = (first * (width + 2 * margin) + margin + column).flatten()
    starts = pixels.numel() // 3 - width + 1
    windows = pixels.as_strided((starts, width * 3), (3, 1))  # a window begins at every pixel
    rows = windows.index_select(0, send(first, images))
    return as_images(rows.view(n, height, width * 3))


def _fixed(value: Tensor) -> Tensor:
    """Pillow's fixed-point numbers with 16 bits after the point, int64."""
    return torch.floor(value * 65536 + 0.5).long()


def translate_x(images: Tensor, fraction: Tensor) -> Tensor:
    """Move the content left by a fraction of the width, in whole pixels; negative is right."""
    _, _, height, width = images.shape
    column = torch.floor(fraction * width + 0.5).long().unsqueeze(1)
    return move_rows(images, torch.arange(height).expand(len(images), -1), column)


def translate_y(images: Tensor, fraction: Tensor) -> Tensor:
    """Move the content up by a fraction of the height, in whole pixels; negative is down."""
    height = images.shape[2]
    row = torch.arange(height) + torch.floor(fraction * height + 0.5).long().unsqueeze(1)
    return move_rows(images, row, torch.zeros_like(row[:, :1]))


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Move row y left by ``slope * y`` pixels."""
    row = torch.arange(images.shape[2]).expand(len(images), -1)
    start, step = (_fixed(value).unsqueeze(1) for value in (0.5 + slope * 0.5, slope))
    column = (start + step * row) >> 16
    return move_rows(images, row, column)


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Move column x up by ``slope * x`` pixels."""
    return _affine(images, [(1.0, 0.0, 0.0, s, 1.0, 0.0) for s in slope.tolist()])


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn the content around the center of the image, counter-clockwise."""
    x, y = images.shape[3] / 2, images.shape[2] / 2
    matrices = []
    for angle in degrees.tolist():
        cos, sin = math.cos(math.radians(-angle)), math.sin(math.radians(-angle))
        shift = (cos * -x + sin * -y + x, -sin * -x + cos * -y + y)
        matrices.append((cos, sin, shift[0], -sin, cos, shift[1]))
    return _affine(images, matrices)


def _affine(images: Tensor, matrices: Sequence[tuple[float, ...]]) -> Tensor:
    """Pixel (x, y) becomes the image's pixel at (a x + b y + c, d x + e y + f); black outside.

    In Pillow's fixed-point arithmetic, with x and y at the centers of pixels.

    Args:
        images: (n, 3, H, W) uint8.
        matrices: (a, b, c, d, e, f) per image.
    """
    n, _, height, width = images.shape
    exact = torch.tensor(matrices, dtype=torch.float64).view(n, 2, 3)
    start = exact[:, :, 2] + exact[:, :, 0] * 0.5 + exact[:, :, 1] * 0.5
    steps = _fixed(torch.stack((exact[:, :, 0], exact[:, :, 1], start), dim=2)).int()
    by_x, by_y, start = send(steps, images).view(n, 2, 3, 1, 1).unbind(2)
    x = torch.arange(width, dtype=torch.int32, device=images.device)
    y = torch.arange(height, dtype=torch.int32, device=images.device).unsqueeze(1)
    column, row = (by_x * x + (by_y * y + start)).bitwise_right_shift_(16).unbind(1)
    pixels = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # a black border
    image = torch.arange(n, dtype=torch.int32, device=images.device).view(n, 1, 1)
    row = row.clamp_(-1, height).add_(image * (height + 2) + 1)
    index = column.clamp_(-1, width).add_(1).add_(row, alpha=width + 2)
    taken = pixels.reshape(-1, 3).index_select(0, index.flatten())
    return as_images(taken.view(n, height, width * 3))


def cutout(images: Tensor, side: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Fill the pixels whose centers lie in a square with gray; what sticks out is cut off.

    Args:
        images: (n, 3, H, W) uint8.
        side: (n,) float64 on the CPU, side of the square as a fraction of the width.
        x: (n,) float64 on the CPU, center of the square as a fraction of the width.
        y: (n,) float64 on the CPU, center of the square as a fraction of the height.
    """
    rows = as_rows(images)
    height, width = images.shape[2:]
    reach = (side * width / 2).unsqueeze(1)
    inside_x = (torch.arange(width) + 0.5 - (x * width).unsqueeze(1)).abs() <= reach
    inside_y = (torch.arange(height) + 0.5 - (y * height).unsqueeze(1)).abs() <= reach
    across = (inside_x.to(torch.uint8) * 255).repeat_interleave(3, dim=1).unsqueeze(1)
    down = (inside_y.to(torch.uint8) * 255).unsqueeze(2)
    fill = torch.tensor(CUTOUT_FILL, dtype=torch.uint8).repeat(width)
    change = (rows ^ send(fill, rows)).bitwise_and_(send(across, rows) & send(down, rows))
    return as_images(change.bitwise_xor_(rows))
