from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.algorithms.adamatch import AdaMatch
from leaf_fer.types import Batch, Clock, Output, Views

from .saying import (
    KNOWN_STRONG,
    LATE,
    STRONG,
    Says,
    batch_of,
    close,
    logits_of,
    problem_of,
)

# spec 1.11 and 3.13
LABELED = [[0.9, 0.06, 0.04], [0.6, 0.3, 0.1]]
UNLABELED = [[0.85, 0.10, 0.05], [0.55, 0.40, 0.05], [0.15, 0.15, 0.70]]
WANTED = [0.333750, 0.333180, 0.333070]
SEEN = [0.516667, 0.216667, 0.266667]
ALIGNED = [
    [0.717462, 0.200935, 0.081603],
    [0.343988, 0.595547, 0.060465],
    [0.080621, 0.191920, 0.727459],
]


def make(**options) -> AdaMatch:
    return AdaMatch(problem_of(), Says(), **options)


def data(known=LABELED, **changes):
    """A batch whose labeled images say these probabilities in the weak view."""
    changes = {"known_strong": KNOWN_STRONG, **changes}
    return batch_of([logits_of(UNLABELED)], [STRONG], known=logits_of(known), **changes)


def run(algorithm: AdaMatch, batch, clock: Clock = LATE) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), clock).terms


def costs(labels: list[int]) -> Tensor:
    return F.cross_entropy(torch.tensor(STRONG), torch.tensor(labels), reduction="none")


class Crowded(nn.Module):
    """A network, as batch-norm makes one, that says other things to images that are alone."""

    width = 2

    def __init__(self, alone: list[float], among: list[float], few: int = 1) -> None:
        super().__init__()
        self.alone, self.among = (nn.Parameter(torch.tensor(v)) for v in (alone, among))
        self.few = few

    def forward(self, images: Tensor) -> Output:
        logits = self.alone if len(images) <= self.few else self.among
        return Output(images, logits.expand(len(images), 2))


class TestThreshold:
    @pytest.mark.parametrize(("threshold", "expected"), [(0.9, 0.675), (0.95, 0.7125)])
    def test_it_is_that_of_the_specification(self, threshold, expected):
        watch = make(threshold=threshold).loss(data(), Says(), LATE).watch
        close(watch["threshold"], expected)

    @pytest.mark.parametrize("threshold", [0.9, 0.95])
    def test_the_mask_is_that_of_the_specification(self, threshold):
        batch = data()
        objective = make(threshold=threshold).loss(batch, Says(), LATE)
        close(objective.watch["mask"], 2 / 3)
        objective.terms["pseudo"].backward()
        learns = batch.unlabeled.strong[0].grad.any(1)
        assert learns.tolist() == [True, False, True]

    def test_it_is_made_from_labeled_predictions_that_are_not_aligned(self):
        # Aligned ones would be more even, so the threshold lower.
        algorithm = make()
        for _ in range(3):
            algorithm.align(torch.tensor(LABELED))
        close(algorithm.loss(data(), Says(), LATE).watch["threshold"], 0.675)

    def test_it_knows_the_latest_batch_only(self):
        algorithm = make()
        for sure in ([[0.99, 0.005, 0.005]] * 2, [[0.4, 0.3, 0.3]] * 2):
            run(algorithm, data(sure))
        close(algorithm.loss(data(), Says(), LATE).watch["threshold"], 0.675)

    def test_it_comes_from_the_weak_view(self):
        one = make().loss(data(), Says(), LATE).watch["threshold"]
        other = data(known_strong=[[9, 0, 0], [0, 9, 0]])
        assert make().loss(other, Says(), LATE).watch["threshold"] == one

    def test_it_is_inclusive(self):
        # Says the same of both images, and alignment keeps equal shares equal.
        flat = batch_of([torch.zeros(2, 3)], [STRONG[:2]], known=torch.zeros(2, 3))
        algorithm = make(threshold=1.0, strong_labeled=False)
        assert algorithm.loss(flat, Says(), LATE).watch["mask"] == 1


