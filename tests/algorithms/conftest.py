"""A world small enough for every method to be trained in it within a second.

Images of class c are a fixed pattern plus noise. Half of the unlabeled images show one pattern, so
that a trained network is sure of them; the others blend two, so that it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.models import EAF, Classifier
from leaf_fer.types import Batch, Labeled, Problem, Unlabeled, Views

CLASSES, SIDE, WIDTH = 4, 10, 12
NUM_LABELED, NUM_UNLABELED = 24, 48


class Undeclared:
    """Stands in the place of views that a method did not ask for."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("the method reads views that it did not declare")

    __iter__: Callable[..., Iterator[Tensor]] = _refuse
    __getitem__ = __len__ = __bool__ = _refuse


def patterns() -> Tensor:
    return 2 * torch.randn(CLASSES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


def copies(images: Tensor, letters: str, generator: torch.Generator) -> dict[str, Any]:
    """The declared views of some images, and something that raises for all others."""
    views: dict[str, Any] = {"weak": Undeclared(), "strong": Undeclared()}
    for kind, letter, noise in (("weak", "w", 0.3), ("strong", "s", 1.0)):
        if letter in letters:
            views[kind] = tuple(
                images + noise * torch.randn(images.shape, generator=generator)
                for _ in range(letters.count(letter))
            )
    return views


@pytest.fixture(scope="session")
def problem() -> Problem:
    return Problem(CLASSES, NUM_LABELED, NUM_UNLABELED, torch.ones(CLASSES) / CLASSES)


@pytest.fixture(scope="session")
def new_batch() -> Callable[[Views, int], Batch]:
    """Declared views, seed -> batch of 8 labeled and 12 unlabeled images."""

    def make(views: Views, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        target = torch.arange(8) % CLASSES
        index = torch.randperm(NUM_LABELED, generator=generator)[:8]
        labeled = Labeled(index, target, **copies(patterns()[target], views.labeled, generator))
        if not views.unlabeled:
            nothing = torch.zeros(0, dtype=torch.int64)
            return Batch(labeled, Unlabeled(nothing, Undeclared(), Undeclared()))
        first = torch.arange(12) % CLASSES
        share = torch.ones(12, 1, 1, 1)
        share[6:] = 0.5
        images = share * patterns()[first] + (1 - share) * patterns()[(first + 1) % CLASSES]
        images[6:] *= 2  # clearly two patterns, and clearly not the others
        index = torch.randperm(NUM_UNLABELED, generator=generator)[:12]
        return Batch(labeled, Unlabeled(index, **copies(images, views.unlabeled, generator)))

    return make


@pytest.fixture(scope="session")
def labeled_pass() -> Callable[[], Iterator[Labeled]]:
    """One lazy pass over the labeled images in weak views, the last batch smaller."""

    def make() -> Iterator[Labeled]:
        generator = torch.Generator().manual_seed(0)
        target = torch.arange(NUM_LABELED) % CLASSES
        for index in torch.arange(NUM_LABELED).split(10):
            views = copies(patterns()[target[index]], "w", generator)
            yield Labeled(index, target[index], **views)

    return make


@pytest.fixture(scope="session")
def new_model() -> Callable[..., Classifier]:
    """Whether with EAF, seed -> a tiny classifier with batch-norm."""

    def make(eaf: bool = False, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        backbone = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, stride=2),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        levels = {"semantic": EAF(WIDTH), "instance": EAF(CLASSES)} if eaf else {}
        return Classifier(backbone, WIDTH, CLASSES, **levels)

    return make


@pytest.fixture(scope="session")
def learned(
    new_model: Callable[..., Classifier], labeled_pass: Callable[[], Iterator[Labeled]]
) -> Callable[[bool], Classifier]:
    """Whether with EAF -> a classifier that knows the patterns and is sure of them."""
    states: dict[bool, dict[str, Tensor]] = {}

    def train(eaf: bool) -> dict[str, Tensor]:
        model = new_model(eaf)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        # A little less than 1 for the right class: a network that is certain learns nothing.
        targets = 0.02 / CLASSES + 0.98 * torch.eye(CLASSES)
        for _ in range(30):
            for batch in labeled_pass():
                optimizer.zero_grad()
                fn.cross_entropy(model(batch.weak[0]).logits, targets[batch.target]).backward()
                optimizer.step()
        return model.state_dict()

    def make(eaf: bool = False) -> Classifier:
        if eaf not in states:
            with torch.autocast("cpu", enabled=False):  # whoever asks first
                states[eaf] = train(eaf)
        model = new_model(eaf)
        model.load_state_dict(states[eaf])
        return model

    return make
