from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.freematch import FreeMatch

from .saying import START, Says, batch_of, close, logits_of, problem_of

# spec 3.15
Q = [[0.80, 0.15, 0.05], [0.55, 0.40, 0.05], [0.30, 0.30, 0.40], [0.45, 0.35, 0.20]]
STRONG = [[2, 1, 0.1], [0.5, 1.5, 0.2], [0.3, 0.9, 1.4], [1, 0.9, 0.2]]
CONFIDENCE = 0.441667
PREDICTION = [0.429167, 0.316667, 0.254167]
HISTOGRAM = [0.541667, 0.166667, 0.291667]
THRESHOLDS = [0.441667, 0.325890, 0.261570]
EXPECTED = [0.222325, 0.533148, 0.244527]
FOUND, FAIRNESS = [0.226933, 0.475171, 0.297896], -1.022560
FIRST_ROWS_FOUND, FIRST_ROWS_FAIRNESS = [0.508997, 0.491003, 0], -7.285892


def make(**options) -> FreeMatch:
    return FreeMatch(problem_of(), Says(), **{"momentum": 0.5, **options})


def moved(**options) -> FreeMatch:
    algorithm = make(**options)
    algorithm.thresholds(torch.tensor(Q))
    return algorithm


def strict(**options) -> FreeMatch:
    """A method that lets nothing pass."""
    algorithm = make(momentum=0.999, **options)
    algorithm.confidence.value.fill_(1.0)
    return algorithm


def data(q=Q, strong=STRONG):
    return batch_of([logits_of(q)], [strong])


def run(algorithm: FreeMatch, batch) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), START).terms


def strong_p(rows: slice = slice(None)) -> Tensor:
    return torch.tensor(STRONG)[rows].softmax(1)


def costs(labels: list[int]) -> Tensor:
    return F.cross_entropy(torch.tensor(STRONG), torch.tensor(labels), reduction="none")


