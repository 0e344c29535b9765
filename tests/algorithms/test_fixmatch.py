from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.fixmatch import FixMatch
from leaf_fer.types import Objective

from .saying import (
    KNOWN,
    LATE,
    START,
    STRONG,
    TARGET,
    WEAK,
    Says,
    ambiguous,
    batch_of,
    close,
    gradient,
    problem_of,
)

# spec 0.3: what the strong views cost with the labels of the weak ones
COSTS = [0.417030, 1.494947, 0.599574]


def make(**options: object) -> FixMatch:
    return FixMatch(problem_of(), Says(), **options)


def objective(**options: object) -> Objective:
    return make(**options).loss(batch_of([WEAK], [STRONG]), Says(), LATE)


def pseudo(**options: object) -> Tensor:
    return objective(**options).terms["pseudo"]


class TestPseudoLabels:
    def test_they_give_the_vector_of_the_specification(self):
        close(pseudo(), 0.139010)

    def test_the_mean_is_over_the_whole_batch(self):
        close(pseudo(threshold=0.8), (COSTS[0] + COSTS[1]) / 3)

    def test_one_of_three_is_confident(self):
        close(objective().watch["mask"], 1 / 3)

    def test_without_a_threshold_every_pseudo_label_counts(self):
        close(pseudo(threshold=0.0), sum(COSTS) / 3)
        assert objective(threshold=0.0).watch["mask"] == 1

    def test_the_threshold_is_inclusive(self):
        confidence = torch.tensor(WEAK).softmax(1)[1].max().item()
        close(objective(threshold=confidence).watch["mask"], 2 / 3)

    def test_a_batch_without_confident_samples_costs_nothing(self):
        batch = batch_of([WEAK], [STRONG])
        term = make(threshold=0.99).loss(batch, Says(), LATE).terms["pseudo"]
        assert term == 0
        assert not gradient(term, batch.unlabeled.strong[0]).any()

    def test_a_weight_multiplies_the_term(self):
        close(pseudo(weight=3.0), 3 * 0.139010)

    def test_there_is_no_ramp(self):
        batch = batch_of([WEAK], [STRONG])
        assert torch.equal(make().loss(batch, Says(), START).terms["pseudo"], pseudo())

    def test_the_labeled_term_is_the_mean_cross_entropy(self):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(objective().terms["supervised"], expected)

    def test_the_total_is_the_sum_of_both_terms(self):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(objective().total, expected + 0.139010)


class TestGradient:
    def test_only_the_strong_view_of_confident_samples_is_taught(self):
        batch = batch_of([WEAK], [STRONG])
        found = gradient(
            make().loss(batch, Says(), LATE).terms["pseudo"], batch.unlabeled.strong[0]
        )
        p = torch.tensor(STRONG).softmax(1)
        close(found[0], (p[0] - torch.tensor([1.0, 0, 0])) / 3)
        assert not found[1:].any()

    def test_the_weak_view_has_no_gradient(self):
        batch = batch_of([WEAK], [STRONG])
        term = make().loss(batch, Says(), LATE).terms["pseudo"]
        assert gradient(term, batch.unlabeled.weak[0]) is None

    def test_a_change_that_leaves_labels_and_mask_leaves_the_loss(self):
        moved = batch_of([torch.tensor(WEAK) + 1e-3 * torch.tensor([1.0, -1, 0])], [STRONG])
        assert torch.equal(make().loss(moved, Says(), LATE).terms["pseudo"], pseudo())

    def test_the_weak_view_has_a_pass_of_its_own_without_gradient(self):
        model = Says()
        make().loss(batch_of([WEAK], [STRONG]), model, LATE)
        assert model.sizes == [3, 5]
        assert model.grad_enabled == [False, True]

    def test_both_passes_move_batch_norm_statistics(self, problem, new_model, new_batch):
        model = new_model().train()
        FixMatch(problem, model).loss(new_batch(FixMatch.views), model, LATE)
        assert model.backbone[1].num_batches_tracked == 2


class TestCategory:
    def test_by_default_there_is_none(self):
        assert set(objective().terms) == {"supervised", "pseudo"}

    def test_it_replaces_the_pseudo_labels(self):
        terms = objective(category="replace").terms
        assert set(terms) == {"supervised", "category"}
        close(terms["category"], ambiguous(STRONG, WEAK, (1.0, 0.0, 0.0)))

    def test_it_has_mask_and_weight_of_the_method(self):
        terms = objective(category="replace", weight=2.0, threshold=0.5).terms
        close(terms["category"], 2 * ambiguous(STRONG, WEAK, (1.0, 1.0, 1.0)))

    def test_it_can_be_added(self):
        terms = objective(category="add", mass=0.97).terms
        assert set(terms) == {"supervised", "pseudo", "category"}
        close(terms["pseudo"], 0.139010)
        close(terms["category"], ambiguous(STRONG, WEAK, (1.0, 0.0, 0.0), 0.97))

    @pytest.mark.parametrize("threshold", [0.0, 0.8, 0.95])
    def test_without_mass_it_is_the_cross_entropy_with_the_pseudo_label(self, threshold):
        terms = objective(category="replace", mass=0.0, threshold=threshold).terms
        close(terms["category"], pseudo(threshold=threshold))

    def test_only_the_strong_view_is_taught(self):
        batch = batch_of([WEAK], [STRONG])
        term = make(category="replace", mass=0.97).loss(batch, Says(), LATE).terms["category"]
        assert gradient(term, batch.unlabeled.weak[0]) is None
        found = gradient(term, batch.unlabeled.strong[0])
        assert found[0].any()
        assert not found[1:].any()
