from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from leaf_fer.algorithms.dash import Dash
from leaf_fer.algorithms.fixmatch import FixMatch
from leaf_fer.types import Batch, Clock, Objective

from .saying import (
    KNOWN,
    LATE,
    START,
    STRONG,
    TARGET,
    WEAK,
    Says,
    batch_of,
    close,
    gradient,
    problem_of,
    targets,
)

# spec 3.10, with a labeled loss of 1.2 after the warm-up
THRESHOLDS = [
    *(1.200120, 0.944976, 0.744076, 0.585887, 0.461328, 0.363250, 0.286024, 0.225216),
    *(0.177335, 0.139634, 0.109948, 0.086573, 0.068168, 0.053676, 0.05),
]
SOFT, HARD = [0.038658, 0.109722, 0.686654], [0.035976, 0.094923, 0.494947]
"""What the weak views cost with their own soft and hard labels."""
SUPERVISED = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))


def make(loss: float = 1.2, **options: object) -> Dash:
    """After a warm-up that ended with this labeled loss."""
    algorithm = Dash(problem_of(), Says(), **options)
    algorithm.labeled_loss.value.fill_(loss)
    return algorithm


def batch() -> Batch:
    return batch_of([WEAK], [STRONG])


def with_threshold(threshold: float, **options: object) -> Objective:
    """What a step of a run costs at which the threshold is this one."""
    algorithm = make(threshold, scale=1.0, num_steps=1, **options)
    return algorithm.loss(batch(), Says(), Clock(10, 100, 10))


class TestThreshold:
    @pytest.mark.parametrize(("k", "expected"), list(enumerate(THRESHOLDS)))
    def test_it_is_that_of_the_specification_in_the_middle_of_every_period(self, k, expected):
        close(make().threshold(0.1 + 0.9 * (k + 0.5) / 15), expected)

    def test_a_run_goes_through_the_sequence_of_the_specification(self):
        algorithm = make()
        steps = [Clock(k, 10_000, 10).progress for k in range(1_000, 10_000)]
        found = torch.stack([algorithm.threshold(progress) for progress in steps])
        close(found.unique().flip(0), THRESHOLDS)

    def test_it_falls_once_in_every_period(self):
        algorithm = make()
        found = torch.stack([algorithm.threshold(k / 10_000) for k in range(1_000, 10_000)])
        _, lengths = found.unique_consecutive(return_counts=True)
        assert lengths.tolist() == pytest.approx([600] * 15, abs=1)

    def test_it_stays_at_the_floor(self):
        algorithm = make(num_steps=50)
        close(algorithm.threshold(0.5), 0.05)
        close(algorithm.threshold(0.99), 0.05)

    def test_with_defaults_a_run_of_eight_classes_ends_near_the_floor(self):
        algorithm = Dash(problem_of(8), Says(8))
        close(algorithm.threshold(0.1), 1.0001 * math.log(8))
        close(algorithm.threshold(0.99), 1.0001 * math.log(8) / 1.27**14)

    def test_its_floor_can_be_chosen(self):
        close(make(floor=0.3).threshold(0.99), 0.3)

    def test_without_a_warmup_it_starts_with_the_run(self):
        close(make(burn_in=0.0).threshold(0.0), 1.200120)

    def test_it_is_watched(self):
        close(make().loss(batch(), Says(), LATE).watch["threshold"], THRESHOLDS[13])


class TestWarmup:
    CLOCK = Clock(9, 100, 10)

    def test_it_is_supervised_only(self):
        terms = Dash(problem_of(), Says()).loss(batch(), Says(), self.CLOCK).terms
        assert set(terms) == {"supervised"}
        close(terms["supervised"], SUPERVISED)

    def test_it_looks_at_labeled_images_only(self):
        model = Says()
        Dash(problem_of(), model).loss(batch(), model, self.CLOCK)
        assert model.sizes == [2]

    def test_it_ends_after_its_share_of_the_run(self):
        algorithm = Dash(problem_of(), Says())
        assert "pseudo" not in algorithm.loss(batch(), Says(), Clock(9, 100, 10)).terms
        assert "pseudo" in algorithm.loss(batch(), Says(), Clock(10, 100, 10)).terms

    def test_it_can_be_left_out(self):
        algorithm = Dash(problem_of(), Says(), burn_in=0.0)
        assert "pseudo" in algorithm.loss(batch(), Says(), START).terms

    def test_the_labeled_loss_starts_as_that_of_a_guess(self):
        close(Dash(problem_of(), Says()).labeled_loss.value, math.log(3))

    def test_it_remembers_the_labeled_loss(self):
        algorithm = make(2.0)
        algorithm.loss(batch(), Says(), self.CLOCK)
        close(algorithm.labeled_loss.value, 0.9 * 2 + 0.1 * SUPERVISED)

    def test_after_many_steps_the_start_is_forgotten(self):
        algorithm = make(2.0)
        for step in range(150):
            algorithm.loss(batch(), Says(), Clock(step, 2_000, 10))
        close(algorithm.labeled_loss.value, SUPERVISED)

    def test_after_it_the_labeled_loss_is_not_touched(self):
        algorithm = make(1.2)
        for step in (10, 50, 99):
            algorithm.loss(batch(), Says(), Clock(step, 100, 10))
            algorithm.after_step(Says())
        algorithm.after_epoch(Says(), [batch().labeled], LATE)
        assert algorithm.labeled_loss.value == torch.tensor(1.2)

    def test_what_is_remembered_carries_no_gradient(self):
        algorithm = make()
        algorithm.loss(batch(), Says(), self.CLOCK)
        assert not algorithm.labeled_loss.value.requires_grad