class TestAlignment:
    def test_what_is_wanted_is_a_running_mean_of_labeled_predictions(self):
        algorithm = make()
        run(algorithm, data())
        torch.testing.assert_close(
            algorithm.expected.value, torch.tensor(WANTED), atol=1e-6, rtol=0
        )

    def test_what_is_seen_is_the_mean_of_unlabeled_predictions(self):
        algorithm = make()
        run(algorithm, data())
        close(algorithm.align.means[0], SEEN)

    def test_what_is_seen_is_a_mean_of_128_batches(self):
        assert len(make().align.means) == 128

    def test_aligned_predictions_are_those_of_the_specification(self):
        close(make().align(torch.tensor(UNLABELED), torch.tensor(WANTED)), ALIGNED)

    def test_labels_are_aligned_predictions(self):
        # The second image is most likely of class 0 before alignment.
        terms = run(make(threshold=0.7), data())
        close(terms["pseudo"], costs([0, 1, 2]).mean())

    def test_labels_follow_the_classes_that_are_wanted(self):
        # Labeled predictions of (0.75, 0.18, 0.07): every guess turns to class 0.
        terms = run(make(threshold=0.0, momentum=0.0), data())
        close(terms["pseudo"], costs([0, 0, 0]).mean())

    def test_equal_seen_and_wanted_shares_change_nothing(self):
        wanted = torch.tensor(UNLABELED).mean(0)
        close(make().align(torch.tensor(UNLABELED), wanted), UNLABELED)

    def test_its_state_carries_no_gradient(self):
        algorithm = make()
        run(algorithm, data())
        assert not any(b.requires_grad for b in algorithm.buffers())


class TestInterpolation:
    def pairs(self) -> Batch:
        """Two images in every view, of which a network of two classes is told nothing."""
        nothing = torch.zeros(2, 2)
        return batch_of([nothing], [nothing], known=nothing, target=[0, 1])

    def interpolated(self, labeled: int = 1, **options) -> Tensor:
        model = Crowded(alone=[0.0, 3.0], among=[1.0, 2.0], few=labeled)
        algorithm = AdaMatch(problem_of(2), model, strong_labeled=False, **options)
        x = batch_of([torch.zeros(1, 2)], known=torch.zeros(labeled, 2)).labeled
        known, _ = algorithm.outputs(model, x, torch.zeros(2, 2))
        return known[0]

    def test_it_gives_the_vector_of_the_specification(self, monkeypatch):
        shares = torch.tensor([[0.25, 0.5]])
        monkeypatch.setattr(torch, "rand_like", lambda logits: shares.to(logits.dtype))
        close(self.interpolated(), [[0.75, 2.5]])

    def test_every_logit_draws_a_share_of_its_own(self):
        torch.manual_seed(0)
        found = self.interpolated(labeled=50)
        shares = (found - torch.tensor([1.0, 2])) / torch.tensor([-1.0, 1])
        assert len(shares.flatten().unique()) > 90
        assert shares.min() >= -1e-6
        assert shares.max() <= 1 + 1e-6
        assert shares.min() < 0.1
        assert shares.max() > 0.9

    def test_without_it_logits_among_unlabeled_images_are_taken(self):
        close(self.interpolated(interpolate=False), [[1, 2]])

    def test_both_passes_learn(self):
        model = Crowded(alone=[0.0, 3.0], among=[1.0, 2.0], few=2)
        algorithm = AdaMatch(problem_of(2), model, strong_labeled=False)
        algorithm.loss(self.pairs(), model, LATE).terms["supervised"].backward()
        assert model.alone.grad.any()
        assert model.among.grad.any()

    def test_the_threshold_is_made_from_interpolated_predictions(self, monkeypatch):
        monkeypatch.setattr(torch, "rand_like", torch.ones_like)
        model = Crowded(alone=[0.0, 3.0], among=[1.0, 2.0], few=2)
        algorithm = AdaMatch(problem_of(2), model, strong_labeled=False, threshold=1.0)
        watch = algorithm.loss(self.pairs(), model, LATE).watch
        close(watch["threshold"], torch.tensor([0.0, 3.0]).softmax(0).max())

    def test_it_changes_nothing_where_a_crowd_changes_nothing(self):
        one, other = run(make(), data()), run(make(interpolate=False), data())
        assert all(torch.equal(one[k], other[k]) for k in one)

    def test_the_pass_of_labeled_images_alone_moves_no_statistics(self, new_model, new_batch):
        states = []
        for interpolate in (True, False):
            model = new_model().train()
            algorithm = AdaMatch(problem_of(4), model, interpolate=interpolate)
            algorithm.loss(new_batch(algorithm.views, 0), model, LATE)
            states.append(model.backbone[1].state_dict())
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
        assert states[0]["num_batches_tracked"] == 2

    @pytest.mark.parametrize(
        ("interpolate", "passes"), [(True, [False, True, True]), (False, [False, True])]
    )
    def test_it_costs_one_pass(self, interpolate, passes):
        model = Says()
        make(interpolate=interpolate).loss(data(), model, LATE)
        assert model.grad_enabled == passes


