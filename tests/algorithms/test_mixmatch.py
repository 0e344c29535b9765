from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.mixmatch import MixMatch
from leaf_fer.types import Batch, Clock, Objective

from .saying import (
    LATE,
    START,
    STRONG,
    WEAK,
    Says,
    batch_of,
    close,
    gradient,
    problem_of,
)

# spec 3.6: two guesses, what they become, and the prediction for a row that is mixed
FIRST, SECOND = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.4, 0.3, 0.3]])
GUESS = [0.657895, 0.236842, 0.105263]
BLEND = [0.897368, 0.071053, 0.031579]
MIXED = torch.tensor([[1, 0.2, -0.3]])


@pytest.fixture
def mixing(monkeypatch):
    """Shares of the rows themselves, their partners -> these are drawn."""

    def draw(shares: float | list[float], partners: list[int]) -> None:
        monkeypatch.setattr(fn, "mixing_weights", lambda *_: torch.tensor(shares))
        monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.tensor(partners))

    return draw


def make(**options: object) -> MixMatch:
    return MixMatch(problem_of(), Says(), **options)


def batch(known: Tensor) -> Batch:
    """One labeled image of class 0 and one unlabeled, of which the specification's are guessed."""
    return batch_of([FIRST.log(), SECOND.log()], known=known, target=[0])


def mixed_with_the_first_guess(share: float = 0.7) -> Tensor:
    """The labeled image that, mixed with the first view, is the mixed row."""
    return (MIXED - (1 - share) * FIRST.log()) / share


class TestVector:
    """The labeled image and the first view are partners; the second view is its own."""

    def run(self, mixing, **options: object) -> Objective:
        # 0.3 of the first view, so that its row is mixed as the labeled one is.
        mixing([0.7, 0.3, 1.0], [1, 0, 2])
        return make(**options).loss(batch(mixed_with_the_first_guess()), Says(), LATE)

    def test_the_labeled_row_costs_what_the_specification_says(self, mixing):
        close(self.run(mixing).terms["supervised"], 0.641300)

    def test_an_unlabeled_row_costs_what_the_specification_says(self, mixing):
        found = self.run(mixing, weight=1.0).terms["consistency"]
        alone = (SECOND - torch.tensor(GUESS)).square().mean()
        close(found, (0.050784 + alone) / 2)

    def test_the_labeled_target_is_that_of_the_specification(self, mixing):
        views = batch(mixed_with_the_first_guess())
        mixing([0.7, 0.3, 1.0], [1, 0, 2])
        term = make().loss(views, Says(), LATE).terms["supervised"]
        # d CE / d image = 0.7 (p - target)
        target = MIXED.softmax(1) - gradient(term, views.labeled.weak[0]) / 0.7
        close(target, [BLEND])

    def test_images_are_mixed_as_the_specification_does(self, mixing):
        mixing(0.7, [1, 0, 2])
        model = Says(2)
        views = batch_of([[[3, -1]], [[0, 0]]], known=[[1, 2]], target=[0])
        MixMatch(problem_of(2), model).loss(views, model, LATE)
        close(model.seen[2], [[1.6, 1.1]])

    def test_a_share_of_less_than_a_half_is_turned_round(self, monkeypatch, mixing):
        weights = fn.mixing_weights
        mixing(0.0, [1, 0, 2])
        monkeypatch.setattr(fn, "mixing_weights", weights)
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda _: torch.tensor(0.3))
        model = Says()
        make().loss(batch(mixed_with_the_first_guess()), model, LATE)
        close(model.seen[2], MIXED)


class TestGuess:
    def guess(self, mixing, **options: object) -> Tensor:
        """The target of an unlabeled row that is not mixed, read from its gradient."""
        mixing(1.0, [0, 1, 2])
        # With p the prediction and q the target, d (p - q)^2 / d p = 2 (p - q) / (2 rows C).
        views = batch_of([FIRST.log(), SECOND.log()], known=[[0.0, 0, 0]], target=[0])
        found = []
        for images, p in zip(views.unlabeled.weak, (FIRST, SECOND), strict=True):
            term = make(weight=1.0, **options).loss(views, Says(), LATE).terms["consistency"]
            pull = gradient(term, images)
            # The gradient to the logits is J (p - q) / 3, J = diag(p) - p p^T: p - q sums to 0.
            difference = 3 * pull / p
            found.append(p - (difference - difference.mean(1, keepdim=True)))
        close(found[0], found[1])
        return found[0]

    def test_without_sharpening_it_is_the_mean_of_two_predictions(self, mixing):
        close(self.guess(mixing, temperature=1.0), [[0.5, 0.3, 0.2]])

    def test_it_is_sharpened_as_the_specification_does(self, mixing):
        close(self.guess(mixing), [GUESS])

    def test_it_carries_no_gradient(self):
        model = Says()
        make().loss(batch_of([WEAK, STRONG]), model, LATE)
        assert model.grad_enabled == [False, False, True, True]


