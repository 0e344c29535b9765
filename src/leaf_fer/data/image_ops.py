"""Image operations on whole batches, each image with its own argument.

A kernel takes n images as rows, (n, H, W * 3) uint8 on any device with the three colors of a pixel
side by side, and n arguments on the CPU, float64; it returns rows of the same shape. Arguments are
magnitudes (n,), but for :func:`affine` and :func:`slide`, which serve all geometric operations:
theirs are matrices (n, 6), as :func:`rotate` and its neighbors make them from magnitudes.

The pixels are those that Pillow computes with ``ImageOps``, ``ImageEnhance``, ``Image.rotate`` and
``Image.transform`` (nearest sampling, black outside), bit for bit on x86-64.

Nothing here waits for the device: shapes depend on the arguments alone, which are on the CPU.
Kernels that run along a row are vectorized, kernels that run over three colors are not. For the
same reason bits are masked where one would otherwise compare.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GRAYS = 256
LUMA = (19595, 38470, 7471)
"""ITU-R 601-2 weights of red, green and blue, times 2**16."""
CUTOUT_FILL = (125, 123, 114)

Matrix = tuple[int, ...]
"""(a, b, c, d, e, f): pixel (x, y) is the image's (a x + b y + c, d x + e y + f), over 2**16."""


def as_rows(images: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, H, W * 3), a view of channels-last memory and else a copy."""
    return images.permute(0, 2, 3, 1).flatten(2)


def as_images(rows: Tensor) -> Tensor:
    """(n, H, W * 3) -> (n, 3, H, W) in channels-last memory, a view."""
    return _pixels(rows).permute(0, 3, 1, 2)


def send(values: Tensor, rows: Tensor) -> Tensor:
    """Values from the CPU to the device of the rows, without waiting."""
    return values.to(rows.device, non_blocking=True)


def _pixels(rows: Tensor) -> Tensor:
    """(n, H, W * 3) -> (n, H, W, 3), a view."""
    return rows.view(*rows.shape[:2], rows.shape[2] // 3, 3)


def _beside(values: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """One value per image, (n,) on the CPU -> (n, 1, 1) on the device of the rows."""
    return send(values.to(dtype).view(-1, 1, 1), rows)


def _bytes(values: Tensor) -> Tensor:
    """Float32 in [0, 256) to uint8 toward zero; by way of int16, where the cast is vectorized."""
    return values.to(torch.int16).to(torch.uint8)


def _luma(rows: Tensor) -> Tensor:
    """(n, H, W * 3) uint8 -> (n, H, W) int32 in [0, 255], Pillow's conversion to mode L."""
    red, green, blue = _pixels(rows).unbind(3)
    total = red.int().mul_(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return total.add_(1 << 15).bitwise_right_shift_(16)


def _blend(rows: Tensor, start: Tensor, factor: Tensor) -> Tensor:
    """Pillow's blend, start + factor * (image - start), in its order of float32 operations."""
    factor = _beside(factor, rows, torch.float32)
    return _bytes(rows.float().sub_(start).mul_(factor).add_(start))


def identity(rows: Tensor, _: Tensor) -> Tensor:
    """The images as they are."""
    return rows


def brightness(rows: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image; factor in [0, 1]."""
    return _bytes(rows.float().mul_(_beside(factor, rows, torch.float32)))


def color(rows: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image: 0 is gray, 1 the image; factor in [0, 1]."""
    gray = _luma(rows).float().unsqueeze(3)
    return _blend(rows, gray.expand(-1, -1, -1, 3).flatten(2), factor)


def contrast(rows: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean gray: 0 is flat, 1 the image; factor in [0, 1]."""
    gray = _luma(rows).flatten(1)
    pixels = gray.shape[1]
    total = gray.sum(1).add_(pixels // 2)  # so that the mean is rounded, half up
    mean = total.div(pixels, rounding_mode="floor").float()
    return _blend(rows, mean.view(-1, 1, 1), factor)


def sharpness(rows: Tensor, factor: Tensor) -> Tensor:
    """Blend with the smoothed image: 0 is smooth, 1 the image; factor in [0, 1].

    The smoothing is a 3 x 3 mean in which the center counts five times; the outermost pixels
    stay as they are.
    """
    wide = rows.to(torch.int16)
    across = (wide[:, :, :-6] + wide[:, :, 3:-3]).add_(wide[:, :, 6:])
    total = (across[:, :-2] + across[:, 1:-1]).add_(across[:, 2:])
    total.add_(wide[:, 1:-1, 3:-3], alpha=4)
    smooth = total.float().mul_(1 / 13).round_()  # never within 1/26 of a half
    sharp = rows.clone()
    sharp[:, 1:-1, 3:-3] = _blend(rows[:, 1:-1, 3:-3], smooth, factor)
    return sharp


def posterize(rows: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits of every color: the integer part of ``bits``, in [1, 8]."""
    return rows & _beside(256 - 2 ** (8 - bits.floor()), rows, torch.uint8)


def solarize(rows: Tensor, threshold: Tensor) -> Tensor:
    """Invert the colors that reach the threshold, in [0, 256]."""
    excess = rows.to(torch.int16).sub_(_beside(threshold.ceil(), rows, torch.int16))
    below = excess.bitwise_right_shift_(15).to(torch.uint8)  # the sign: 255 where below, else 0
    return below.bitwise_not_().bitwise_xor_(rows)


def _cells(rows: Tensor) -> Tensor:
    """Cell of every color in a (n, 3, 256) table, (n * H * W * 3,) int32."""
    n, _, width = rows.shape
    first = torch.arange(0, n * 3 * GRAYS, GRAYS, dtype=torch.int32, device=rows.device)
    return rows.int().add_(first.view(n, 1, 3).repeat(1, 1, width // 3)).flatten()


def autocontrast(rows: Tensor, _: Tensor) -> Tensor:
    """Stretch every color channel so that its extremes become 0 and 255."""
    low = _pixels(rows.amin(1, keepdim=True)).amin((1, 2)).double().unsqueeze(2)
    high = _pixels(rows.amax(1, keepdim=True)).amax((1, 2)).double().unsqueeze(2)
    gray = torch.arange(GRAYS, dtype=torch.float64, device=rows.device)
    scale = torch.full_like(low, 255).div_((high - low).clamp_(min=1))  # 255 / x is less exact
    table = torch.where(high > low, (gray * scale).sub_(low * scale).clamp_(0, 255), gray)
    return table.to(torch.uint8).flatten().index_select(0, _cells(rows)).view_as(rows)


def equalize(rows: Tensor, _: Tensor) -> Tensor:
    """Flatten the histogram of every color channel."""
    cells = _cells(rows)
    counts = cells.new_zeros(len(rows) * 3 * GRAYS)
    counts = counts.index_add_(0, cells, cells.new_ones(1).expand_as(cells)).view(-1, GRAYS)
    darker = counts.cumsum(1, dtype=torch.int32).sub_(counts)
    pixels = len(cells) // len(counts)
    most = darker.masked_fill(darker == pixels, 0).amax(1, keepdim=True)  # all but the brightest
    step = most.div(255, rounding_mode="floor")
    level = (darker + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    gray = torch.arange(GRAYS, dtype=torch.int32, device=rows.device)
    table = torch.where(step > 0, level, gray).to(torch.uint8).flatten()
    return table.index_select(0, cells).view_as(rows)


def _matrix(a: float, b: float, c: float, d: float, e: float, f: float) -> Matrix:
    """From the center of a pixel to the image, in Pillow's fixed-point numbers."""
    start_x, start_y = c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5
    return tuple(math.floor(v * 65536 + 0.5) for v in (a, b, start_x, d, e, start_y))


def translate_x(fraction: float, _: int, width: int) -> Matrix:
    """Move the content left by a fraction of the width, in whole pixels; negative is right."""
    return _matrix(1, 0, math.floor(fraction * width + 0.5), 0, 1, 0)


def translate_y(fraction: float, height: int, _: int) -> Matrix:
    """Move the content up by a fraction of the height, in whole pixels; negative is down."""
    return _matrix(1, 0, 0, 0, 1, math.floor(fraction * height + 0.5))


def shear_x(slope: float, _: int, __: int) -> Matrix:
    """Move row y left by ``slope * y`` pixels."""
    return _matrix(1, slope, 0, 0, 1, 0)


def shear_y(slope: float, _: int, __: int) -> Matrix:
    """Move column x up by ``slope * x`` pixels."""
    return _matrix(1, 0, 0, slope, 1, 0)


def rotate(degrees: float, height: int, width: int) -> Matrix:
    """Turn the content around the center of the image, counter-clockwise."""
    x, y = width / 2, height / 2
    cos, sin = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
    return _matrix(cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y)


def affine(rows: Tensor, matrices: Tensor) -> Tensor:
    """Take every pixel from where its image's :data:`Matrix` says; black outside."""
    n, height, width = rows.shape[0], rows.shape[1], rows.shape[2] // 3
    by_x, by_y, start = matrices.int().view(n, 2, 3, 1, 1).unbind(2)
    x = by_x * torch.arange(width, dtype=torch.int32) + (start + (1 << 16))
    y = by_y * torch.arange(height, dtype=torch.int32).unsqueeze(1)
    column, row = (send(x, rows) + send(y, rows)).bitwise_right_shift_(16).unbind(1)
    image = torch.arange(0, n * (height + 2), height + 2, dtype=torch.int32, device=rows.device)
    row = row.clamp_(0, height + 1).add_(image.view(n, 1, 1))
    index = column.clamp_(0, width + 1).add_(row, alpha=width + 2)
    pixels = F.pad(rows, (3, 3, 1, 1)).view(-1, 3)  # with a black border, hence the 1 above
    return pixels.index_select(0, index.flatten()).view_as(rows)


def slide(rows: Tensor, matrices: Tensor) -> Tensor:
    """:func:`affine` for matrices (1, b, c, 0, 1, f), which move rows as a whole."""
    _, by_y, start_x, _, _, start_y = matrices.long().unsqueeze(2).unbind(1)
    y = torch.arange(rows.shape[1])
    return move_rows(rows, y + (start_y >> 16), (by_y * y + start_x) >> 16)


def move_rows(rows: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Every row of the result is a row of the image, moved; black outside.

    Args:
        rows: (n, H, W * 3) uint8.
        row: (n, H) int64 on the CPU, the image's row; any value.
        column: (n, H) or (n, 1) int64 on the CPU, the image's column that comes first; any value.
    """
    n, height, width = rows.shape[0], rows.shape[1], rows.shape[2] // 3
    margin = int(column.abs().max())
    pixels = F.pad(rows, (3 * margin, 3 * margin, 1, 1))
    image = torch.arange(1, n * (height + 2), height + 2).unsqueeze(1)
    first = (row.clamp(-1, height) + image) * (width + 2 * margin) + (column + margin)
    starts = pixels.numel() // 3 - width + 1
    windows = pixels.as_strided((starts, width * 3), (3, 1))  # a window begins at every pixel
    return windows.index_select(0, send(first.flatten(), rows)).view_as(rows)


def cutout(rows: Tensor, side: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Fill the pixels whose centers lie in a square with gray; what sticks out is cut off.

    Args:
        rows: (n, H, W * 3) uint8.
        side: (n,) float64 on the CPU, side of the square as a fraction of the width.
        x: (n,) float64 on the CPU, center of the square as a fraction of the width.
        y: (n,) float64 on the CPU, center of the square as a fraction of the height.
    """
    height, width = rows.shape[1], rows.shape[2] // 3
    reach = (side * width / 2).unsqueeze(1)
    inside_x = (torch.arange(width) + 0.5 - (x * width).unsqueeze(1)).abs() <= reach
    inside_y = (torch.arange(height) + 0.5 - (y * height).unsqueeze(1)).abs() <= reach
    across = (inside_x.to(torch.uint8) * 255).repeat_interleave(3, dim=1).unsqueeze(1)
    down = (inside_y.to(torch.uint8) * 255).unsqueeze(2)
    fill = torch.tensor(CUTOUT_FILL, dtype=torch.uint8).repeat(width)
    change = (rows ^ send(fill, rows)).bitwise_and_(send(across, rows) & send(down, rows))
    return change.bitwise_xor_(rows)