class TestSelection:
    """Masks and labels of the weak views at a threshold."""

    LOGITS = torch.tensor(WEAK)

    @pytest.mark.parametrize(
        ("threshold", "expected"), [(0.5, [1, 1, 0]), (0.1, [1, 0, 0]), (0.05, [1, 0, 0])]
    )
    def test_masks_are_those_of_the_specification(self, threshold, expected):
        _, mask = make().select(self.LOGITS, torch.tensor(threshold))
        assert mask.tolist() == expected

    @pytest.mark.parametrize(("threshold", "share"), [(0.5, 2 / 3), (0.1, 1 / 3), (0.05, 1 / 3)])
    def test_a_loss_has_the_masks_of_the_specification(self, threshold, share):
        close(with_threshold(threshold).watch["mask"], share)

    @pytest.mark.parametrize(("row", "cost"), list(enumerate(SOFT)))
    def test_a_soft_label_costs_what_the_specification_says(self, row, cost):
        for threshold, expected in ((cost - 1e-5, 0), (cost + 1e-5, 1)):
            _, mask = make(floor=0.01).select(self.LOGITS, torch.tensor(threshold))
            assert mask[row] == expected

    @pytest.mark.parametrize(("row", "cost"), list(enumerate(HARD)))
    def test_a_hard_label_costs_what_the_specification_says(self, row, cost):
        for threshold, expected in ((cost - 1e-5, 0), (cost + 1e-5, 1)):
            _, mask = make(floor=threshold).select(self.LOGITS, torch.tensor(threshold))
            assert mask[row] == expected

    def test_above_the_floor_labels_are_soft(self):
        label, _ = make().select(self.LOGITS, torch.tensor(0.051))
        close(label, (self.LOGITS / 0.5).softmax(1))

    @pytest.mark.parametrize("floor", [0.05, 0.07, 0.1, 0.3])
    def test_at_the_floor_labels_are_hard(self, floor):
        algorithm = make(floor=floor)
        label, _ = algorithm.select(self.LOGITS, make(floor=floor, num_steps=50).threshold(0.99))
        assert label.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]

    def test_a_temperature_softens_the_labels(self):
        label, _ = make(temperature=2.0).select(self.LOGITS, torch.tensor(0.5))
        close(label, (self.LOGITS / 2).softmax(1))


class TestPseudoLabels:
    def test_soft_labels_teach_the_strong_view(self):
        target = (torch.tensor(WEAK) / 0.5).softmax(1)
        cost = -(target * torch.tensor(STRONG).log_softmax(1)).sum(1)
        close(with_threshold(0.5).terms["pseudo"], (cost[0] + cost[1]) / 3)

    def test_their_targets_are_sharpened(self):
        views = batch()
        algorithm = make(5.0, scale=1.0)
        term = algorithm.loss(views, Says(), Clock(10, 100, 10)).terms["pseudo"]
        expected = (torch.tensor(WEAK) / 0.5).softmax(1)
        close(targets(term, views.unlabeled.strong[0]), expected)

    def test_hard_labels_teach_the_strong_view(self):
        close(with_threshold(0.05).terms["pseudo"], 0.417030 / 3)

    def test_a_weight_multiplies_the_term(self):
        close(with_threshold(0.05, weight=3.0).terms["pseudo"], 0.417030)

    def test_at_the_floor_it_is_fixmatch_with_the_confidence_of_the_floor(self):
        generator = torch.Generator().manual_seed(0)
        weak, strong = (3 * torch.randn(200, 3, generator=generator) for _ in range(2))
        views = batch_of([weak], [strong])
        algorithm = make(num_steps=50)
        found = algorithm.loss(views, Says(), LATE)
        fixmatch = FixMatch(problem_of(), Says(), threshold=math.exp(-0.05))
        expected = fixmatch.loss(views, Says(), LATE)
        assert 0 < found.watch["mask"] < 1
        assert torch.equal(found.watch["mask"], expected.watch["mask"])
        close(found.terms["pseudo"], expected.terms["pseudo"])

    @pytest.mark.parametrize("threshold", [0.5, 0.05])
    def test_only_the_strong_view_of_selected_samples_is_taught(self, threshold):
        views = batch()
        algorithm = make(threshold, scale=1.0)
        term = algorithm.loss(views, Says(), Clock(10, 100, 10)).terms["pseudo"]
        assert gradient(term, views.unlabeled.weak[0]) is None
        found = gradient(term, views.unlabeled.strong[0])
        assert found[0].any()
        assert not found[2].any()
