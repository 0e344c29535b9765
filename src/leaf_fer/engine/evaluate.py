"""Class scores of many images, in batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from leaf_fer.data.augment import normalize
from leaf_fer.data.views import MEAN, STD, Images


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Images,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    autocast: bool,
) -> NDArray[np.float32]:
    """Return the class probabilities of some rows, without augmentation.

    Args:
        model: images -> Output; put into evaluation mode for the call.
        images: the decoded images.
        rows: (N,) int64.
        batch_size: images per step.
        autocast: compute in bfloat16.

    Returns:
        (N, C) float32, rows sum to 1.
    """
    was_training = model.training
    model.eval()
    found = []
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        for part in torch.from_numpy(rows).split(batch_size):
            found.append(model(normalize(images.fetch(part), MEAN, STD)).probabilities)
    model.train(was_training)
    return torch.cat(found).cpu().numpy()
