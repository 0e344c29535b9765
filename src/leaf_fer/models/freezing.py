"""Encoders whose first layers stay as they are."""

from __future__ import annotations

from typing import Any

from timm.models import group_modules, group_parameters

from leaf_fer.errors import UserError
from leaf_fer.models.classifier import Classifier


def freeze(model: Classifier, layers: int) -> None:
    """Keep the first layers of the encoder as they are: weights, and what their batch-norm expects.

    Layers are counted as timm counts them for layer-wise learning rates: in a ResNet-18, the stem
    and eight blocks. Nothing in them is trained, averages of batch-norm stay, and a step needs no
    backward pass through them.

    Args:
        model: its backbone has timm's ``group_matcher``.
        layers: how many; 0 leaves all of them to training.

    Raises:
        UserError: the encoder has fewer, or timm does not say what its layers are.
    """
    if not layers:
        return
    backbone: Any = model.backbone
    if not hasattr(backbone, "group_matcher"):
        raise UserError(f"--freeze {layers}: timm does not say what the layers of the backbone are")
    grouping = backbone.group_matcher(coarse=False)
    parameters = group_parameters(backbone, grouping, return_values=True)
    if layers > len(parameters):
        raise UserError(f"--freeze {layers}: expected at most {len(parameters)}, all there are")
    for layer in range(layers):
        for parameter in parameters[layer]:
            parameter.requires_grad_(False)
    modules = group_modules(backbone, grouping, return_values=True)
    model.frozen = [module for layer in range(layers) for module in modules.get(layer, [])]
    model.train(model.training)
