"""The nouns that the layers exchange.

Shape letters used throughout the package: B batch, C classes, D feature width, E experts,
K experts kept by the gate, N samples in a set, H W image height and width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""What every image is normalized with: red, green, blue, of values in [0, 1]."""


@dataclass(frozen=True)
class Views:
    """Which augmented copies of its images a method asks for.

    Each string has one letter per copy: ``w`` for a weak and ``s`` for a strong augmentation, so
    ``Views(labeled="w", unlabeled="wws")`` asks for two weak and one strong view of every
    unlabeled image. Weak views come before strong ones.

    Raises:
        ValueError: a letter other than ``w`` or ``s``, a strong view before a weak one, or no
            labeled view.
    """

    labeled: str = "w"
    unlabeled: str = ""

    def __post_init__(self) -> None:
        for name in ("labeled", "unlabeled"):
            value = getattr(self, name)
            if value != "w" * value.count("w") + "s" * value.count("s"):
                raise ValueError(f"{name} views: expected w's, then s's, got {value!r}")
        if not self.labeled:
            raise ValueError("labeled views: expected at least one, got ''")


@dataclass(frozen=True)
class Labeled:
    """A batch of labeled images.

    Attributes:
        index: (B,) int64, row in the labeled set.
        target: (B,) int64 in [0, C).
        weak: one (B, 3, H, W) float32 tensor, normalized, per weak view.
        strong: one (B, 3, H, W) float32 tensor, normalized, per strong view.
    """

    index: Tensor
    target: Tensor
    weak: tuple[Tensor, ...] = ()
    strong: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Unlabeled:
    """A batch of unlabeled images: by type it has no target.

    Attributes:
        index: (B,) int64, row in the unlabeled set.
        weak: one (B, 3, H, W) float32 tensor, normalized, per weak view.
        strong: one (B, 3, H, W) float32 tensor, normalized, per strong view.
    """

    index: Tensor
    weak: tuple[Tensor, ...] = ()
    strong: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What one training step sees. A method without unlabeled views gets ``unlabeled`` empty."""

    labeled: Labeled
    unlabeled: Unlabeled


@dataclass
class Output:
    """What the classifier says about a batch.

    Attributes:
        features: (B, D), after the semantic EAF (and L2-normalized where the model says so).
        logits: (B, C), after the instance EAF.
    """

    features: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """(B, C) float32, rows sum to 1."""
        return self.logits.float().softmax(dim=1)

    def detach(self) -> Output:
        """The same numbers without gradient: what a pseudo-label may be made from."""
        return Output(self.features.detach(), self.logits.detach())

    def split(self, sizes: list[int]) -> tuple[Output, ...]:
        """Cut the batch into consecutive parts of the given sizes."""
        parts = zip(torch.split(self.features, sizes), torch.split(self.logits, sizes), strict=True)
        return tuple(Output(features, logits) for features, logits in parts)


@dataclass(frozen=True)
class Problem:
    """All that an algorithm may know of the world it is trained in.

    Attributes:
        num_classes: C >= 2.
        num_labeled: images in the labeled set.
        num_unlabeled: images in the unlabeled set.
        labeled_prior: (C,) float32, class shares of the labeled set; sums to 1.
    """

    num_classes: int
    num_labeled: int
    num_unlabeled: int
    labeled_prior: Tensor


@dataclass(frozen=True)
class Clock:
    """The time of a run, counted in optimizer steps.

    Attributes:
        step: steps done before this one, from 0.
        total_steps: steps of the whole run.
        epoch_steps: steps of one epoch (an epoch is a number of steps, not a pass over data).
    """

    step: int
    total_steps: int
    epoch_steps: int

    @property
    def epoch(self) -> int:
        """Epochs completed before this step, from 0."""
        return self.step // self.epoch_steps

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run, the last possibly shorter."""
        return math.ceil(self.total_steps / self.epoch_steps)

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return self.step / self.total_steps

    def ramp(self, end: float, start: float = 0.0) -> float:
        """Linear warm-up: 0 up to the share ``start`` of the run, 1 from its share ``end`` on."""
        if self.progress >= end:
            return 1.0
        return 0.0 if self.progress <= start else (self.progress - start) / (end - start)


@dataclass(frozen=True, init=False)
class Objective:
    """The loss of one step, term by term as the paper writes it.

    Every keyword is a term of the sum, already weighted: a scalar tensor with gradient.

    Attributes:
        terms: the terms by name; their sum is minimized.
        watch: tensors without gradient to log by name; never part of the loss.
    """

    terms: Mapping[str, Tensor]
    watch: Mapping[str, Tensor] = field(default_factory=dict)

    def __init__(self, *, watch: Mapping[str, Tensor] | None = None, **terms: Tensor) -> None:
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "watch", {k: v.detach() for k, v in (watch or {}).items()})

    @property
    def total(self) -> Tensor:
        """Scalar, the sum of all terms."""
        return torch.stack([term.float() for term in self.terms.values()]).sum()
