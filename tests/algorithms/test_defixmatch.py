from __future__ import annotations

import torch
import torch.nn.functional as F

from leaf_fer.algorithms.defixmatch import DeFixMatch
from leaf_fer.types import Batch, Objective

from .saying import (
    KNOWN_STRONG,
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

SUPERVISED, UNLABELED, LABELED, TOTAL = 0.925532, 0.637326, 0.322956, 1.082717
"""Spec 3.9, with a threshold of 0.8."""


def make(**options: object) -> DeFixMatch:
    return DeFixMatch(problem_of(), Says(), **{"threshold": 0.8, **options})


def batch() -> Batch:
    return batch_of([WEAK], [STRONG], known_strong=KNOWN_STRONG)


def objective(**options: object) -> Objective:
    return make(**options).loss(batch(), Says(), LATE)


def with_equal_batches() -> Batch:
    """The labeled images are the unlabeled ones."""
    return batch_of([WEAK], [STRONG], known=WEAK, known_strong=STRONG, target=[2, 1, 0])


class TestRisk:
    def test_its_total_is_that_of_the_specification(self):
        close(objective().total, TOTAL)

    def test_its_labeled_term_is_that_of_the_specification(self):
        close(objective().terms["supervised"], SUPERVISED)

    def test_its_difference_is_that_of_the_specification(self):
        close(objective(weight=1.0).terms["pseudo"], UNLABELED - LABELED)

    def test_one_of_two_labeled_samples_is_confident(self):
        # Without confident unlabeled samples only the labeled term is left.
        views = batch_of([[[0, 0, 0]]], [[[0, 0, 0]]], known_strong=KNOWN_STRONG)
        close(make(weight=1.0).loss(views, Says(), LATE).terms["pseudo"], -LABELED)

    def test_its_weight_is_a_half(self):
        assert DeFixMatch(problem_of(), Says()).weight == 0.5
        close(objective().terms["pseudo"], 0.5 * (UNLABELED - LABELED))

    def test_its_threshold_is_that_of_fixmatch(self):
        assert DeFixMatch(problem_of(), Says()).threshold == 0.95

    def test_the_labels_play_no_part_in_the_difference(self):
        views = batch_of([WEAK], [STRONG], known_strong=KNOWN_STRONG, target=[1, 1])
        found = make().loss(views, Says(), LATE).terms["pseudo"]
        assert torch.equal(found, objective().terms["pseudo"])

    def test_the_watched_mask_is_that_of_the_unlabeled_images(self):
        close(objective().watch["mask"], 2 / 3)

    def test_there_is_no_ramp(self):
        assert torch.equal(make().loss(batch(), Says(), START).total, objective().total)


class TestIdentities:
    def test_with_equal_batches_it_is_supervised(self):
        views = with_equal_batches()
        found = make(threshold=0.5).loss(views, Says(), LATE)
        assert found.terms["pseudo"] == 0
        target = views.labeled.target
        weak, strong = (F.cross_entropy(torch.tensor(rows), target) for rows in (WEAK, STRONG))
        close(found.total, (weak + strong) / 2)

    def test_with_equal_batches_its_gradient_is_supervised(self):
        views, model = with_equal_batches(), Says()
        (found,) = torch.autograd.grad(make().loss(views, model, LATE).total, model.scale)
        twin = Says()
        cost = [
            F.cross_entropy(twin(torch.tensor(rows)).logits, views.labeled.target)
            for rows in (WEAK, STRONG)
        ]
        close(found, torch.autograd.grad((cost[0] + cost[1]) / 2, twin.scale)[0])

    def test_its_total_may_be_negative(self):
        # Sure and right in the weak labeled view, sure and wrong in the strong one.
        views = batch_of(
            [[[0, 0, 0]]], [[[0, 0, 0]]], known=[[9, 0, 0]], known_strong=[[0, 9, 0]], target=[0]
        )
        found = make(weight=1.0).loss(views, Says(), LATE)
        close(found.total, (0.000247 - 9.000247) / 2)

    def test_without_weight_it_is_supervised(self):
        close(objective(weight=0.0).total, SUPERVISED)


class TestGradient:
    def test_the_difference_teaches_both_strong_views_alone(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["pseudo"]
        x, u = views.labeled, views.unlabeled
        assert gradient(term, u.weak[0]) is None
        assert not gradient(term, x.weak[0]).any()
        assert gradient(term, u.strong[0])[:2].any(1).all()
        assert gradient(term, x.strong[0])[0].any()

    def test_samples_that_are_not_confident_have_no_gradient(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["pseudo"]
        assert not gradient(term, views.unlabeled.strong[0])[2].any()
        assert not gradient(term, views.labeled.strong[0])[1].any()

    def test_labeled_images_are_pushed_away_from_their_pseudo_labels(self):
        views = batch()
        term = make(weight=1.0).loss(views, Says(), LATE).terms["pseudo"]
        p = torch.tensor(KNOWN_STRONG).softmax(1)
        expected = -(p[0] - torch.tensor([1.0, 0, 0])) / 2
        close(gradient(term, views.labeled.strong[0])[0], expected)

    def test_both_labeled_views_are_taught_their_label(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["supervised"]
        assert gradient(term, views.labeled.weak[0]).any(1).all()
        assert gradient(term, views.labeled.strong[0]).any(1).all()
