"""A network as an encoder of faces: a trained model's features, or those of starting weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leaf_fer.data.augment import normalize
from leaf_fer.errors import UserError
from leaf_fer.labeling.features import Encoder, Values
from leaf_fer.models import fill, load_model, read_start
from leaf_fer.models.backbone import create_backbone
from leaf_fer.models.starting import digest, serialized
from leaf_fer.types import MEAN, STD

SIZE = 112
"""Side of the images for starting weights, which do not say theirs."""


class _Features(nn.Module):
    """The features alone of a classifier: (B, 3, S, S) -> (B, D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images).features
        return features


def network(path: Path) -> Encoder:
    """The encoder of a run or model folder, or of starting weights.

    Raises:
        UserError: nothing is there, or no weights, or weights that do not say of which network.
    """
    try:
        return _network(path)
    except UserError as error:
        raise UserError(f"--model {str(error).removeprefix('--init').lstrip(' :')}") from None


def _network(path: Path) -> Encoder:
    model = path / "model" if (path / "model").is_dir() else path
    if (model / "config.json").is_file():
        classifier, card = load_model(model)
        return _encoder(_Features(classifier), card.architecture.image_size, card.mean, card.std)
    start = read_start(path)
    if start.backbone is None:
        raise UserError(f"{path}: does not say of which network it is; expected a folder")
    encoder, _ = create_backbone(start.backbone, SIZE)
    fill(encoder, start, start.backbone)
    return _encoder(encoder, SIZE, start.mean or MEAN, start.std or STD)


def _encoder(
    module: nn.Module, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Encoder:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    key = digest(serialized(module.state_dict()))
    module = module.eval().to(memory_format=torch.channels_last).to(device)

    @torch.inference_mode()
    def encode(images: NDArray[np.uint8]) -> Values:
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        found = module(normalize(pixels, mean, std)).float().cpu().numpy()
        return np.asarray(found, dtype=np.float32)

    return Encoder(size, f"{key} {size} {mean} {std}", encode)
