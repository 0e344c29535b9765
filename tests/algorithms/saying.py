"""A network that says what it is told, and the numbers that the specification has it say."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.types import Batch, Clock, Labeled, Output, Problem, Unlabeled

Rows = Sequence[Sequence[float]] | Tensor

# spec 0.3, "Shared test inputs (TV-A)"
WEAK = [[4, 0, 0], [3, 0, 0], [0.5, 1.5, 0.2]]
STRONG = [[2, 1, 0.1], [0.5, 1.5, 0.2], [0.3, 0.9, -0.4]]
# spec 3.9: logits of labeled images
KNOWN = [[3.5, 0.1, -0.2], [0.2, 0.4, 0.1]]
KNOWN_STRONG = [[1.2, 0.7, 0], [0.1, 0.9, -0.3]]
TARGET = [0, 2]

START, LATE = Clock(0, 100, 10), Clock(90, 100, 10)
"""The first step of a run, and one in its last epoch, at which every ramp has ended."""


class Says(nn.Module):
    """A network whose images are its logits, followed by its features if there are more numbers.

    Attributes:
        width: features that an algorithm is told to expect.
        seen: the images of every pass.
        grad_enabled: whether each pass kept a graph.
    """

    def __init__(self, classes: int = 3, width: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.width = width
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []
        self.grad_enabled: list[bool] = []

    def forward(self, images: Tensor) -> Output:
        self.seen.append(images.detach())
        self.grad_enabled.append(torch.is_grad_enabled())
        numbers = images.flatten(1)
        return Output(numbers[:, self.classes :], self.scale * numbers[:, : self.classes])

    @property
    def sizes(self) -> list[int]:
        """How many images every pass had."""
        return [len(images) for images in self.seen]


def problem_of(
    classes: int = 3,
    num_labeled: int = 4,
    num_unlabeled: int = 20,
    *,
    prior: Sequence[float] = (),
) -> Problem:
    shares = torch.tensor(prior) if prior else torch.ones(classes) / classes
    return Problem(classes, num_labeled, num_unlabeled, shares)


def logits_of(probabilities: Rows) -> Tensor:
    """Logits whose softmax these are."""
    return torch.as_tensor(probabilities).log()


def view(logits: Rows, features: Rows | None = None) -> Tensor:
    """Images of their own that say this, so that each view has a gradient of its own."""
    said = [logits] if features is None else [logits, features]
    numbers = [torch.as_tensor(rows, dtype=torch.float32).detach() for rows in said]
    return torch.cat(numbers, dim=1).requires_grad_()


def batch_of(
    weak: Sequence[Rows],
    strong: Sequence[Rows] = (),
    *,
    known: Rows = KNOWN,
    known_strong: Rows | None = None,
    target: Sequence[int] = TARGET,
    index: Sequence[int] = (),
    row: Sequence[int] = (),
) -> Batch:
    """Unlabeled views, then labeled images with their classes -> what a step sees.

    Labeled images have this ``index`` in their set, the others this ``row`` in theirs; without,
    both are counted from 0.
    """
    labeled = Labeled(
        torch.tensor(index or range(len(target))),
        torch.tensor(target),
        weak=(view(known),),
        strong=() if known_strong is None else (view(known_strong),),
    )
    rows = torch.tensor(row or range(len(weak[0])), dtype=torch.int64)
    return Batch(labeled, Unlabeled(rows, tuple(map(view, weak)), tuple(map(view, strong))))


def close(found: Tensor, expected: float | Sequence[float] | Rows) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-5)


def gradient(term: Tensor, images: Tensor) -> Tensor | None:
    """What the images of a view are told by one term; None if they play no part in it."""
    (found,) = torch.autograd.grad(term, images, retain_graph=True, allow_unused=True)
    return found


def targets(term: Tensor, logits: Tensor) -> Tensor:
    """The targets of a mean cross-entropy, read from its gradient (p - target) / B."""
    found = gradient(term, logits)
    assert found is not None
    return logits.detach().softmax(dim=1) - len(logits) * found


def ambiguous(
    logits: Rows, belief: Rows, mask: Sequence[float] | Tensor, mass: float = 0.9
) -> Tensor:
    """LEAF's ambiguous loss of logits, averaged over the whole batch under a mask.

    The positive classes are those of the prediction ``softmax(belief)``.
    """
    positive = fn.candidate_set(torch.as_tensor(belief).softmax(dim=1), mass)
    cost = fn.ambiguous_loss(torch.as_tensor(logits), positive)
    return (torch.as_tensor(mask) * cost).mean()


def statistics_after(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Running statistics of batch-norm after one pass of a copy of the network."""
    twin = copy.deepcopy(model)
    twin(images)
    return list(twin.buffers())


def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all tensors are equal, bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
