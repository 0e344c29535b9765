from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithms.adacm import AdaCM
from leaf_fer.types import Clock, Labeled, Views

from .saying import (
    KNOWN,
    START,
    STRONG,
    Says,
    batch_of,
    close,
    logits_of,
    problem_of,
    view,
)

# spec 3.17
FIRST = [[1, 0.5, 0.1], [0.4, 1, 0.3], [0.2, 0.6, 1]]
SECOND = [[0.9, 0.6, 0.3], [0.5, 1, 0.2], [0.6, 0.5, 1]]

# Means over both weak views: 0.9 of class 0, 0.7 of class 1, 0.8 of class 2, which is the margin.
GUESSES = [
    [[0.95, 0.03, 0.02], [0.20, 0.75, 0.05], [0.12, 0.08, 0.80]],
    [[0.85, 0.10, 0.05], [0.30, 0.65, 0.05], [0.12, 0.08, 0.80]],
]
BELIEF = [[0.90, 0.065, 0.035], [0.25, 0.70, 0.05], [0.12, 0.08, 0.80]]
MASK = [1.0, 0, 1]


def make(**options) -> AdaCM:
    algorithm = AdaCM(problem_of(), Says(), **options)
    if "floor" not in options:
        # Just below what the third image says, which rounds either way.
        algorithm.thresholds.threshold.fill_(0.8 - 1e-6)
    return algorithm


def data():
    weak = [
        view(logits_of(guess), features)
        for guess, features in zip(GUESSES, (FIRST, SECOND), strict=True)
    ]
    known = view(KNOWN, torch.ones(2, 3))
    return batch_of(weak, [view(STRONG, torch.ones(3, 3))], known=known)


def run(algorithm: AdaCM, batch) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), START).terms


def costs(labels: list[int]) -> Tensor:
    return F.cross_entropy(torch.tensor(STRONG), torch.tensor(labels), reduction="none")


class TestThresholds:
    def labeled(self, confidence: float) -> list[Labeled]:
        """Classes 0 and 1 are right with this confidence; of class 2 no image is right."""
        rest = (1 - confidence) / 2
        p = [
            [confidence, rest, rest],
            [rest, confidence, rest],
            [rest, 1 - 2 * rest, rest],
            [1 - 2 * rest, rest, rest],
        ]
        images = view(logits_of(p), torch.ones(4, 3))
        return [
            Labeled(torch.arange(2), torch.tensor([0, 1]), (images[:2],)),
            Labeled(torch.arange(2, 4), torch.tensor([2, 1]), (images[2:],)),
        ]

    # Two of the rows that tests/memory/test_margin.py has: here it is asked when they are moved.
    @pytest.mark.parametrize(
        ("confidence", "epoch", "expected"), [(0.9, 3, 0.831597), (0.99, 20, 0.960300)]
    )
    def test_after_an_epoch_they_are_those_of_the_specification(self, confidence, epoch, expected):
        algorithm = make(floor=0.8)
        clock = Clock(step=800 * epoch, total_steps=16000, epoch_steps=800)
        algorithm.after_epoch(Says(), self.labeled(confidence), clock)
        close(algorithm.thresholds.threshold, [expected, expected, 0.8])

    def test_they_start_at_the_floor(self):
        close(make(floor=0.8).thresholds.threshold, [0.8] * 3)
        close(make(floor=0.3).thresholds.threshold, [0.3] * 3)
        close(AdaCM(problem_of(), Says()).thresholds.threshold, [0.8] * 3)

    def test_a_step_does_not_move_them(self):
        algorithm = make()
        before = algorithm.thresholds.threshold.clone()
        run(algorithm, data())
        assert torch.equal(algorithm.thresholds.threshold, before)

    def test_every_class_has_its_own(self):
        algorithm = make()
        algorithm.thresholds.threshold.copy_(torch.tensor([0.91, 0.69, 0.8 - 1e-6]))
        close(run(algorithm, data())["pseudo"], costs([0, 1, 2])[1:].sum() / 3)


class TestConfident:
    def test_labels_and_mask_come_from_mean_probabilities(self):
        objective = make().loss(data(), Says(), START)
        close(objective.watch["mask"], 2 / 3)
        close(objective.terms["pseudo"], costs([0, 1, 2])[[0, 2]].sum() / 3)

    def test_means_are_of_probabilities_and_not_of_logits(self):
        guesses = torch.tensor([[0.02, 0.97, 0.01], [0.60, 0.01, 0.39]])
        assert guesses.log().mean(0).argmax() == 0
        assert guesses.mean(0).argmax() == 1
        weak = [view(guess.log()[None], FIRST[:1]) for guess in guesses]
        both = batch_of(weak, [view(STRONG[:1], FIRST[:1])], known=view(KNOWN, FIRST[:2]))
        close(run(make(floor=0.4), both)["pseudo"], costs([1, 1, 1])[0])

    def test_a_confidence_equal_to_the_threshold_counts(self):
        sure = logits_of(GUESSES[0]).softmax(1)[1:2]
        weak = [view(sure.log(), FIRST[:1])] * 2
        same = batch_of(weak, [view(STRONG[:1], FIRST[:1])], known=view(KNOWN, FIRST[:2]))
        algorithm = make(floor=0.0)
        algorithm.thresholds.threshold.fill_(sure.log().softmax(1).max().item())
        assert algorithm.loss(same, Says(), START).watch["mask"] == 1

    def test_pseudo_labels_teach_the_strong_view_alone(self):
        batch = data()
        run(make(), batch)["pseudo"].backward()
        assert batch.unlabeled.strong[0].grad.any(1).tolist() == [True, False, True]
        assert all(v.grad is None or not v.grad.any() for v in batch.unlabeled.weak)

    def test_a_change_that_leaves_labels_and_mask_leaves_the_term(self):
        moved, batch = data(), data()
        with torch.no_grad():
            moved.unlabeled.weak[0][:2, 0] += 1e-3
        assert run(make(), moved)["pseudo"] == run(make(), batch)["pseudo"]

    def test_the_labeled_term_has_half_its_weight(self):
        batch = data()
        x = batch.labeled
        plain = F.cross_entropy(x.weak[0][:, :3], x.target)
        close(run(make(), batch)["supervised"], plain / 2)
        close(run(make(supervised_weight=3.0), batch)["supervised"], 3 * plain)


