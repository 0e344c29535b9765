"""The losses against float64 oracles written from the papers."""

import builtins
import math

import pytest
import torch

from leaf_fer.errors import UserError
from leaf_fer.models import Architecture, build_classifier
from leaf_fer.pretraining import PRETRAINING
from leaf_fer.types import Batch, Clock, Labeled, Problem, Unlabeled

pytest.importorskip("lightly")
every = pytest.mark.parametrize("key", ["simclr", "barlow_twins", "vicreg"])
PROBLEM = Problem(2, 16, 0, torch.ones(2) / 2)
CLOCK = Clock(0, 10, 5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_classifier(Architecture(backbone="conv4", num_classes=2, image_size=16))


def faces(count=6):
    """A batch of two strong views, whose targets would be out of any range."""
    views = torch.rand(2, count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    nobody = torch.full((count,), -1)
    return Batch(Labeled(nobody, nobody, (), tuple(views)), Unlabeled(nobody[:0]))


def rows(count=6, width=5):
    made = torch.Generator().manual_seed(2)
    return tuple(torch.randn(2, count, width, generator=made, dtype=torch.float64))


def simclr_by_hand(first, second, t):
    z = [row / math.sqrt(sum(x * x for x in row)) for row in [*first, *second]]
    n, total = len(first), 0.0
    for i, one in enumerate(z):
        similar = [math.exp(float(one @ other) / t) for other in z]
        total -= math.log(similar[(i + n) % (2 * n)] / (sum(similar) - similar[i]))
    return total / (2 * n)


def barlow_by_hand(first, second, weight):
    def standard(column):
        mean = column.mean()
        return (column - mean) / math.sqrt(((column - mean) ** 2).mean())

    total, n = 0.0, len(first)
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            c = float(standard(first[:, i]) @ standard(second[:, j])) / n
            total += (1 - c) ** 2 if i == j else weight * c * c
    return total


def vicreg_by_hand(first, second, invariance, variance, covariance):
    n, d = first.shape
    total = invariance * sum(
        (x - y) ** 2 for x, y in zip(first.flatten(), second.flatten(), strict=True)
    )
    total /= n * d
    for z in (first, second):
        z = z - z.mean(dim=0)
        c = z.T @ z / (n - 1)
        kept = [max(0.0, 1 - math.sqrt(c[i, i] + 1e-4)) for i in range(d)]
        total += variance * sum(kept) / d * SHARE
        total += covariance * sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return float(total)


SHARE = 0.5
"""lightly averages v over the two views, as the authors' code does; eq. (6) adds them up."""


def test_simclr_is_eq_1(model):
    criterion = PRETRAINING["simclr"](PROBLEM, model, temperature=0.3).criterion
    first, second = rows()
    torch.testing.assert_close(
        float(criterion(first, second)), simclr_by_hand(first, second, 0.3), atol=1e-6, rtol=0
    )


def test_barlow_twins_is_eq_1(model):
    criterion = PRETRAINING["barlow_twins"](PROBLEM, model, off_diagonal=0.2).criterion
    first, second = rows()
    torch.testing.assert_close(
        float(criterion(first, second)), barlow_by_hand(first, second, 0.2), atol=1e-4, rtol=0
    )


def test_vicreg_is_eq_6(model):
    weights = {"invariance": 3.0, "variance": 7.0, "covariance": 2.0}
    criterion = PRETRAINING["vicreg"](PROBLEM, model, **weights).criterion
    first, second = (0.5 * z for z in rows())
    torch.testing.assert_close(
        float(criterion(first, second)),
        vicreg_by_hand(first, second, *weights.values()),
        atol=1e-5,
        rtol=0,
    )


@every
def test_the_encoder_learns_and_the_head_does_not(key, model):
    method = PRETRAINING[key](PROBLEM, model)
    method.loss(faces(), model, CLOCK).total.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("backbone"):
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    assert method.project[0].weight.grad.any()


@every
def test_the_loss_falls_when_views_agree(key, model):
    method = PRETRAINING[key](PROBLEM, model)
    different = faces()
    same = Labeled(*[different.labeled.index] * 2, (), (different.labeled.strong[0],) * 2)
    losses = [
        float(method.loss(Batch(x, different.unlabeled), model, CLOCK).total.detach())
        for x in (same, different.labeled)
    ]
    assert losses[0] < losses[1]


def test_spread_is_none_after_collapse_and_one_where_embeddings_are_everywhere(model):
    method = PRETRAINING["simclr"](PROBLEM, model)
    look = method.loss(faces(), model, CLOCK).watch["spread"]
    assert 0 < float(look) < 1.5
    torch.nn.init.zeros_(method.project[-1].weight)
    assert float(method.loss(faces(), model, CLOCK).watch["spread"]) < 1e-6
    torch.manual_seed(0)
    method.project = torch.nn.Identity()
    spread = method.loss(faces(64), _Anywhere(), CLOCK).watch["spread"]
    torch.testing.assert_close(float(spread), 1.0, atol=0.05, rtol=0)


class _Anywhere(torch.nn.Module):
    def forward(self, images):
        from leaf_fer.types import Output

        return Output(torch.randn(len(images), 128), torch.zeros(len(images), 2))


def test_without_lightly_it_says_what_to_install(model, monkeypatch):
    load = builtins.__import__

    def refuse(name, *more):
        if name == "lightly":
            raise ImportError
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match="lightly is not installed; pip install"):
        PRETRAINING["simclr"](PROBLEM, model)
