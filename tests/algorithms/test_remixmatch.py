from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.remixmatch import ReMixMatch, quarter_turns
from leaf_fer.types import Batch, Clock, Objective

from .saying import (
    KNOWN,
    LATE,
    START,
    STRONG,
    WEAK,
    Says,
    batch_of,
    close,
    gradient,
    problem_of,
    targets,
)

# spec 3.7
PRIOR, SEEN = (0.5, 0.3, 0.2), torch.tensor([0.6, 0.3, 0.1])
BELIEF = torch.tensor([[0.7, 0.2, 0.1]])
ALIGNED, SHARPENED = [0.593221, 0.203390, 0.203389], [0.809651, 0.095175, 0.095174]

OTHER = [[0, 1, 0.3], [1, -0.5, 0.2], [0.1, 0.2, 0.9]]
"""Logits of a second strong view."""


@pytest.fixture
def mixing(monkeypatch):
    """Share of the rows themselves, their partners -> these are drawn."""

    def draw(share: float, partners: list[int]) -> None:
        monkeypatch.setattr(fn, "mixing_weights", lambda *_: torch.tensor(share))
        monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.tensor(partners))

    return draw


@pytest.fixture
def turning(monkeypatch):
    """Quarter turns -> these are drawn."""

    def draw(turns: list[int]) -> None:
        monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(turns))

    return draw


def make(**options: object) -> ReMixMatch:
    """Without rotations, whose images must be square, unless a test asks for them."""
    return ReMixMatch(problem_of(prior=PRIOR), Says(), **{"rotation_weight": 0.0, **options})


def batch() -> Batch:
    return batch_of([WEAK], [STRONG, OTHER])


def objective(clock: Clock = LATE, **options: object) -> Objective:
    torch.manual_seed(0)
    return make(**options).loss(batch(), Says(), clock)


def turned(images: Tensor, turns: Sequence[int]) -> Tensor:
    pairs = zip(images, turns, strict=True)
    return torch.stack([image.rot90(k, dims=(1, 2)) for image, k in pairs])


def guesses() -> Tensor:
    """Of the first batch: aligned with its own mean, then sharpened."""
    p = torch.tensor(WEAK).softmax(1)
    return fn.sharpen(fn.align(p, torch.tensor(PRIOR), p.mean(0)), 0.5)


class TestGuess:
    def guess(self, **options: object) -> Tensor:
        """The target of the anchor when the classes were seen as in the specification."""
        algorithm = make(anchor_weight=1.0, **options)
        algorithm.align(2 * SEEN - BELIEF)  # with the batch to come, the mean is SEEN
        views = batch_of([BELIEF.log()], [STRONG[:1], OTHER[:1]])
        term = algorithm.loss(views, Says(), LATE).terms["anchor"]
        assert torch.allclose(algorithm.align.means[:2].mean(0), SEEN)
        return targets(term, views.unlabeled.strong[0])

    def test_it_is_aligned_as_the_specification_does(self):
        close(self.guess(temperature=1.0), [ALIGNED])

    def test_it_is_aligned_before_it_is_sharpened(self):
        close(self.guess(), [SHARPENED])
        other_order = fn.align(fn.sharpen(BELIEF, 0.5), torch.tensor(PRIOR), SEEN)
        assert (other_order - torch.tensor(SHARPENED)).abs().max() > 0.01

    def test_it_is_aligned_with_the_class_shares_of_the_labeled_set(self):
        close(make().align.target, PRIOR)

    def test_alignment_remembers_128_batches(self):
        assert len(make().align.means) == 128
        assert len(make(window=5).align.means) == 5

    def test_every_step_is_remembered_once(self):
        algorithm = make()
        for _ in range(3):
            algorithm.loss(batch(), Says(), LATE)
        assert algorithm.align.count == 3

    def test_what_is_remembered_is_neither_aligned_nor_sharpened(self):
        algorithm = make()
        algorithm.loss(batch(), Says(), LATE)
        close(algorithm.align.means[0], torch.tensor(WEAK).softmax(1).mean(0))

    def test_a_window_without_batches_is_refused(self):
        with pytest.raises(ValueError, match="expected length >= 1, got 0"):
            make(window=0)

    def test_it_carries_no_gradient(self):
        model = Says()
        make().loss(batch(), model, LATE)
        assert model.grad_enabled == [False, True, True, True]