class TestContrast:
    def rejecting(self, **options) -> AdaCM:
        return make(floor=1.0, **options)

    @pytest.mark.parametrize(("temperature", "expected"), [(0.07, 0.196030), (0.5, 1.240806)])
    def test_it_is_that_of_the_specification(self, temperature, expected):
        algorithm = self.rejecting(temperature=temperature)
        close(run(algorithm, data())["contrast"], 0.1 * expected)
        close(run(self.rejecting(contrast=1.0), data())["contrast"], 0.196030)

    def test_it_is_over_the_images_that_are_not_confident(self):
        algorithm = make(contrast=1.0)
        algorithm.thresholds.threshold.copy_(torch.tensor([1.0, 0.5, 1.0]))
        unit = [F.normalize(torch.tensor(f).float(), dim=1)[[0, 2]] for f in (FIRST, SECOND)]
        close(run(algorithm, data())["contrast"], fn.nt_xent(*unit, torch.ones(2)))

    def test_a_single_doubtful_image_has_no_contrast(self):
        terms = run(make(), data())
        assert terms["contrast"] == 0

    def test_without_doubtful_images_it_is_0(self):
        batch = data()
        terms = run(make(floor=0.0), batch)
        sum(terms.values()).backward()
        assert terms["contrast"] == 0
        assert all(v.grad.isfinite().all() for v in batch.unlabeled.weak)

    def test_it_teaches_the_features_of_both_weak_views_and_nothing_else(self):
        batch = data()
        algorithm = make()
        algorithm.thresholds.threshold.copy_(torch.tensor([1.0, 0.5, 1.0]))
        run(algorithm, batch)["contrast"].backward()
        for weak in batch.unlabeled.weak:
            assert weak.grad[:, 3:].any(1).tolist() == [True, False, True]
            assert not weak.grad[:, :3].any()
        assert batch.unlabeled.strong[0].grad is None
        assert batch.labeled.weak[0].grad is None

    def test_features_are_compared_at_length_1(self):
        one, other = data(), data()
        with torch.no_grad():
            other.unlabeled.weak[0][:, 3:] *= 5
        close(run(self.rejecting(), one)["contrast"], run(self.rejecting(), other)["contrast"])

    def test_confident_and_doubtful_images_share_the_batch(self):
        for floor in (0.0, 0.75, 0.85, 1.0):
            batch = data()
            algorithm = make(floor=floor)
            terms = run(algorithm, batch)
            sum(terms.values()).backward()
            confident = torch.tensor(BELIEF).amax(1) >= floor
            learns = batch.unlabeled.strong[0].grad[:, :3].any(1)
            assert learns.tolist() == confident.tolist()

    def test_without_weight_the_term_is_left_out(self):
        assert set(run(self.rejecting(contrast=0.0), data())) == {"supervised", "pseudo"}

    @pytest.mark.parametrize(("contrast", "graph"), [(0.1, True), (0.0, False)])
    def test_without_weight_the_weak_views_have_no_backward_pass(self, contrast, graph):
        model = Says()
        self.rejecting(contrast=contrast).loss(data(), model, START)
        assert model.grad_enabled == [graph, graph, True]

    def test_without_weight_no_gradient_reaches_the_weak_views(self):
        batch = data()
        self.rejecting(contrast=0.0).loss(batch, Says(), START).total.backward()
        assert all(v.grad is None for v in batch.unlabeled.weak)

    def test_without_weight_the_other_terms_are_the_same(self):
        one, other = run(make(), data()), run(make(contrast=0.0), data())
        assert all(torch.equal(one[k], other[k]) for k in other)


def test_the_total_is_the_sum_of_the_terms():
    objective = make().loss(data(), Says(), START)
    assert set(objective.terms) == {"supervised", "pseudo", "contrast"}
    close(objective.total, sum(objective.terms.values()))


def test_it_asks_for_two_weak_views():
    assert AdaCM.views == Views(labeled="w", unlabeled="wws")


def test_its_weights_are_those_of_the_specification():
    algorithm = AdaCM(problem_of(), Says())
    assert (algorithm.supervised_weight, algorithm.weight, algorithm.contrast) == (0.5, 1, 0.1)
    assert algorithm.temperature == 0.07


def test_its_network_is_that_of_the_code():
    assert AdaCM.recipe == {"normalize_features": True, "dropout": 0.5, "weight_decay": 0.02}
