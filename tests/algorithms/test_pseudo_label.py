from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leaf_fer.algorithms.pseudo_label import PseudoLabel
from leaf_fer.types import Clock, Objective

from .saying import (
    LATE,
    START,
    WEAK,
    Says,
    batch_of,
    close,
    gradient,
    problem_of,
)

LATER = {"threshold": 0.95, "weight": 1.0, "ramp_start": 0.0, "ramp_end": 0.4}
"""The options of later evaluations, which the vectors of the specification are made with."""


def make(**options: object) -> PseudoLabel:
    return PseudoLabel(problem_of(), Says(), **{**LATER, **options})


def objective(clock: Clock = LATE, **options: object) -> Objective:
    return make(**options).loss(batch_of([WEAK]), Says(), clock)


def pseudo(clock: Clock = LATE, **options: object) -> Tensor:
    return objective(clock, **options).terms["pseudo"]


class TestPseudoLabels:
    def test_they_give_the_vector_of_the_specification(self):
        close(pseudo(), 0.011992)

    @pytest.mark.parametrize(("row", "expected"), list(enumerate([0.035976, 0.094923, 0.494947])))
    def test_every_sample_costs_what_the_specification_says(self, row, expected):
        found = make(threshold=0.0).loss(batch_of([WEAK[row : row + 1]]), Says(), LATE)
        close(found.terms["pseudo"], expected)

    def test_one_of_three_is_confident(self):
        close(objective().watch["mask"], 1 / 3)

    def test_without_a_threshold_all_count(self):
        close(pseudo(threshold=0.0), (0.035976 + 0.094923 + 0.494947) / 3)

    def test_the_threshold_is_inclusive(self):
        confidence = torch.tensor(WEAK).softmax(1)[1].max().item()
        close(objective(threshold=confidence).watch["mask"], 2 / 3)

    def test_a_weight_multiplies_the_term(self):
        close(pseudo(weight=3.0), 3 * 0.011992)

    def test_their_gradient_is_that_of_a_constant_label(self):
        batch = batch_of([WEAK])
        found = gradient(make().loss(batch, Says(), LATE).terms["pseudo"], batch.unlabeled.weak[0])
        p = torch.tensor(WEAK).softmax(1)
        close(found[0], (p[0] - torch.tensor([1.0, 0, 0])) / 3)

    def test_masked_samples_have_no_gradient(self):
        batch = batch_of([WEAK])
        found = gradient(make().loss(batch, Says(), LATE).terms["pseudo"], batch.unlabeled.weak[0])
        assert not found[1:].any()

    def test_label_and_prediction_come_from_one_pass(self):
        model = Says()
        make().loss(batch_of([WEAK]), model, LATE)
        assert model.sizes == [2, 3]
        assert model.grad_enabled == [True, True]


class TestRamp:
    @pytest.mark.parametrize(("step", "share"), [(0, 0), (10, 0.25), (40, 1), (90, 1)])
    def test_later_evaluations_grow_from_the_first_step(self, step, share):
        close(pseudo(Clock(step, 100, 10)), share * 0.011992)

    @pytest.mark.parametrize(
        ("step", "share"), [(0, 0), (10, 0), (35, 0.5), (60, 1), (61, 1), (99, 1)]
    )
    def test_the_paper_waits_and_then_grows_to_3(self, step, share):
        algorithm = PseudoLabel(problem_of(), Says())
        found = algorithm.loss(batch_of([WEAK]), Says(), Clock(step, 100, 10)).terms["pseudo"]
        close(found, 3 * share * (0.035976 + 0.094923 + 0.494947) / 3)

    @pytest.mark.parametrize(("step", "share"), [(0, 0), (49, 0), (50, 1), (51, 1)])
    def test_a_ramp_that_ends_where_it_starts_is_a_step(self, step, share):
        found = pseudo(Clock(step, 100, 10), ramp_start=0.5, ramp_end=0.5)
        close(found, share * 0.011992)

    def test_a_ramp_that_ends_with_the_start_of_the_run_is_none(self):
        close(pseudo(START, ramp_start=0.0, ramp_end=0.0), 0.011992)

    def test_a_ramp_that_ends_before_it_starts_is_refused(self):
        with pytest.raises(ValueError, match=r"ramp_start <= ramp_end, got 0\.5 and 0\.4"):
            make(ramp_start=0.5, ramp_end=0.4)
