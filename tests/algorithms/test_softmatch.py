from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.softmatch import SoftMatch

from .saying import START, Says, batch_of, close, logits_of, problem_of

# spec 3.16
CONFIDENCE = [0.8, 0.55, 0.4, 0.8]
NEXT, MEAN, VARIANCE, WEIGHTS = [0.80, 0.55, 0.40, 0.45], 0.441667, 0.515833, [1, 1, 0.993291, 1]
Q = [[0.8, 0.15, 0.05], [0.55, 0.4, 0.05], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]]
ALIGNED = [
    [0.724032, 0.143984, 0.131984],
    [0.491039, 0.378762, 0.130199],
    [0.168082, 0.178269, 0.653649],
    [0.080635, 0.684179, 0.235186],
]
STRONG = [[2, 1, 0.1], [0.5, 1.5, 0.2], [0.3, 0.9, 1.4], [1, 0.9, 0.2]]
# Alignment makes class 1 the most probable one of the first row.
TURNED = [[0.5, 0.4, 0.1], [0.7, 0.2, 0.1]]


def make(**options) -> SoftMatch:
    return SoftMatch(problem_of(), Says(), **{"momentum": 0.5, **options})


def about_to(mean: float, variance: float, confidence: Tensor, **options) -> SoftMatch:
    """A method whose running mean and variance are these once it has seen the confidences."""
    algorithm = make(**options)
    algorithm.mean.value.copy_(2 * mean - confidence.mean())
    algorithm.variance.value.copy_(2 * variance - confidence.var())
    return algorithm


def data(q=Q, strong=STRONG):
    return batch_of([logits_of(q)], [strong])


def run(algorithm: SoftMatch, batch) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), START).terms


def costs(labels: list[int]) -> Tensor:
    strong = torch.tensor(STRONG[: len(labels)])
    return F.cross_entropy(strong, torch.tensor(labels), reduction="none")


def gaussian(confidence: Tensor, mean: float, variance: float, n: float = 2.0) -> Tensor:
    """The weights, image by image, from their definition."""
    return torch.tensor(
        [
            math.exp(-((c - mean) ** 2) * n**2 / (2 * variance)) if c < mean else 1.0
            for c in confidence.tolist()
        ]
    )


class TestWeights:
    @pytest.mark.parametrize(
        ("num_deviations", "expected"),
        [(1.0, [1, 0.754840, 0.324652, 1]), (2.0, [1, 0.324652, 0.011109, 1])],
    )
    def test_they_are_those_of_the_specification(self, num_deviations, expected):
        confidence = torch.tensor(CONFIDENCE)
        algorithm = about_to(0.7, 0.04, confidence, num_deviations=num_deviations)
        close(algorithm.weights(confidence), expected)
        close(algorithm.mean.value, 0.7)
        close(algorithm.variance.value, 0.04)

    def test_running_means_are_those_of_the_specification(self):
        algorithm = make()
        algorithm.weights(torch.tensor(NEXT))
        close(algorithm.mean.value, MEAN)
        close(algorithm.variance.value, VARIANCE)

    def test_weights_after_an_update_are_those_of_the_specification(self):
        close(make().weights(torch.tensor(NEXT)), WEIGHTS)

    def test_running_means_start_at_1_over_c_and_1(self):
        close(make().mean.value, 1 / 3)
        close(make().variance.value, 1)

    def test_the_variance_is_unbiased(self):
        algorithm = make(momentum=0.0)
        algorithm.weights(torch.tensor([0.4, 0.8]))
        close(algorithm.variance.value, 0.08)

    def test_a_confidence_at_or_above_the_mean_has_weight_1(self):
        confidence = torch.tensor([0.5, 0.6, 0.4])
        weights = make(momentum=0.0).weights(confidence)
        assert weights[:2].tolist() == [1, 1]
        assert 0 < weights[2] < 1

    def test_one_image_leaves_the_variance_as_it_is(self):
        algorithm = make()
        assert algorithm.weights(torch.tensor([0.9])) == 1
        assert algorithm.variance.value == 1
        close(algorithm.mean.value, (1 / 3 + 0.9) / 2)

    def test_equal_confidences_stay_finite(self):
        algorithm = make(momentum=0.0)
        assert algorithm.weights(torch.full((4,), 0.5)).isfinite().all()

    def test_they_are_the_loop_of_the_definition(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make(momentum=0.8)
        mean, variance = 1 / 3, 1.0
        for _ in range(6):
            confidence = (torch.rand(5, generator=generator) + 0.5) / 1.5
            values = confidence.double().tolist()
            average = sum(values) / 5
            mean = 0.8 * mean + 0.2 * average
            variance = 0.8 * variance + 0.2 * sum((v - average) ** 2 for v in values) / 4
            close(algorithm.weights(confidence), gaussian(confidence.double(), mean, variance))


class TestAlignment:
    def test_it_gives_the_vector_of_the_specification(self):
        close(make().align(torch.tensor(Q)), ALIGNED)

    def test_equal_seen_and_wanted_shares_change_nothing(self):
        even = [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]]
        close(make().align(torch.tensor(even)), even)

    def test_it_decides_the_weights(self):
        algorithm = make(momentum=0.0)
        terms = run(algorithm, data())
        confidence = torch.tensor(ALIGNED).amax(1)
        weights = gaussian(confidence, confidence.mean().item(), confidence.var().item())
        assert not torch.allclose(weights, make(momentum=0.0).weights(torch.tensor(Q).amax(1)))
        close(terms["pseudo"], (weights * costs([0, 0, 2, 1])).mean())

    def test_it_does_not_decide_the_labels(self):
        algorithm = make()
        assert make().align(torch.tensor(TURNED))[0].argmax() == 1
        confidence = make().align(torch.tensor(TURNED)).amax(1)
        weights = make().weights(confidence)
        terms = run(algorithm, data(TURNED, STRONG[:2]))
        close(terms["pseudo"], (weights * costs([0, 0])).mean())


class TestLoss:
    def test_uncertain_images_count_less(self):
        batch = data()
        objective = make(momentum=0.0).loss(batch, Says(), START)
        objective.terms["pseudo"].backward()
        assert batch.unlabeled.strong[0].grad.any(1).all()
        assert 0 < objective.watch["mask"] < 1

    def test_a_batch_of_one_image_works(self):
        algorithm, batch = make(), data(Q[:1], STRONG[:1])
        total = algorithm.loss(batch, Says(), START).total
        total.backward()
        assert total.isfinite()
        assert all(b.isfinite().all() for b in algorithm.buffers())
        assert batch.unlabeled.strong[0].grad.isfinite().all()

    def test_no_gradient_reaches_the_weights(self):
        batch = data()
        algorithm = make()
        algorithm.loss(batch, Says(), START).total.backward()
        assert batch.unlabeled.weak[0].grad is None
        assert not any(b.requires_grad for b in algorithm.buffers())


def test_its_defaults_are_those_of_the_specification():
    algorithm = SoftMatch(problem_of(), Says())
    assert (algorithm.weight, algorithm.num_deviations) == (1, 2)
    assert algorithm.mean.momentum == algorithm.align.momentum == 0.999
    close(algorithm.align.target, [1 / 3] * 3)
