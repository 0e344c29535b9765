from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.uda import UDA
from leaf_fer.types import Clock, Objective

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

END = Clock(100, 100, 10)


def make(**options: object) -> UDA:
    return UDA(problem_of(), Says(), **options)


def objective(clock: Clock = LATE, **options: object) -> Objective:
    return make(**options).loss(batch_of([WEAK], [STRONG]), Says(), clock)


def of_row(row: int, **options: object) -> Tensor:
    """What one sample costs if it counts."""
    batch = batch_of([WEAK[row : row + 1]], [STRONG[row : row + 1]])
    return make(threshold=0.0, **options).loss(batch, Says(), LATE).terms["pseudo"]


class TestTargets:
    def test_they_give_the_vector_of_the_specification(self):
        close(objective().terms["pseudo"], 0.637241)

    def test_the_divergence_is_smaller_by_the_entropy_of_the_targets(self):
        mask = torch.tensor([1.0, 1, 0])
        target = (torch.tensor(WEAK) / 0.4).softmax(1)
        entropy = (mask * -(target * target.log()).sum(1)).mean()
        close(objective().terms["pseudo"] - entropy, 0.633777)

    @pytest.mark.parametrize(("row", "expected"), [(0, 0.417162), (1, 1.494560), (2, 0.688486)])
    def test_every_sample_costs_what_the_specification_says(self, row, expected):
        close(of_row(row), expected)

    def test_they_are_those_of_the_specification(self):
        batch = batch_of([WEAK], [STRONG])
        term = make(threshold=0.0).loss(batch, Says(), LATE).terms["pseudo"]
        expected = [[0.999909, 0.000045, 0.000045], [0.998895, 0.000552, 0.000552]]
        close(targets(term, batch.unlabeled.strong[0])[:2], expected)

    def test_temperature_1_gives_the_toolkits_vector(self):
        close(objective(temperature=1.0).terms["pseudo"], 0.643840)

    @pytest.mark.parametrize(("row", "expected"), [(0, 0.468268), (1, 1.463252)])
    def test_every_sample_costs_what_the_toolkit_says(self, row, expected):
        close(of_row(row, temperature=1.0), expected)

    def test_the_mask_is_made_before_sharpening(self):
        assert (torch.tensor(WEAK[2]) / 0.4).softmax(0).max() > 0.8
        close(objective().watch["mask"], 2 / 3)

    def test_a_weight_multiplies_the_term(self):
        close(objective(weight=3.0).terms["pseudo"], 3 * 0.637241)

    def test_there_is_no_ramp(self):
        assert torch.equal(objective(START).terms["pseudo"], objective(LATE).terms["pseudo"])

    def test_only_the_strong_view_of_confident_samples_is_taught(self):
        batch = batch_of([WEAK], [STRONG])
        term = make().loss(batch, Says(), LATE).terms["pseudo"]
        assert gradient(term, batch.unlabeled.weak[0]) is None
        found = gradient(term, batch.unlabeled.strong[0])
        assert found[:2].abs().amax(1).gt(0).all()
        assert not found[2].any()


class TestAnnealing:
    """Of two labeled images, the network is sure of the first, and wrong about the second."""

    def supervised(self, clock: Clock, **options: object) -> Tensor:
        return objective(clock, **options).terms["supervised"]

    @pytest.mark.parametrize(
        ("annealing", "expected"),
        [
            ("linear", [0.142857, 0.571429, 1]),
            ("logarithmic", [0.142857, 0.929641, 0.994225]),
            ("exponential", [0.148633, 0.213216, 1]),
        ],
    )
    def test_its_bounds_are_those_of_the_specification(self, annealing, expected):
        algorithm = UDA(problem_of(7), Says(7), annealing=annealing)
        close(torch.tensor([algorithm.released(a) for a in (0.0, 0.5, 1.0)]), expected)

    def test_by_default_all_labeled_images_count(self):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(self.supervised(START), expected)

    def test_images_that_the_network_is_sure_of_are_left_out_of_the_mean(self):
        expected = F.cross_entropy(torch.tensor(KNOWN[1:]), torch.tensor(TARGET[1:]))
        close(self.supervised(START, annealing="linear"), expected)

    def test_images_that_are_left_out_have_no_gradient(self):
        batch = batch_of([WEAK], [STRONG])
        term = make(annealing="linear").loss(batch, Says(), START).terms["supervised"]
        found = gradient(term, batch.labeled.weak[0])
        assert not found[0].any()
        assert found[1].any()

    def test_the_confidence_is_that_of_the_true_class(self):
        p = torch.tensor(KNOWN).softmax(1)
        assert p[1].max() > 1 / 3 > p[1, TARGET[1]]
        assert self.supervised(START, annealing="linear") > 1

    @pytest.mark.parametrize("annealing", ["linear", "exponential"])
    def test_at_the_end_all_labeled_images_count(self, annealing):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(self.supervised(END, annealing=annealing), expected)

    def test_a_batch_without_released_images_costs_nothing(self):
        batch = batch_of([WEAK], [STRONG], target=[0, 1])
        term = make(annealing="linear").loss(batch, Says(), START).terms["supervised"]
        assert term == 0
        assert not gradient(term, batch.labeled.weak[0]).any()

    def test_the_mean_is_over_the_images_that_count(self):
        batch = batch_of([WEAK], [STRONG], known=[*KNOWN, [0, 1, 0]], target=[0, 2, 0])
        term = make(annealing="linear").loss(batch, Says(), START).terms["supervised"]
        close(term, F.cross_entropy(torch.tensor([KNOWN[1], [0, 1, 0]]), torch.tensor([2, 0])))