class TestMixing:
    POOL = torch.tensor([*KNOWN, *STRONG, *OTHER, *WEAK])

    def test_labeled_rows_come_first_and_strong_views_before_the_weak_one(self, mixing):
        mixing(1.0, list(range(11)))
        model = Says()
        make().loss(batch(), model, LATE)
        close(torch.cat(model.seen[1:3]), self.POOL)
        assert model.sizes[:3] == [3, 2, 9]

    def test_terms_are_cross_entropies_of_mixed_rows_with_mixed_targets(self, mixing):
        partners = torch.arange(11).roll(4).tolist()
        mixing(0.7, partners)
        found = objective(weight=1.0).terms
        q = guesses()
        labels = torch.cat([F.one_hot(torch.tensor([0, 2]), 3), q, q, q])
        mixed, blend = (0.7 * rows + 0.3 * rows[partners] for rows in (self.POOL, labels))
        cost = -(blend * mixed.log_softmax(1)).sum(1)
        close(found["supervised"], cost[:2].mean())
        close(found["mixed"], cost[2:].mean())

    @pytest.mark.parametrize("seed", range(5))
    def test_every_row_is_at_least_half_its_own_image(self, seed):
        torch.manual_seed(seed)
        rows = torch.eye(11).tolist()
        model = Says(11)
        views = batch_of([rows[8:]], [rows[2:5], rows[5:8]], known=rows[:2])
        ReMixMatch(problem_of(11), model, rotation_weight=0.0).loss(views, model, LATE)
        assert torch.cat(model.seen[1:3]).diagonal().min() >= 0.5

    def test_a_share_of_less_than_a_half_is_turned_round(self, monkeypatch):
        monkeypatch.setattr(torch.distributions.Beta, "sample", lambda _: torch.tensor(0.3))
        monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.arange(11).roll(4))
        model = Says()
        make().loss(batch(), model, LATE)
        close(model.seen[1], (0.7 * self.POOL + 0.3 * self.POOL.roll(4, 0))[:2])


