"""A network that says what a test states, and batches of such statements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.types import Batch, Clock, Labeled, Output, Problem, Unlabeled

CLOCK = Clock(step=10, total_steps=100, epoch_steps=20)
"""In the first epoch of a run."""
LATER = Clock(step=30, total_steps=100, epoch_steps=20)
"""In the second epoch of a run."""

# spec 0.3
WEAK = [[4, 0, 0], [3, 0, 0], [0.5, 1.5, 0.2]]
STRONG = [[2, 1, 0.1], [0.5, 1.5, 0.2], [0.3, 0.9, -0.4]]

Rows = Sequence[Sequence[float]]


class Says(nn.Module):
    """A network whose images are its logits, followed by its features."""

    def __init__(self, classes: int = 3, width: int = 2) -> None:
        super().__init__()
        self.classes, self.width = classes, width
        self.scale = nn.Parameter(torch.ones(()))
        self.grad_enabled: list[bool] = []

    def forward(self, images: Tensor) -> Output:
        self.grad_enabled.append(torch.is_grad_enabled())
        logits, features = images.tensor_split([self.classes], dim=1)
        return Output(features, self.scale * logits)


def problem(classes: int = 3, num_labeled: int = 4, num_unlabeled: int = 20) -> Problem:
    return Problem(classes, num_labeled, num_unlabeled, torch.ones(classes) / classes)


def view(logits: Rows | Tensor, features: Rows | Tensor | None = None) -> Tensor:
    """Images that say these logits and features, ready to be asked for their gradient."""
    logits = torch.as_tensor(logits, dtype=torch.float32)
    if features is None:
        features = torch.ones(len(logits), 2)
    return torch.cat([logits, torch.as_tensor(features).float()], dim=1).requires_grad_()


def logits_of(probabilities: Rows) -> Tensor:
    """Logits whose softmax these are."""
    return torch.tensor(probabilities).log()


def batch(
    weak: Tensor | list[Tensor],
    strong: Tensor | list[Tensor],
    *,
    known: Tensor | None = None,
    known_strong: Tensor | None = None,
    target: Sequence[int] = (0, 1),
    index: Sequence[int] | None = None,
    row: Sequence[int] | None = None,
) -> Batch:
    """A batch of these views; ``index`` is of the labeled images, ``row`` of the others."""
    known = view([[1, 0.5, -0.2], [0.1, 0.3, 0.8]]) if known is None else known
    weak = [weak] if isinstance(weak, Tensor) else weak
    strong = [strong] if isinstance(strong, Tensor) else strong
    index = range(len(known)) if index is None else index
    row = range(len(weak[0])) if row is None else row
    x = Labeled(
        torch.tensor(list(index)),
        torch.tensor(list(target)),
        (known,),
        () if known_strong is None else (known_strong,),
    )
    return Batch(x, Unlabeled(torch.tensor(list(row)), tuple(weak), tuple(strong)))


def pulled(logits: Tensor, belief: Tensor, mask: Tensor, mass: float) -> float:
    """LEAF's category term under a mask, from its definition: the mean over the whole batch."""
    cost = fn.ambiguous_loss(logits, fn.candidate_set(belief, mass))
    return (mask * cost).mean().item()


def close(found: Tensor, expected: float | Rows | Sequence[float] | Tensor) -> None:
    expected = torch.as_tensor(expected).detach().float()
    torch.testing.assert_close(found.detach().float(), expected, atol=1e-5, rtol=1e-5)
