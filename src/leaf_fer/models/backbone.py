"""Encoders: timm's, and two of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from leaf_fer.errors import UserError
from leaf_fer.models.mobilenet import MobileNetV1


class Conv4(nn.Module):
    """Four 3x3 convolutions of 64 channels, each halving the image: (B, 3, H, W) -> (B, D).

    The encoder of prototypical networks (Snell et al., 2017, arXiv:1703.05175), with the last map
    averaged to 3 x 3, so D = 576 at every size from 16 pixels on. Where things are in the picture
    is kept, which helps when the images are small and aligned: timm's networks average over what
    is left of 48 pixels after five halvings.
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for channels in (3, 64, 64, 64):
            layers += [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__()
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten())

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The layer that a weight is in, for timm: one of the four."""
        return lambda name: int(name.split(".")[1]) // 4

    def forward(self, images: Tensor) -> Tensor:
        """Encode images of at least 16 pixels."""
        if min(images.shape[2:]) < 16:
            raise ValueError(f"expected images of at least 16 pixels, got {tuple(images.shape)}")
        features: Tensor = self.layers(images)
        return features


OWN: dict[str, Callable[[], nn.Module]] = {
    "conv4": Conv4,
    "mobilenetv1_vggface2": MobileNetV1,
}


def create_backbone(name: str, image_size: int) -> tuple[nn.Module, int]:
    """Build an encoder without its classifier, with random weights.

    Args:
        name: a model of timm, or one of :data:`OWN`.
        image_size: side of the square images in pixels.

    Returns:
        The encoder, (B, 3, H, W) -> (B, D), and D.

    Raises:
        UserError: timm has no such model, or it does not take images of this size.
    """
    if name not in OWN and not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:5] or timm.list_models("resnet*")[:5]
        raise UserError(
            f"--backbone {name}: timm has no such model; for example {', '.join(close)}"
        )
    try:
        model = OWN[name]() if name in OWN else create_timm(name, image_size)
        with torch.no_grad():
            width = model.eval()(torch.zeros(1, 3, image_size, image_size)).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--image-size {image_size}: not possible with {name}: {reason}") from error
    return model.train(), width


def create_timm(name: str, image_size: int, *, pretrained: bool = False) -> nn.Module:
    """Build a timm model for images of a size, without its classifier."""
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    try:
        model: nn.Module = timm.create_model(name, img_size=image_size, **options)
    except TypeError:  # convolutional networks take any size and do not know the option
        model = timm.create_model(name, **options)
    return model
