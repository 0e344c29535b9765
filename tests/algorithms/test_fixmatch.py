from __future__ import annotations

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

    def test_a_change_that_leaves_labels_and_mask_leaves_the_loss(self):
        moved = batch_of([torch.tensor(WEAK) + 1e-3 * torch.tensor([1.0, -1, 0])], [STRONG])
        assert torch.equal(make().loss(moved, Says(), LATE).terms["pseudo"], pseudo())