class TestMixing:
    ROWS, LABELED = 8, 2

    def mixed(self, seed: int, **options: object) -> tuple[Tensor, Says]:
        """Which images the rows of the two trained passes are made of, (8, 8)."""
        rows = torch.eye(self.ROWS).tolist()
        model = Says(self.ROWS)
        torch.manual_seed(seed)
        views = batch_of([rows[2:5], rows[5:]], known=rows[:2], target=[0, 1])
        MixMatch(problem_of(self.ROWS), model, **options).loss(views, model, LATE)
        return torch.cat(model.seen[2:]), model

    @pytest.mark.parametrize("per_sample", [False, True])
    @pytest.mark.parametrize("seed", range(5))
    def test_every_row_is_at_least_half_its_own_image(self, seed, per_sample):
        found, _ = self.mixed(seed, per_sample=per_sample)
        assert found.diagonal().min() >= 0.5

    def test_the_labeled_rows_come_first(self):
        _, model = self.mixed(0)
        assert model.sizes == [3, 3, self.LABELED, 6]

    @pytest.mark.parametrize("seed", range(5))
    def test_every_row_is_mixed_of_two_images(self, seed):
        found, _ = self.mixed(seed)
        close(found.sum(1), [1.0] * self.ROWS)
        assert (found > 0).sum(1).max() <= 2

    @pytest.mark.parametrize("seed", range(5))
    def test_every_image_is_the_partner_of_one_row(self, seed):
        found, _ = self.mixed(seed)
        close(found.sum(0), [1.0] * self.ROWS)

    def shares(self, **options: object) -> list[float]:
        found, _ = self.mixed(3, **options)
        return found.diagonal()[found.diagonal() < 1].tolist()

    def test_the_rows_of_a_batch_share_one_draw(self):
        close(torch.tensor(self.shares()), [self.shares()[0]] * len(self.shares()))

    def test_every_row_can_have_a_draw_of_its_own(self):
        shares = self.shares(per_sample=True)
        assert len(set(shares)) == len(shares) > 1

    def test_labeled_images_are_mixed_with_unlabeled_ones(self):
        known = torch.stack([self.mixed(seed)[0][:2] for seed in range(5)])
        assert known[:, :, 2:].any()

    def test_a_whole_share_changes_nothing(self, mixing):
        mixing(1.0, [7, 6, 5, 4, 3, 2, 1, 0])
        assert torch.equal(self.mixed(0)[0], torch.eye(self.ROWS))

    def test_targets_are_mixed_as_images_are(self, mixing):
        partner = [1, 0, 5, 2, 3, 4, 6, 7]
        mixing(0.7, partner)
        views = batch_of([WEAK, STRONG])
        found = make(weight=1.0).loss(views, Says(), LATE)
        q = fn.sharpen((torch.tensor(WEAK).softmax(1) + torch.tensor(STRONG).softmax(1)) / 2, 0.5)
        images = torch.cat([views.labeled.weak[0], *views.unlabeled.weak])
        targets = torch.cat([F.one_hot(views.labeled.target, 3), q, q])
        mixed, blend = (0.7 * rows + 0.3 * rows[partner] for rows in (images, targets))
        close(found.terms["supervised"], -(blend * mixed.log_softmax(1)).sum(1)[:2].mean())
        close(found.terms["consistency"], (blend - mixed.softmax(1))[2:].square().mean())


class TestRamp:
    def consistency(self, clock: Clock, **options: object) -> Tensor:
        torch.manual_seed(0)
        return make(**options).loss(batch_of([WEAK, STRONG]), Says(), clock).terms["consistency"]

    @pytest.mark.parametrize(("step", "share"), [(0, 0), (10, 0.25), (40, 1), (90, 1)])
    def test_the_consistency_grows_linearly(self, step, share):
        full = self.consistency(LATE, weight=1.0).item()
        close(self.consistency(Clock(step, 100, 10), weight=1.0), share * full)

    def test_its_weight_is_75(self):
        close(self.consistency(LATE) / 75, self.consistency(LATE, weight=1.0))

    def test_the_labeled_term_has_no_ramp(self):
        torch.manual_seed(0)
        first = make().loss(batch_of([WEAK, STRONG]), Says(), START).terms["supervised"]
        torch.manual_seed(0)
        assert torch.equal(
            first, make().loss(batch_of([WEAK, STRONG]), Says(), LATE).terms["supervised"]
        )

    def test_there_are_two_terms(self):
        terms = make().loss(batch_of([WEAK, STRONG]), Says(), LATE).terms
        assert set(terms) == {"supervised", "consistency"}


class TestBatchNorm:
    PARTNERS = torch.arange(32).roll(9).tolist()

    def test_mixed_labeled_rows_are_normalized_among_themselves(
        self, mixing, problem, new_model, new_batch
    ):
        mixing(1.0, self.PARTNERS)
        model = new_model().train()
        views = new_batch(MixMatch.views)
        twin = copy.deepcopy(model)
        found = MixMatch(problem, model).loss(views, model, LATE).terms["supervised"]
        logits = twin(views.labeled.weak[0]).logits
        close(found, F.cross_entropy(logits, views.labeled.target))
