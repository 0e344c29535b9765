"""Ways to run a network over several views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leaf_fer.types import Output


def together(model: nn.Module, *images: Tensor) -> tuple[Output, ...]:
    """Run several batches in one pass: they share batch-norm statistics and one graph.

    Args:
        model: (B, 3, H, W) -> Output.
        images: batches of any sizes.

    Returns:
        One output per batch.
    """
    joint: Output = model(torch.cat(images))
    return joint.split([len(batch) for batch in images])


@torch.no_grad()
def guess(model: nn.Module, images: Tensor) -> Output:
    """Run a batch without gradient, as a pass of its own: what a pseudo-label is made from.

    In training mode it normalizes with the statistics of its own batch and moves the running ones.

    Args:
        model: (B, 3, H, W) -> Output.
        images: (B, 3, H, W).
    """
    output: Output = model(images)
    return output


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Leave batch-norm's running statistics alone in the passes made inside.

    Layers in training mode still normalize with the statistics of their batch.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def single_precision(model: nn.Module) -> Iterator[nn.Module]:
    """Give the network itself, to be run in float32: for gradients with respect to images.

    What the engine wraps around a network for mixed precision and shared gradients is left out.
    Gradients of the weights may be taken through it all the same.
    """
    network = getattr(model, "module", model)
    device = next(network.parameters()).device.type
    with torch.autocast(device, enabled=False):
        yield network
