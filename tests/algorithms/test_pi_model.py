from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.pi_model import PiModel
from leaf_fer.types import Clock, Output

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
)


class Forgetful(Says):
    """Drops half of what it is told."""

    def forward(self, images: Tensor) -> Output:
        return super().forward(F.dropout(images, 0.5, self.training))


def make(**options: object) -> PiModel:
    return PiModel(problem_of(), Says(), **options)


def consistency(clock: Clock = LATE, rows: slice = slice(None), **options: object) -> Tensor:
    batch = batch_of([WEAK[rows], STRONG[rows]])
    return make(**options).loss(batch, Says(), clock).terms["consistency"]


class TestConsistency:
    def test_it_gives_the_vector_of_the_specification(self):
        close(consistency(weight=1.0), 0.106991)

    @pytest.mark.parametrize(("row", "expected"), list(enumerate([0.050164, 0.267515, 0.003293])))
    def test_every_sample_costs_what_the_specification_says(self, row, expected):
        close(consistency(weight=1.0, rows=slice(row, row + 1)), expected)

    def test_a_quarter_of_the_ramp_gives_the_vector_of_the_specification(self):
        share = 1 - math.sqrt(math.log(4) / 5)
        clock = Clock(round(share * 10**7), 10**7, 10)
        close(consistency(clock, ramp=1.0), 0.26748)

    @pytest.mark.parametrize(
        ("step", "share"),
        [(0, 0.006738), (10, 0.060055), (20, 0.286505), (40, 1.0), (90, 1.0)],
    )
    def test_its_weight_grows_as_a_gaussian(self, step, share):
        found = consistency(Clock(step, 100, 10), ramp=0.4, weight=1.0)
        close(found, share * 0.106991)

    def test_its_ramp_ends_after_80_of_300_epochs(self):
        close(consistency(Clock(80, 300, 1)), 1.06991)
        assert consistency(Clock(79, 300, 1)) < consistency(Clock(80, 300, 1))

    def test_without_a_ramp_it_counts_from_the_first_step(self):
        close(consistency(START, ramp=0.0, weight=1.0), 0.106991)

    def test_equal_predictions_cost_nothing(self):
        batch = batch_of([WEAK, WEAK])
        assert make().loss(batch, Says(), LATE).terms["consistency"] == 0


class TestGradient:
    def pulls(self, **options: object) -> list[Tensor | None]:
        batch = batch_of([WEAK, STRONG])
        term = make(**options).loss(batch, Says(), LATE).terms["consistency"]
        return [gradient(term, images) for images in batch.unlabeled.weak]

    def test_it_teaches_the_second_view_alone(self):
        first, second = self.pulls()
        assert first is None
        assert second.abs().amax(1).gt(0).all()

    def test_it_teaches_both_views_if_it_is_symmetric(self):
        first, second = self.pulls(symmetric=True)
        assert first.abs().amax(1).gt(0).all()
        assert second.abs().amax(1).gt(0).all()

    def test_the_second_view_is_taught_the_same_if_it_is_symmetric(self):
        close(self.pulls(symmetric=True)[1], self.pulls()[1])

    def test_a_symmetric_loss_is_as_large(self):
        assert torch.equal(consistency(symmetric=True), consistency())

    @pytest.mark.parametrize("symmetric", [False, True])
    def test_only_the_second_view_needs_a_graph(self, symmetric):
        model = Says()
        make(symmetric=symmetric).loss(batch_of([WEAK, STRONG]), model, LATE)
        assert model.grad_enabled == [True, symmetric, True]


class TestPasses:
    def test_the_labeled_term_is_the_mean_cross_entropy(self):
        terms = make().loss(batch_of([WEAK, STRONG]), Says(), LATE).terms
        close(terms["supervised"], F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET)))

    def test_there_are_two_terms(self):
        assert set(make().loss(batch_of([WEAK, STRONG]), Says(), LATE).terms) == {
            "supervised",
            "consistency",
        }

    def test_every_view_is_a_pass_of_its_own(self):
        model = Says()
        make().loss(batch_of([WEAK, STRONG]), model, LATE)
        assert model.sizes == [2, 3, 3]

    def test_dropout_is_drawn_anew_for_each_view(self):
        torch.manual_seed(0)
        batch = batch_of([WEAK, WEAK])
        objective = PiModel(problem_of(), Forgetful()).loss(batch, Forgetful(), LATE)
        assert objective.terms["consistency"] > 0

    def test_unlabeled_images_are_normalized_among_themselves(self, problem, new_model, new_batch):
        model = new_model().train()
        batch = new_batch(PiModel.views)
        found = PiModel(problem, model, weight=1.0).loss(batch, model, LATE).terms["consistency"]
        q, p = (model(images).probabilities for images in batch.unlabeled.weak)
        close(found, (p - q).square().mean())
