"""Class scores of many images, in batches.

While a batch is computed the next is read, and a GPU is given a batch before the scores of the
one before it are read: neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from leaf_fer.data.augment import normalize
from leaf_fer.data.views import Images
from leaf_fer.lookahead import ahead
from leaf_fer.types import MEAN, STD


class Scores:
    """Class probabilities of a batch that a GPU may still be computing.

    Args:
        probabilities: (B, C) on any device; their way to host memory begins here.
    """

    def __init__(self, probabilities: Tensor) -> None:
        self._host = probabilities.to("cpu", non_blocking=True)
        self._arrival = None
        if probabilities.is_cuda:
            self._arrival = torch.cuda.current_stream(probabilities.device).record_event()

    def wait(self) -> Tensor:
        """(B, C) float32 in host memory, rows sum to 1."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._host


@torch.inference_mode()
def begin(model: nn.Module, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Scores:
    """Begin to classify a batch, without waiting for a GPU to end.

    Args:
        model: images -> Output, in evaluation mode.
        images: (B, 3, S, S) uint8 on the device of the model.
        mean: of red, green and blue, in [0, 1].
        std: of red, green and blue, in [0, 1].
    """
    return Scores(model(normalize(images, mean, std)).probabilities)


def evaluate(
    model: nn.Module,
    images: Images,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    autocast: bool,
    progress: bool = False,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> NDArray[np.float32]:
    """Return the class probabilities of some rows, without augmentation.

    Args:
        model: images -> Output; put into evaluation mode for the call.
        images: the decoded images.
        rows: (N,) int64.
        batch_size: images per step.
        autocast: compute in bfloat16.
        progress: show a bar with rate and time left, in a terminal.
        mean: of red, green and blue, in [0, 1], that the model expects.
        std: likewise.

    Returns:
        (N, C) float32, rows sum to 1.
    """
    was_training = model.training
    model.eval()
    found = []
    bar = tqdm(total=len(rows), unit="image", disable=None if progress else True)
    half = torch.autocast(images.device.type, torch.bfloat16, enabled=autocast)
    with bar, half, ThreadPoolExecutor(1, "leaf-reader") as reader:
        parts = torch.split(torch.from_numpy(rows), batch_size)
        fetched = ahead((reader.submit(images.fetch, part) for part in parts), 1)
        for scores in ahead((begin(model, batch.result(), mean, std) for batch in fetched), 1):
            found.append(scores.wait())
            bar.update(len(found[-1]))
    model.train(was_training)
    return torch.cat(found).numpy()