class TestThresholds:
    def test_they_are_those_of_the_specification(self):
        close(make().thresholds(torch.tensor(Q)), THRESHOLDS)

    def test_running_means_are_those_of_the_specification(self):
        algorithm = moved()
        close(algorithm.confidence.value, CONFIDENCE)
        close(algorithm.prediction.value, PREDICTION)
        close(algorithm.histogram.value, HISTOGRAM)

    def test_running_means_start_equal(self):
        algorithm = make()
        close(algorithm.confidence.value, 1 / 3)
        close(algorithm.prediction.value, [1 / 3] * 3)
        close(algorithm.histogram.value, [1 / 3] * 3)

    def test_a_prediction_between_the_thresholds_of_two_classes_fails(self):
        probe = torch.tensor([[0.43, 0.30, 0.27], [0.27, 0.43, 0.30]])
        label, mask = fn.confident(probe, torch.tensor(THRESHOLDS))
        assert label.tolist() == [0, 1]
        assert mask.tolist() == [0, 1]

    def test_three_confident_steps_move_the_threshold_a_little(self):
        algorithm = FreeMatch(problem_of(7), Says(7), momentum=0.999)
        sure = torch.tensor([[0.9] + [0.1 / 6] * 6])
        for _ in range(3):
            threshold = algorithm.thresholds(sure)
        close(threshold.max(), 0.145126)

    def test_they_are_the_loop_of_the_definition(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make(momentum=0.7)
        confidence, prediction, histogram = 1 / 3, [1 / 3] * 3, [1 / 3] * 3
        for _ in range(5):
            q = (2 * torch.randn(6, 3, generator=generator)).softmax(1)
            rows = q.double().tolist()
            winners = [row.index(max(row)) for row in rows]
            confidence = 0.7 * confidence + 0.3 * sum(map(max, rows)) / 6
            prediction = [
                0.7 * v + 0.3 * sum(row[c] for row in rows) / 6 for c, v in enumerate(prediction)
            ]
            histogram = [0.7 * v + 0.3 * winners.count(c) / 6 for c, v in enumerate(histogram)]
            expected = [confidence * v / max(prediction) for v in prediction]
            close(algorithm.thresholds(q), expected)
            close(algorithm.histogram.value, histogram)


class TestFairness:
    @pytest.mark.parametrize(
        ("mask", "expected"), [([1.0] * 4, FAIRNESS), ([1.0, 1, 0, 0], FIRST_ROWS_FAIRNESS)]
    )
    def test_it_is_that_of_the_specification(self, mask, expected):
        close(moved().fairness(strong_p(), torch.tensor(mask)), expected)

    @pytest.mark.parametrize(
        ("found", "expected"), [(FOUND, FAIRNESS), (FIRST_ROWS_FOUND, FIRST_ROWS_FAIRNESS)]
    )
    def test_it_compares_the_distributions_of_the_specification(self, found, expected):
        total = sum(a * math.log(b + 1e-12) for a, b in zip(EXPECTED, found, strict=True))
        assert total == pytest.approx(expected, abs=1e-4)

    def test_masked_rows_take_no_part(self):
        found = moved().fairness(strong_p(), torch.tensor([1.0, 1, 0, 0]))
        close(found, moved().fairness(strong_p(slice(2)), torch.ones(2)))

    def test_it_is_largest_where_both_distributions_agree(self):
        certain = torch.eye(3)
        close(make().fairness(certain, torch.ones(3)), -math.log(3))
        for spread in (0.9, 0.6):
            p = spread * certain + (1 - spread) * torch.tensor([0.5, 0.3, 0.2])
            assert make().fairness(p, torch.ones(3)) < -math.log(3)

    def test_its_gradient_is_that_of_the_mean_prediction_alone(self):
        logits = torch.tensor(STRONG).double().requires_grad_()
        moved().double().fairness(logits.softmax(1), torch.ones(4).double()).backward()
        other = torch.tensor(STRONG).double().requires_grad_()
        ratio = other.softmax(1).mean(0) / torch.tensor([0.5, 0.25, 0.25])
        (torch.tensor(EXPECTED).double() @ (ratio / ratio.sum()).log()).backward()
        close(logits.grad.float(), other.grad)

    def test_a_class_without_predictions_leaves_the_gradient_finite(self):
        logits = torch.tensor(STRONG[:2]).requires_grad_()
        moved().fairness(logits.softmax(1), torch.ones(2)).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any()

    def test_a_class_that_never_came_counts_as_0(self):
        algorithm = make()
        algorithm.histogram.value.copy_(torch.tensor([0.5, 0.5, 0]))
        # norm(p / h) = (1, 1, 0) / 2; found = norm(mean / histogram)
        ratio = strong_p().mean(0) / torch.tensor([0.5, 0.25, 0.25])
        found = ratio / ratio.sum()
        close(algorithm.fairness(strong_p(), torch.ones(4)), found[:2].log().sum() / 2)

    def test_without_any_row_it_is_0_and_so_is_its_gradient(self):
        logits = torch.tensor(STRONG).requires_grad_()
        found = moved().fairness(logits.softmax(1), torch.zeros(4))
        found.backward()
        assert found == 0
        assert logits.grad.isfinite().all()
        assert not logits.grad.any()


class TestLoss:
    def test_all_images_of_the_specification_count(self):
        objective = make().loss(data(), Says(), START)
        assert objective.watch["mask"] == 1
        close(objective.watch["thresholds"], THRESHOLDS)
        close(objective.terms["pseudo"], costs([0, 0, 2, 0]).mean())

    def test_fairness_has_its_weight(self):
        close(run(make(), data())["fairness"], 0.01 * FAIRNESS)
        close(run(make(fairness_weight=1.0), data())["fairness"], FAIRNESS)

    def test_running_means_move_before_they_mask(self):
        # 0.45 passes the first threshold of 1/3, and not the one that the batch itself makes.
        q = [[0.9, 0.05, 0.05]] * 3 + [[0.45, 0.3, 0.25]]
        objective = make().loss(data(q), Says(), START)
        assert objective.watch["mask"] == 0.75

    def test_fairness_is_made_from_running_means_that_have_moved(self):
        algorithm = make(fairness_weight=1.0)
        run(algorithm, data())
        p, h = torch.tensor(PREDICTION), torch.tensor(HISTOGRAM)
        close(algorithm.prediction.value / algorithm.histogram.value, p / h)

    def test_fairness_counts_the_images_that_count(self):
        q = [[0.9, 0.05, 0.05]] * 3 + [[0.45, 0.3, 0.25]]
        algorithm = make(fairness_weight=1.0)
        found = run(algorithm, data(q))["fairness"]
        close(found, algorithm.fairness(strong_p(slice(3)), torch.ones(3)))

    def test_a_batch_that_is_masked_out_costs_nothing(self):
        batch = data()
        objective = strict().loss(batch, Says(), START)
        unlabeled = objective.terms["pseudo"] + objective.terms["fairness"]
        unlabeled.backward()
        assert objective.watch["mask"] == 0
        assert unlabeled == 0
        assert batch.unlabeled.strong[0].grad.isfinite().all()
        assert not batch.unlabeled.strong[0].grad.any()

    def test_no_gradient_reaches_the_running_means(self):
        algorithm = make()
        algorithm.loss(data(), Says(), START).total.backward()
        assert not any(b.requires_grad for b in algorithm.buffers())

    def test_running_means_can_move_before_the_gradient_is_taken(self):
        algorithm, batch = make(fairness_weight=1.0), data()
        terms = run(algorithm, batch)
        algorithm.thresholds(torch.tensor(Q[:1]))
        terms["fairness"].backward()
        assert batch.unlabeled.strong[0].grad.isfinite().all()


def test_its_defaults_are_those_of_the_specification():
    algorithm = FreeMatch(problem_of(), Says())
    assert (algorithm.weight, algorithm.fairness_weight) == (1, 0.01)
    assert algorithm.confidence.momentum == algorithm.histogram.momentum == 0.999