class TestStrongLabeledView:
    def test_the_labeled_term_is_the_mean_of_both_views(self):
        batch = data()
        weak, strong, y = batch.labeled.weak[0], batch.labeled.strong[0], batch.labeled.target
        both = F.cross_entropy(weak[:, :3], y) + F.cross_entropy(strong[:, :3], y)
        close(run(make(), batch)["supervised"], both / 2)

    def test_it_is_asked_for(self):
        assert make().views == AdaMatch.views == Views(labeled="ws", unlabeled="ws")

    def test_it_can_be_left_out(self):
        algorithm = make(strong_labeled=False)
        assert algorithm.views == Views(labeled="w", unlabeled="ws")
        assert AdaMatch.views == Views(labeled="ws", unlabeled="ws")

    def test_without_it_the_labeled_term_is_that_of_the_weak_view(self):
        without = data(known_strong=None)
        x = without.labeled
        expected = F.cross_entropy(x.weak[0][:, :3], x.target)
        close(run(make(strong_labeled=False), without)["supervised"], expected)

    def test_without_it_no_other_view_is_read(self, new_model, new_batch):
        # Views that are not declared raise when they are read: see conftest.py.
        model = new_model().train()
        algorithm = AdaMatch(problem_of(4), model, strong_labeled=False)
        assert algorithm.loss(new_batch(algorithm.views, 0), model, LATE).total.isfinite()


class TestRamp:
    @pytest.mark.parametrize(
        ("step", "share"),
        [(0, 0), (125, 0.146447), (250, 0.5), (375, 0.853553), (500, 1), (1000, 1)],
    )
    def test_it_has_the_values_of_the_specification(self, step, share):
        full = run(make(ramp=False), data())["pseudo"].item()
        close(run(make(), data(), Clock(step, 1000, 100))["pseudo"], share * full)

    def test_without_it_pseudo_labels_count_from_the_start(self):
        first = run(make(ramp=False), data(), Clock(0, 1000, 100))
        close(first["pseudo"], costs([0, 1, 2])[[0, 2]].sum() / 3)

    def test_it_leaves_the_labeled_term_as_it_is(self):
        first, last = (run(make(), data(), Clock(step, 1000, 100)) for step in (0, 1000))
        assert first["supervised"] == last["supervised"]


def test_its_defaults_are_those_of_the_paper():
    algorithm = make()
    assert (algorithm.threshold, algorithm.weight) == (0.9, 1)
    assert algorithm.expected.momentum == 0.999
    assert (algorithm.interpolate, algorithm.ramp) == (True, True)
