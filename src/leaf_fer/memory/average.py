"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from leaf_fer.processes import spread
from leaf_fer.types import Output


class Average(nn.Module):
    """A copy of a network whose weights follow it slowly.

    After every optimizer step, for every parameter and floating-point buffer (the running
    statistics of batch-norm included, as the code of Ada-CM, LION and LEAF does):

        average <- a * average + (1 - a) * current,    a = min(decay, (1 + t) / (10 + t))

    with t the updates done before. The growing decay is our addition: without it a run of a few
    hundred steps would be judged by little more than its initial weights. Integer buffers are
    copied, not averaged.

    Args:
        model: the network to follow; copied, in evaluation mode.
        decay: a in [0, 1); 0 keeps a plain copy of the latest weights.
        warmup: whether the decay grows; False gives the constant decay of the papers.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, *, warmup: bool = True) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"expected 0 <= decay < 1, got {decay}")
        self.decay = decay
        self.warmup = warmup
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        # In host memory whatever the device: the decay is needed as a number.
        self.updates = 0

    def get_extra_state(self) -> Tensor:
        """The number of updates, so that it travels with the weights."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the number of updates back from :meth:`get_extra_state`."""
        self.updates = int(state)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards ``model``, which must have the parameters that this copy was made from."""
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = self.model.state_dict(), model.state_dict()
        floating = [k for k, v in mine.items() if v.is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in floating], [theirs[k] for k in floating], 1 - decay)
        for name, value in mine.items():
            if not value.is_floating_point():
                value.copy_(theirs[name])

    def train(self, mode: bool = True) -> Average:
        """Stay in evaluation mode: a copy is looked at, never trained."""
        return super().train(False)

    def forward(self, images: Tensor) -> Output:
        """Call the averaged network, in all processes together."""
        return spread(self.model, images)
