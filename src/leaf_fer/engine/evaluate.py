"""Class scores of many images, in batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

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
    progress: bool = False,
) -> NDArray[np.float32]:
    """Return the class probabilities of some rows, without augmentation.

    Args:
        model: images -> Output; put into evaluation mode for the call.
        images: the decoded images.
        rows: (N,) int64.
        batch_size: images per step.
        autocast: compute in bfloat16.
        progress: show a bar with rate and time left, in a terminal.

    Returns:
        (N, C) float32, rows sum to 1.
    """
    was_training = model.training
    model.eval()
    found = []
    bar = tqdm(total=len(rows), unit="image", disable=None if progress else True)
    with bar, torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        for part in torch.split(torch.from_numpy(rows), batch_size):
            bar.update(len(part))
            found.append(model(normalize(images.fetch(part), MEAN, STD)).probabilities)
    model.train(was_training)
    return torch.cat(found).cpu().numpy()
