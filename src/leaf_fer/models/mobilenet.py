"""MobileNet-V1 as TensorFlow computes it, for weights that were trained there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.types import MEAN, STD

CENTER = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""What VGGFace2's networks subtract: the color that their zero padding stands for."""

BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))
"""Channels, in widths, and stride of every separable block."""


@dataclass(frozen=True)
class Folded:
    """A convolution with its normalization multiplied in: y = scale * (kernel * x) + shift.

    Attributes:
        kernel: (out, in / groups, k, k) float32.
        stride: of the convolution.
        scale, shift: (out,) float32.
    """

    kernel: Tensor
    stride: int
    scale: Tensor
    shift: Tensor


class SameConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2, padded as TensorFlow pads it ("SAME").

    At even sizes there is nothing before the first pixel and one zero after the last; torch's
    ``padding=1`` reads pixels that lie one further up and left.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / 2), ceil(W / 2))."""
        height, width = x.shape[2:]
        if self.groups == 1 or not x.is_cpu or not torch.is_grad_enabled():
            return super().forward(F.pad(x, (width % 2, 1, height % 2, 1)))
        # On a CPU the backward pass of a depthwise convolution of stride 2 (torch 2.14, bfloat16)
        # takes several times as long as that of stride 1, which has all of its pixels and more.
        maps = F.conv2d(x, self.weight, padding=1, groups=self.groups)
        dense = maps.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if dense else torch.contiguous_format
        return maps[:, :, 1 - height % 2 :: 2, 1 - width % 2 :: 2].contiguous(memory_format=layout)


class MobileNetV1(nn.Module):
    """MobileNet-V1 (Howard et al., 2017, arXiv:1704.04861): (B, 3, H, W) -> (B, 32 * width).

    Images come normalized with :data:`MEAN` and :data:`STD`. VGGFace2's networks subtract
    :data:`CENTER` and pad with zeros after that; so the difference is added before the first
    convolution pads. Scale and order of the colors are a matter of the first kernel alone:
    :func:`load_folded` puts them there.

    Args:
        width: channels after the first convolution.
    """

    shift: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        shift = (torch.tensor(MEAN) - torch.tensor(CENTER)) / torch.tensor(STD)
        self.register_buffer("shift", shift.reshape(3, 1, 1), persistent=False)
        layers = [_layer(3, width, 3, 2)]
        channels = width
        for widths, stride in BLOCKS:
            layers.append(_layer(channels, channels, 3, stride, groups=channels))
            layers.append(_layer(channels, widths * width, 1, 1))
            channels = widths * width
        self.layers = nn.Sequential(*layers)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The layer that a weight is in, for timm: the first convolution, then the blocks."""
        return lambda name: (int(name.split(".")[1]) + 1) // 2

    def forward(self, images: Tensor) -> Tensor:
        """Encode images of any size: the mean of the last map."""
        maps: Tensor = self.layers(images + self.shift)
        return maps.mean((2, 3))


def _layer(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> nn.Sequential:
    """Convolution, normalization (as in Keras' MobileNet), and a ReLU that ends at 6."""
    convolution = (
        SameConv2d(inputs, outputs, size, stride, groups=groups, bias=False)
        if stride == 2
        else nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU6())


@torch.no_grad()
def load_folded(network: MobileNetV1, layers: Sequence[Folded], faces: Tensor) -> None:
    """Fill a network with folded layers of BGR bytes, putting batch normalization in again.

    With mean m and variance v of a convolution's outputs on ``faces``,

        gamma = scale * sqrt(v + eps),   beta = shift + scale * m

    leave what the layer computes as it was. One pass does it: a layer is filled from its input,
    which has come through the filled layers before it.

    Args:
        network: filled in place, and left in evaluation mode.
        layers: as many as the network has, with kernels for blue, green, red in [0, 255].
        faces: (B, 3, H, W) float, normalized, what means and variances are taken of.

    Raises:
        ValueError: a kernel or a stride is not that of the network.
    """
    network.eval()
    if len(layers) != len(network.layers):
        raise ValueError(f"{len(layers)} convolutions, and MobileNet-V1 has {len(network.layers)}")
    x = faces + network.shift
    for number, (folded, layer) in enumerate(zip(layers, network.layers, strict=True), 1):
        assert isinstance(layer, nn.Sequential)
        convolution, norm, _ = layer
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        wanted = (tuple(convolution.weight.shape), convolution.stride[0])
        if (tuple(folded.kernel.shape), folded.stride) != wanted:
            raise ValueError(
                f"convolution {number}: kernel {tuple(folded.kernel.shape)} of stride "
                f"{folded.stride}, and MobileNet-V1 has {wanted[0]} of stride {wanted[1]}"
            )
        kernel = folded.kernel if number > 1 else _for_normalized(folded.kernel)
        convolution.weight.copy_(kernel)
        _calibrate(norm, folded, convolution(x).double())
        x = layer(x)


def _for_normalized(kernel: Tensor) -> Tensor:
    """A kernel for centered BGR bytes as one for red, green, blue in units of :data:`STD`."""
    return kernel.flip(1) * 255 * torch.tensor(STD).reshape(3, 1, 1)


def _calibrate(norm: nn.BatchNorm2d, folded: Folded, outputs: Tensor) -> None:
    variance, mean = torch.var_mean(outputs, (0, 2, 3), correction=0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    # From the rounded statistics, those that evaluation will use.
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    norm.weight.copy_(folded.scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(folded.shift + folded.scale * mean)