class TestAnchor:
    def test_it_is_the_cross_entropy_of_the_first_strong_view_with_the_guess(self):
        expected = -(guesses() * torch.tensor(STRONG).log_softmax(1)).sum(1).mean()
        close(objective(anchor_weight=1.0).terms["anchor"], expected)

    def test_its_images_are_not_mixed(self):
        model = Says()
        make().loss(batch(), model, LATE)
        close(model.seen[3], STRONG)

    def test_it_teaches_the_first_strong_view_alone(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["anchor"]
        (weak,), (first, second) = views.unlabeled.weak, views.unlabeled.strong
        assert gradient(term, first).abs().amax(1).gt(0).all()
        assert gradient(term, second) is None
        assert gradient(term, weak) is None


class TestWeights:
    @pytest.mark.parametrize(("step", "share"), [(0, 0), (10, 0.25), (40, 1), (90, 1)])
    @pytest.mark.parametrize("name", ["mixed", "anchor"])
    def test_mixed_and_anchored_terms_grow_linearly(self, name, step, share):
        full = objective(ramp=0.4).terms[name].item()
        close(objective(Clock(step, 100, 10), ramp=0.4).terms[name], share * full)

    def test_by_default_they_grow_over_four_tenths_of_the_run(self):
        full = objective().terms["mixed"].item()
        close(objective(Clock(20, 100, 10)).terms["mixed"], full / 2)
        close(objective(Clock(40, 100, 10)).terms["mixed"], full)

    @pytest.mark.parametrize(
        ("name", "option", "default"), [("mixed", "weight", 1.5), ("anchor", "anchor_weight", 0.5)]
    )
    def test_weights_multiply_the_terms(self, name, option, default):
        one = objective(**{option: 1.0}).terms[name].item()
        close(objective().terms[name], default * one)
        close(objective(**{option: 3.0}).terms[name], 3 * one)

    def test_the_labeled_term_has_no_ramp(self):
        assert torch.equal(objective(START).terms["supervised"], objective().terms["supervised"])


class TestQuarterTurns:
    @pytest.mark.parametrize("turns", range(4))
    def test_they_turn_as_torch_does(self, turns, turning):
        torch.manual_seed(0)
        images = torch.randn(2, 3, 5, 5)
        turning([turns, turns])
        found, label = quarter_turns(images)
        assert torch.equal(found, images.rot90(turns, dims=(2, 3)))
        assert label.tolist() == [turns, turns]

    def test_every_image_has_a_turn_of_its_own(self, turning):
        images = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        turning([3, 0, 2, 1])
        found, _ = quarter_turns(images)
        assert torch.equal(found, turned(images, [3, 0, 2, 1]))

    def test_all_turns_are_equally_likely(self):
        torch.manual_seed(0)
        _, turns = quarter_turns(torch.zeros(4000, 1, 2, 2))
        assert turns.bincount(minlength=4).tolist() == pytest.approx([1000] * 4, abs=100)

    def test_images_are_left_as_they_were(self):
        images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        before = images.clone()
        quarter_turns(images)
        assert torch.equal(images, before)


class TestRotation:
    """Images of 2 x 2 values: three logits and one feature."""

    TURNS = (2, 1, 3)

    def squares(self, seed: int, number: int = 3) -> Tensor:
        return torch.randn(number, 1, 2, 2, generator=torch.Generator().manual_seed(seed))

    def batch(self) -> Batch:
        views = [self.squares(seed) for seed in range(3)]
        return batch_of(views[:1], views[1:], known=self.squares(3, 2))

    def algorithm(self, **options: object) -> ReMixMatch:
        torch.manual_seed(0)
        return make(**{"rotation_weight": 0.5, **options})

    def test_it_is_the_cross_entropy_of_the_turn_that_the_head_reads_from_the_features(
        self, turning
    ):
        turning(self.TURNS)
        algorithm = self.algorithm(rotation_weight=1.0)
        found = algorithm.loss(self.batch(), Says(), LATE).terms["rotation"]
        features = turned(self.squares(1), self.TURNS).flatten(1)[:, 3:]
        close(found, F.cross_entropy(algorithm.rotation(features), torch.tensor(self.TURNS)))

    def test_its_weight_is_a_half(self, turning):
        turning(self.TURNS)
        one, half = (
            self.algorithm(rotation_weight=w).loss(self.batch(), Says(), LATE).terms["rotation"]
            for w in (1.0, 0.5)
        )
        close(half, one / 2)

    def test_it_has_no_ramp(self, turning):
        turning(self.TURNS)
        first, late = (
            self.algorithm().loss(self.batch(), Says(), clock).terms["rotation"]
            for clock in (START, LATE)
        )
        assert torch.equal(first, late)

    def test_it_teaches_the_first_strong_view_alone(self):
        views = self.batch()
        term = self.algorithm().loss(views, Says(), LATE).terms["rotation"]
        (weak,), (first, second) = views.unlabeled.weak, views.unlabeled.strong
        assert gradient(term, first).any()
        assert gradient(term, second) is None
        assert gradient(term, weak) is None

    def test_it_teaches_the_head(self):
        algorithm = self.algorithm()
        algorithm.loss(self.batch(), Says(), LATE).terms["rotation"].backward()
        assert algorithm.rotation.weight.grad.any()

    def test_the_upright_view_is_anchored_and_not_the_turned_one(self, turning):
        turning(self.TURNS)
        views = self.batch()
        found = self.algorithm(anchor_weight=1.0).loss(views, Says(), LATE).terms["anchor"]
        weak, strong = (
            part[0].detach().flatten(1)[:, :3]
            for part in (views.unlabeled.weak, views.unlabeled.strong)
        )
        q = self.algorithm().align(weak.softmax(1))
        close(found, F.cross_entropy(strong, fn.sharpen(q, 0.5)))

    def test_upright_and_turned_view_share_a_pass(self):
        model = Says()
        self.algorithm().loss(self.batch(), model, LATE)
        assert model.sizes == [3, 2, 9, 6]

    def test_without_weight_the_term_is_dropped(self):
        found = self.algorithm(rotation_weight=0.0).loss(self.batch(), Says(), LATE)
        assert set(found.terms) == {"supervised", "mixed", "anchor"}

    def test_without_weight_its_pass_is_saved(self):
        model = Says()
        self.algorithm(rotation_weight=0.0).loss(self.batch(), model, LATE)
        assert model.sizes == [3, 2, 9, 3]

    def test_by_default_there_are_four_terms(self):
        found = ReMixMatch(problem_of(), Says()).loss(self.batch(), Says(), LATE)
        assert set(found.terms) == {"supervised", "mixed", "anchor", "rotation"}


class TestBatchNorm:
    def test_the_anchored_view_is_normalized_with_its_turned_copy(
        self, turning, problem, new_model, new_batch
    ):
        turns = [0, 1, 2, 3] * 3
        turning(turns)
        model = new_model().train()
        views = new_batch(ReMixMatch.views)
        twin = copy.deepcopy(model)
        algorithm = ReMixMatch(problem, model, rotation_weight=1.0)
        found = algorithm.loss(views, model, LATE).terms["rotation"]
        strong = views.unlabeled.strong[0]
        features = twin(torch.cat([strong, turned(strong, turns)])).features[12:]
        close(found, F.cross_entropy(algorithm.rotation(features), torch.tensor(turns)))
