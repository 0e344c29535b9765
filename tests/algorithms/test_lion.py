from __future__ import annotations

import io
import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.lion import LION, gap_loss, negative_loss
from leaf_fer.types import Batch, Clock, Labeled

from .saying import Says, batch_of, close, logits_of, problem_of, view

C, D = 7, 3
STEPS = 8
"""Steps of an epoch, of 30."""

# spec 3.18
P = [0.62, 0.25, 0.10, 0.02, 0.008, 0.0015, 0.0005]
STRONG = [[2, 1, 0.5, 0, -0.5, -1.5, -2]]
GAP_LOSS = 0.322628
DOUBTED = [0.05, 0.02, 0.01, 0.70, 0.08, 0.12, 0.02]
LABEL, WINNER = 5, 3
REVISED = {3: 0.853659, 5: 0.146341}

SURE_OF_1 = [0.005, 0.97] + [0.005] * 5


def make(classes: int = C, **options) -> LION:
    return LION(problem_of(classes, 6, 20), Says(classes, D), **{"rise": 0.3, **options})


def epoch(number: int, step: int = 0) -> Clock:
    """A step in an epoch, counted from 1, of a run of 30."""
    return Clock((number - 1) * STEPS + step, 30 * STEPS, STEPS)


def unit(rows: Tensor | list[list[float]]) -> Tensor:
    return F.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)


def sure(confidence: float) -> list[float]:
    """A prediction of class 0."""
    return [confidence] + [(1 - confidence) / 6] * 6


def spread(values: dict[int, float]) -> list[float]:
    return [values.get(c, 0.0) for c in range(C)]


def data(
    known: list[list[float]] | None = None,
    weak: list[list[float]] | None = None,
    *,
    strong: list[list[float]] | None = None,
    features: list[list[float]] | None = None,
    target: list[int] | None = None,
    **changes,
) -> Batch:
    """A batch of these probabilities of the labeled and the unlabeled images."""
    known = known or [P]
    weak = weak or [P]
    features = features or [[1.0, 0, 0]] * len(known)
    strong = strong or STRONG * len(weak)
    return batch_of(
        [view(logits_of(weak), [[0.0, 1, 0]] * len(weak))],
        [view(strong, [[1.0] * D] * len(strong))],
        known=view(logits_of(known), features),
        target=target or [0] * len(known),
        **changes,
    )


def run(algorithm: LION, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(len(algorithm.counts), D), clock).terms


class TestSchedules:
    @pytest.mark.parametrize(
        ("number", "below", "above"),
        [(1, 0.8099, 0.8101), (5, 0.8499, 0.8501), (10, 0.8999, 0.9001), (16, 0.9599, 0.9601)],
    )
    def test_the_threshold_is_that_of_the_specification(self, number, below, above):
        pair = data(weak=[sure(below), sure(above)])
        run(make(), pair, epoch(number))["pseudo"].backward()
        learns = pair.unlabeled.strong[0].grad.any(1)
        assert learns.tolist() == [False, True]

    @pytest.mark.parametrize("number", range(20, 31))
    def test_from_the_20th_epoch_of_the_release_on_no_doubt_is_allowed(self, number):
        nearly = data(weak=[sure(0.9999)])
        assert make().loss(nearly, Says(C, D), epoch(number)).watch["mask"] == 0

    def test_from_the_21st_epoch_of_the_release_on_nothing_counts(self):
        certain = batch_of(
            [view([[99.0] + [0.0] * 6], [[1.0] * D])],
            [view(STRONG, [[1.0] * D])],
            known=view([[0.0] * C] * 2, [[1.0] * D] * 2),
        )
        for number in range(21, 31):
            assert make().loss(certain, Says(C, D), epoch(number)).watch["mask"] == 0

    def test_by_default_the_threshold_ends_at_095(self):
        algorithm = LION(problem_of(C, 6, 20), Says(C, D))
        pair = data(weak=[sure(0.951), sure(0.949)])
        assert algorithm.loss(pair, Says(C, D), epoch(30)).watch["mask"] == 0.5

    @pytest.mark.parametrize(
        ("number", "expected"), [(1, 0.225), (5, 0.165), (10, 0.09), (16, 0), (20, 0), (30, 0)]
    )
    def test_the_negative_factor_is_that_of_the_specification(self, number, expected):
        assert make().negative_factor(epoch(number)) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("step", [0, STEPS - 1])
    def test_schedules_do_not_move_within_an_epoch(self, step):
        assert make().negative_factor(epoch(5, step)) == make().negative_factor(epoch(5))

    @pytest.mark.parametrize(("number", "expected"), [(1, 0.034615), (5, 0.025385), (10, 0.013846)])
    def test_the_factor_of_the_gap_is_that_of_the_specification(self, number, expected):
        algorithm = make(threshold=1.0)
        algorithm.excluded[0, 4:] = True
        close(run(algorithm, data(), epoch(number))["gap"], expected * GAP_LOSS)

    def test_without_an_end_there_is_no_negative_factor(self):
        assert make(negative_end=0.0).negative_factor(epoch(1)) == 0

    def test_labels_are_doubted_from_the_10th_epoch_of_30(self):
        assert make().relabel_epoch(epoch(1)) == 10

    @pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 15), (1.0, 30)])
    def test_the_epoch_of_relabeling_is_a_share_of_the_run(self, share, expected):
        assert make(relabel=share).relabel_epoch(epoch(1)) == expected


class TestExclusion:
    def visits(self, count: int) -> tuple[LION, list[Tensor]]:
        algorithm = make()
        q, doubtful = torch.tensor([P]), torch.ones(1)
        return algorithm, [algorithm.exclude(torch.tensor([4]), q, doubtful) for _ in range(count)]

    @pytest.mark.parametrize(
        ("visit", "classes", "cost"),
        [
            (1, [6], 0.000500),
            (2, [5, 6], 0.002001),
            (3, [4, 5, 6], 0.010033),
            (4, [4, 5, 6], 0.010033),
        ],
    )
    def test_visits_exclude_the_classes_of_the_specification(self, visit, classes, cost):
        algorithm, found = self.visits(visit)
        assert found[-1][0].nonzero().flatten().tolist() == classes
        assert algorithm.excluded[4].nonzero().flatten().tolist() == classes
        close(negative_loss(torch.tensor([P]), found[-1], torch.ones(1)), cost)

    def test_steps_exclude_the_classes_of_the_specification(self):
        algorithm = make()
        for cost in (0.000500, 0.002001, 0.010033, 0.010033):
            close(run(algorithm, data(row=[4]), epoch(1))["negative"], 0.225 * cost)

    def test_other_images_keep_their_rows(self):
        algorithm, _ = self.visits(3)
        assert algorithm.excluded.any(1).nonzero().flatten().tolist() == [4]

    def test_every_image_has_a_row_of_its_own(self):
        algorithm = make()
        q = torch.tensor([P, P[::-1], P[3:] + P[:3]])
        row = torch.tensor([17, 2, 9])
        algorithm.exclude(row, q, torch.ones(3))
        second = algorithm.exclude(row.flip(0), q.flip(0), torch.ones(3))
        assert torch.equal(second, algorithm.excluded[row.flip(0)])
        classes = [algorithm.excluded[i].nonzero().flatten().tolist() for i in row.tolist()]
        assert classes == [[5, 6], [0, 1], [2, 3]]

    def test_losses_read_the_rows_of_their_images(self):
        # Only one of four images is doubtful, and its row is not the first.
        algorithm = make()
        algorithm.excluded[7, [1, 2]] = True
        algorithm.excluded[3, [0]] = True
        other = [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]
        weak = [sure(0.97), sure(0.97), other, sure(0.97)]
        strong = [[0.0] * C, [0.0] * C, STRONG[0], [0.0] * C]
        terms = run(algorithm, data(weak=weak, strong=strong, row=[3, 5, 7, 9]), epoch(1))
        close(terms["negative"], 0.225 * -(math.log(0.8) + math.log(0.9)) / 4)
        excluded = torch.zeros(1, C, dtype=torch.bool)
        excluded[0, [1, 2]] = True
        expected = gap_loss(torch.tensor(STRONG), excluded, torch.ones(1))
        close(terms["gap"], 0.225 / 6.5 * expected)

    def test_a_confident_image_excludes_nothing(self):
        algorithm = make()
        found = algorithm.exclude(torch.tensor([4]), torch.tensor([P]), torch.zeros(1))
        assert not found.any()
        assert not algorithm.excluded.any()

    def test_a_chance_of_one_in_a_hundred_is_small_enough(self):
        for chance, count in ((0.01, 1), (0.0101, 0)):
            q = torch.tensor([[0.5, 0.5 - chance, chance]])
            assert make(3).exclude(torch.tensor([0]), q, torch.ones(1)).sum() == count

    @pytest.mark.parametrize("classes", [2, 3, 5])
    def test_at_least_two_classes_stay(self, classes):
        algorithm = make(classes)
        q = torch.full((1, classes), 0.001)
        q[0, 0] = 1 - 0.001 * (classes - 1)
        for _ in range(2 * classes):
            found = algorithm.exclude(torch.tensor([0]), q, torch.ones(1))
        assert found.sum() == classes - 2
        assert not found[0, 0]

    def test_two_classes_work_in_every_epoch(self):
        algorithm = make(2)
        for number in (1, 5, 10, 11, 20, 30):
            pair = data(
                [[0.9, 0.1], [0.995, 0.005]],
                [[0.7, 0.3], [0.995, 0.005]],
                strong=[[1, 0], [0.2, 0.4]],
                target=[1, 1],
            )
            objective = algorithm.loss(pair, Says(2, D), epoch(number))
            objective.total.backward()
            assert objective.total.isfinite()
            assert pair.unlabeled.strong[0].grad.isfinite().all()
        assert not algorithm.excluded.any()

    def test_an_excluded_class_stays_excluded(self):
        algorithm, _ = self.visits(3)
        q = torch.tensor([P[::-1]])
        found = algorithm.exclude(torch.tensor([4]), q, torch.ones(1))
        assert found[0].nonzero().flatten().tolist() == [0, 4, 5, 6]


class TestNegative:
    def test_it_is_a_mean_over_the_whole_batch(self):
        excluded = torch.zeros(4, C, dtype=torch.bool)
        excluded[:, 4:] = True
        mask = torch.tensor([1.0, 0, 0, 0])
        close(negative_loss(torch.tensor([P] * 4), excluded, mask), 0.010033 / 4)

    def test_a_certain_prediction_of_an_excluded_class_stays_finite(self):
        p = torch.tensor([[1.0, 0, 0]]).requires_grad_()
        loss = negative_loss(p, torch.tensor([[True, False, False]]), torch.ones(1))
        loss.backward()
        close(loss, -math.log(1e-5))
        assert p.grad.isfinite().all()

    def test_it_teaches_the_weak_view_of_doubtful_images(self):
        algorithm = make()
        pair = data(weak=[P, sure(0.97)])
        run(algorithm, pair, epoch(1))["negative"].backward()
        gradient = pair.unlabeled.weak[0].grad
        assert gradient[0, 6] > 0
        assert not gradient[1].any()
        assert pair.unlabeled.strong[0].grad is None or not pair.unlabeled.strong[0].grad.any()

    @pytest.mark.parametrize(("number", "has"), [(15, True), (16, False), (30, False)])
    def test_negative_terms_end_after_15_of_30_epochs(self, number, has):
        terms = run(make(), data(), epoch(number))
        assert ("negative" in terms) == ("gap" in terms) == has

    @pytest.mark.parametrize(("number", "graph"), [(15, True), (16, False)])
    def test_then_the_weak_view_has_no_backward_pass(self, number, graph):
        model = Says(C, D)
        make().loss(data(), model, epoch(number))
        assert model.grad_enabled == [graph, True]

    def test_then_no_gradient_reaches_the_weak_view(self):
        pair = data()
        make().loss(pair, Says(C, D), epoch(16)).total.backward()
        assert pair.unlabeled.weak[0].grad is None

    def test_then_nothing_is_excluded(self):
        algorithm = make()
        run(algorithm, data(), epoch(16))
        assert not algorithm.excluded.any()

    def test_without_weight_there_are_no_negative_terms(self):
        assert set(run(make(negative_weight=0.0), data(), epoch(1))) == {"supervised", "pseudo"}


class TestGap:
    def excluded(self) -> Tensor:
        return torch.tensor([[False] * 4 + [True] * 3])

    def test_it_is_that_of_the_specification(self):
        close(gap_loss(torch.tensor(STRONG), self.excluded(), torch.ones(1)), GAP_LOSS)

    def test_it_is_the_binary_cross_entropy_of_the_specification(self):
        gap = torch.tensor([0, 0.149738, 0.258338, 0.380797, 0.503256, 0.698372, 0.761594])
        expected = F.binary_cross_entropy(gap, self.excluded()[0].float())
        close(gap_loss(torch.tensor(STRONG), self.excluded(), torch.ones(1)), expected)

    def test_it_is_a_mean_over_doubtful_images(self):
        mask = torch.tensor([1.0, 0, 0])
        found = gap_loss(torch.tensor(STRONG * 3), self.excluded().repeat(3, 1), mask)
        close(found, GAP_LOSS)

    def test_without_doubtful_images_it_is_0(self):
        logits = torch.tensor(STRONG).requires_grad_()
        loss = gap_loss(logits, self.excluded(), torch.zeros(1))
        loss.backward()
        assert loss == 0
        assert not logits.grad.any()

    @pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
    @pytest.mark.parametrize("excluded", [[True] * 3, [False] * 3, [True, False, True]])
    def test_extreme_logits_stay_finite(self, size, excluded):
        rows = torch.tensor([[1.0, -1, 0], [1, 1, 1], [-1, -1, -1], [1, 1, -1], [0, 0, 0]])
        logits = (size * rows).requires_grad_()
        loss = gap_loss(logits, torch.tensor([excluded] * 5), torch.ones(5))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()

    def test_its_gradient_is_right(self):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(4, 5, generator=generator)
        excluded = torch.rand(4, 5, generator=generator) > 0.6
        excluded.scatter_(1, logits.argmax(1, keepdim=True), False)  # torch's is endless there
        mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        gap_loss(mine, excluded, torch.ones(4)).backward()
        s = other.sigmoid()
        gap = s.amax(1, keepdim=True) - s
        F.binary_cross_entropy(gap, excluded.float()).backward()
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-3)

    def test_it_teaches_the_strong_view_alone(self):
        algorithm = make()
        pair = data()
        run(algorithm, pair, epoch(1))["gap"].backward()
        assert pair.unlabeled.strong[0].grad.any()
        assert pair.unlabeled.weak[0].grad is None or not pair.unlabeled.weak[0].grad.any()


class TestRevision:
    def revise(
        self,
        algorithm: LION,
        clock: Clock,
        p: list[float] = DOUBTED,
        feature: tuple[float, ...] = (1.0, 0, 0),
        target: int = LABEL,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = Labeled(torch.tensor([2]), torch.tensor([target]))
        return algorithm.revise(x, torch.tensor([p]), torch.tensor([feature]), clock)

    def test_at_the_epoch_of_relabeling_weights_are_those_of_the_specification(self):
        algorithm = make()
        label, weights, trusted = self.revise(algorithm, epoch(10))
        close(weights, [spread(REVISED)])
        close(algorithm.weights[2], spread(REVISED))
        assert label.tolist() == [LABEL]
        assert trusted.tolist() == [0]

    def test_at_the_next_visit_weights_are_those_of_the_specification(self):
        algorithm = make()
        algorithm.prototypes[WINNER] = torch.tensor([0.6, 0.8, 0])
        algorithm.prototypes[LABEL] = torch.tensor([0.5, 0, 0.8])
        # A class without weight has no share, whatever it resembles.
        algorithm.prototypes[0] = torch.tensor([1.0, 0, 0])
        self.revise(algorithm, epoch(10))
        label, weights, _ = self.revise(algorithm, epoch(11))
        close(weights, [spread({3: 0.852433, 5: 0.147567})])
        assert label.tolist() == [LABEL]

    def test_candidates_share_the_softmax_of_the_specification(self):
        algorithm = make()
        algorithm.prototypes[WINNER, 0], algorithm.prototypes[LABEL, 0] = 0.6, 0.5
        candidates = torch.tensor([spread({WINNER: 1, LABEL: 1})]) > 0
        found = algorithm.resemblance(torch.tensor([[1.0, 0, 0]]), candidates)
        close(found, [spread({WINNER: 0.731059, LABEL: 0.268941})])

    @pytest.mark.parametrize("number", range(1, 10))
    def test_before_that_epoch_labels_are_never_revised(self, number):
        algorithm = make()
        wrong = [0.0001] * 6 + [0.9994]
        label, weights, trusted = self.revise(algorithm, epoch(number), wrong, target=0)
        assert label.tolist() == [0]
        assert weights.tolist() == [[1, 0, 0, 0, 0, 0, 0]]
        assert trusted.tolist() == [0]
        assert algorithm.labels.tolist() == [-1, -1, 0, -1, -1, -1]

    def test_before_that_epoch_correct_predictions_move_prototypes(self):
        assert self.revise(make(), epoch(9), target=WINNER)[2].tolist() == [1]
        assert self.revise(make(), epoch(9), target=LABEL)[2].tolist() == [0]

    def test_from_that_epoch_on_all_but_ambiguous_images_move_prototypes(self):
        wrong = [0.3, 0.5, 0.2, 0, 0, 0, 0]
        for number in (10, 20):
            assert self.revise(make(), epoch(number), wrong, target=0)[2].tolist() == [1]
            assert self.revise(make(), epoch(number), target=LABEL)[2].tolist() == [0]

    @pytest.mark.parametrize(("own", "ambiguous"), [(0.24, True), (0.26, False)])
    def test_a_lead_of_more_than_a_half_makes_an_image_ambiguous(self, own, ambiguous):
        p = [0.75, own, 1 - 0.75 - own, 0, 0, 0, 0]
        _, weights, trusted = self.revise(make(), epoch(10), p, target=1)
        assert (weights.amax() < 1) == ambiguous
        assert trusted.tolist() == [not ambiguous]

    @pytest.mark.parametrize(
        ("most", "weight", "label"),
        [(0.984, 0.984, 1), (0.990, 1, 1), (0.9955, 1, 1), (0.9965, 1, 0)],
    )
    def test_a_weight_that_is_sure_takes_all_and_one_that_is_certain_relabels(
        self, most, weight, label
    ):
        p = [0.9, 0.9 * (1 - most) / most, 0, 0, 0, 0, 0]
        p[2] = 1 - sum(p)
        algorithm = make()
        found, weights, _ = self.revise(algorithm, epoch(10), p, target=1)
        close(weights[0, :2], [weight, 1 - weight])
        assert found.tolist() == [label]
        assert algorithm.labels[2] == label

    def test_a_weight_that_rounds_to_1_relabels_too(self):
        p = spread({WINNER: 1.0, LABEL: 1e-9})
        label, weights, _ = self.revise(make(), epoch(10), p)
        assert weights[0].argmax() == WINNER
        assert label.tolist() == [WINNER]

    @pytest.mark.parametrize("winner", range(C))
    def test_any_class_can_become_the_label(self, winner):
        p = [0.0001] * C
        p[winner] = 1 - 0.0006
        target = (winner + 1) % C
        assert self.revise(make(), epoch(10), p, target=target)[0].tolist() == [winner]

    def test_an_image_whose_doubt_ends_keeps_its_weights(self):
        algorithm = make()
        self.revise(algorithm, epoch(10))
        p = spread({LABEL: 0.9, WINNER: 0.1})
        _, weights, trusted = self.revise(algorithm, epoch(11), p)
        close(weights, [spread(REVISED)])
        assert trusted.tolist() == [1]

    def test_rows_of_weights_sum_to_1(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make()
        algorithm.prototypes.copy_(unit(torch.randn(C, D, generator=generator)))
        for number in range(10, 30):
            x = Labeled(torch.arange(6), torch.arange(6))
            p = (4 * torch.randn(6, C, generator=generator)).softmax(1)
            features = unit(torch.randn(6, D, generator=generator))
            _, weights, _ = algorithm.revise(x, p, features, epoch(number))
            close(weights.sum(1), [1] * 6)
            assert (weights >= 0).all()

    def test_other_images_keep_their_labels_and_weights(self):
        algorithm = make()
        self.revise(algorithm, epoch(10))
        assert algorithm.labels.tolist() == [-1, -1, 5, -1, -1, -1]
        assert algorithm.weights.any(1).nonzero().flatten().tolist() == [2]

    def test_every_image_of_a_batch_is_revised_by_its_own_prediction(self):
        algorithm = make()
        p = [DOUBTED, P, [0.02, 0.9, 0.08, 0, 0, 0, 0]]
        x = Labeled(torch.tensor([4, 0, 2]), torch.tensor([LABEL, 0, 0]))
        algorithm.revise(x, torch.tensor(p), torch.zeros(3, D), epoch(10))
        close(algorithm.weights[4], spread(REVISED))
        assert algorithm.weights[0].tolist() == spread({0: 1.0})
        close(algorithm.weights[2], spread({0: 0.02 / 0.92, 1: 0.9 / 0.92}))


class TestLabeledTerms:
    CERTAIN = [0.0001] * 6 + [0.9994]

    def test_a_revised_label_is_taught(self):
        algorithm = make()
        terms = run(algorithm, data([self.CERTAIN], target=[0], index=[3]), epoch(10))
        close(terms["supervised"], 1.6 * -math.log(0.9994))
        assert algorithm.labels[3] == 6

    def test_a_revised_label_survives_saving_and_loading(self):
        algorithm, resumed = make(), make()
        run(algorithm, data([self.CERTAIN], target=[0], index=[3]), epoch(10))
        file = io.BytesIO()
        torch.save(algorithm.state_dict(), file)
        file.seek(0)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for buffer in ("labels", "weights", "excluded", "prototypes", "counts"):
            assert torch.equal(getattr(resumed, buffer), getattr(algorithm, buffer)), buffer
        batch = data([[0.5, 0.3, 0.05, 0.05, 0.05, 0.03, 0.02]], target=[0], index=[3])
        terms = run(resumed, batch, epoch(12))
        close(terms["supervised"], 1.6 * -math.log(0.02))
        assert terms == run(algorithm, batch, epoch(12))

    def test_ambiguous_images_are_left_out_of_the_labeled_term(self):
        terms = run(make(), data([DOUBTED, P], target=[LABEL, 1], index=[0, 1]), epoch(10))
        close(terms["supervised"], 1.6 * -math.log(0.25))
        assert "partial" not in terms

    def test_ambiguous_images_can_have_the_soft_term_of_the_specification(self):
        algorithm = make(partial_weight=1.0)
        terms = run(algorithm, data([DOUBTED, P], target=[LABEL, 1], index=[0, 1]), epoch(10))
        close(terms["partial"], 0.614761)
        close(terms["supervised"], 1.6 * -math.log(0.25))

    def test_both_terms_are_means_over_their_own_images(self):
        p, target = [DOUBTED, P, DOUBTED, P, P], [LABEL, 1, LABEL, 0, 0]
        algorithm = make(partial_weight=2.0)
        terms = run(algorithm, data(p, target=target, index=range(5)), epoch(10))
        close(terms["partial"], 2 * 0.614761)
        close(terms["supervised"], -1.6 * (math.log(0.25) + 2 * math.log(0.62)) / 3)

    def test_a_batch_of_ambiguous_images_stays_finite(self):
        batch = data([DOUBTED] * 2, target=[LABEL] * 2, index=[0, 1])
        objective = make(partial_weight=1.0).loss(batch, Says(C, D), epoch(10))
        objective.total.backward()
        assert objective.terms["supervised"] == 0
        assert batch.labeled.weak[0].grad.isfinite().all()

    def test_a_batch_of_clear_images_has_no_partial_cost(self):
        objective = make(partial_weight=1.0).loss(data(), Says(C, D), epoch(1))
        assert objective.terms["partial"] == 0
        assert objective.total.isfinite()

    def test_before_relabeling_it_is_the_cross_entropy(self):
        terms = run(make(), data([P, DOUBTED], target=[1, LABEL], index=[0, 1]), epoch(1))
        close(terms["supervised"], -1.6 * (math.log(0.25) + math.log(0.12)) / 2)

    def test_no_gradient_reaches_the_state(self):
        algorithm = make(partial_weight=1.0)
        for number in (1, 10, 11):
            batch = data([DOUBTED, P], target=[LABEL, 1], index=[0, 1])
            algorithm.loss(batch, Says(C, D), epoch(number)).total.backward()
        assert not any(b.requires_grad for b in algorithm.buffers())


class TestPrototypes:
    def classes(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        features = unit(torch.randn(5, D, generator=generator))
        label = torch.randint(3, (5,), generator=generator)
        return features, label, torch.tensor([1.0, 1, 0, 1, 1])

    def test_in_the_first_epoch_they_are_plain_means(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make()
        seen: dict[int, list[Tensor]] = {}
        for _ in range(4):
            features, label, mask = self.classes(generator)
            algorithm.move_prototypes(features, label, mask, plain=True)
            for f, c, m in zip(features, label.tolist(), mask, strict=True):
                if m:
                    seen.setdefault(c, []).append(f)
        for c in range(C):
            expected = torch.stack(seen[c]).mean(0) if c in seen else torch.zeros(D)
            close(algorithm.prototypes[c], expected)
        assert algorithm.counts.sum() == 16

    def test_later_every_image_moves_its_class_by_a_hundredth(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = make()
        expected = unit(torch.randn(C, D, generator=generator)).double()
        algorithm.prototypes.copy_(expected)
        for _ in range(10):
            features = unit(torch.randn(3, D, generator=generator))
            label = torch.randperm(C, generator=generator)[:3]
            algorithm.move_prototypes(features, label, torch.tensor([1.0, 0, 1]), plain=False)
            for f, c in list(zip(features.double(), label.tolist(), strict=True))[::2]:
                expected[c] = 0.99 * expected[c] + 0.01 * f
        close(algorithm.prototypes, expected)

    def test_images_of_a_class_move_it_as_one_by_one_up_to_their_order(self):
        generator = torch.Generator().manual_seed(0)
        start = unit(torch.randn(C, D, generator=generator))
        features = unit(torch.randn(4, D, generator=generator)).double()
        algorithm = make()
        algorithm.prototypes.copy_(start)
        algorithm.move_prototypes(
            features.float(), torch.tensor([2] * 4), torch.ones(4), plain=False
        )
        ends = []
        for order in permutations(range(4)):
            moved = start[2].double()
            for k in order:
                moved = 0.99 * moved + 0.01 * features[k]
            ends.append(moved)
        close(algorithm.prototypes[2], torch.stack(ends).mean(0))

    def test_prototypes_are_not_normalized(self):
        algorithm = make()
        features = unit([[1.0, 0, 0], [0, 1, 0]])
        algorithm.move_prototypes(features, torch.zeros(2).long(), torch.ones(2), plain=True)
        close(algorithm.prototypes[0], [0.5, 0.5, 0])

    def step(self, algorithm: LION, clock: Clock, features: list[list[float]], **changes) -> None:
        """A step on labeled images of class 0 that are classified correctly."""
        batch = data([P] * len(features), features=features, index=range(len(features)), **changes)
        run(algorithm, batch, clock)

    def test_counters_restart_at_the_start_of_an_epoch(self):
        algorithm = make()
        self.step(algorithm, epoch(1), [[1.0, 0, 0], [0, 1, 0]])
        self.step(algorithm, epoch(1, 1), [[0, 0, 1.0]])
        close(algorithm.prototypes[0], [1 / 3] * 3)
        assert algorithm.counts.tolist() == [3, 0, 0, 0, 0, 0, 0]
        self.step(algorithm, epoch(2), [[1.0, 0, 0]])
        assert not algorithm.counts.any()

    def test_from_the_second_epoch_on_labeled_images_move_them_by_a_hundredth(self):
        algorithm = make()
        self.step(algorithm, epoch(1), [[1.0, 0, 0]])
        self.step(algorithm, epoch(2), [[0, 1.0, 0]])
        close(algorithm.prototypes[0], [0.99, 0.01, 0])

    def test_in_the_epoch_of_relabeling_labeled_images_make_plain_means_again(self):
        algorithm = make()
        algorithm.prototypes[0] = torch.tensor([0, 0, 1.0])
        self.step(algorithm, epoch(10), [[1.0, 0, 0]])
        close(algorithm.prototypes[0], [1.0, 0, 0])
        self.step(algorithm, epoch(10, 1), [[0, 1.0, 0], [0, 1, 0]])
        close(algorithm.prototypes[0], [1 / 3, 2 / 3, 0])

    def test_in_that_epoch_unlabeled_images_move_them_by_a_hundredth(self):
        algorithm = make()
        algorithm.prototypes[1] = torch.tensor([0, 0, 1.0])
        self.step(algorithm, epoch(10), [[1.0, 0, 0]], weak=[SURE_OF_1])
        close(algorithm.prototypes[1], [0, 0.01, 0.99])

    def test_unlabeled_images_count_where_they_are_confident(self):
        algorithm = make()
        self.step(algorithm, epoch(1), [[1.0, 0, 0]], weak=[SURE_OF_1, P])
        close(algorithm.prototypes[1], [0, 1.0, 0])
        close(algorithm.prototypes[0], [1.0, 0, 0])
        assert algorithm.counts.tolist() == [1, 1, 0, 0, 0, 0, 0]

    def test_labeled_and_unlabeled_images_share_a_plain_mean(self):
        algorithm = make()
        self.step(algorithm, epoch(1), [[1.0, 0, 0], [1, 0, 0]], weak=[sure(0.97)])
        close(algorithm.prototypes[0], [2 / 3, 1 / 3, 0])

    def test_wrong_labeled_images_do_not_count(self):
        algorithm = make()
        batch = data([P, DOUBTED], features=[[1.0, 0, 0], [0, 0, 1]], target=[0, LABEL])
        run(algorithm, batch, epoch(1))
        assert algorithm.counts.tolist() == [1, 0, 0, 0, 0, 0, 0]

    def test_images_move_the_class_of_their_revised_label(self):
        algorithm = make()
        certain = [0.0001] * 6 + [0.9994]
        run(algorithm, data([certain], target=[0], index=[3]), epoch(10))
        run(algorithm, data([certain], target=[0], index=[3]), epoch(11))
        assert algorithm.prototypes[6].any()
        assert not algorithm.prototypes[0].any()

    def test_features_are_taken_at_length_1_and_without_gradient(self):
        algorithm = make()
        self.step(algorithm, epoch(1), [[3.0, 4, 0]])
        close(algorithm.prototypes[0], [0.6, 0.8, 0])
        assert not algorithm.prototypes.requires_grad


class TestPseudoLabels:
    def test_they_are_masked_over_the_whole_batch(self):
        pair = data(weak=[sure(0.97), P])
        expected = F.cross_entropy(torch.tensor(STRONG), torch.tensor([0])) / 2
        close(run(make(), pair, epoch(1))["pseudo"], 1.2 * expected)

    def test_they_teach_the_strong_view_alone(self):
        pair = data(weak=[sure(0.97), P])
        run(make(), pair, epoch(1))["pseudo"].backward()
        assert pair.unlabeled.strong[0].grad[:, :C].any(1).tolist() == [True, False]
        assert pair.unlabeled.weak[0].grad is None or not pair.unlabeled.weak[0].grad.any()


def test_the_total_is_the_sum_of_the_terms():
    objective = make(partial_weight=1.0).loss(data(), Says(C, D), epoch(1))
    assert set(objective.terms) == {"supervised", "partial", "pseudo", "negative", "gap"}
    close(objective.total, sum(objective.terms.values()))


def test_its_weights_are_those_of_the_specification():
    algorithm = LION(problem_of(), Says())
    assert (algorithm.supervised_weight, algorithm.weight) == (1.6, 1.2)
    assert (algorithm.negative_weight, algorithm.partial_weight) == (0.24, 0)
    assert (algorithm.threshold, algorithm.rise, algorithm.doubt) == (0.8, 0.15, 0.5)
    assert algorithm.temperature == 0.1


def test_its_network_is_that_of_the_release():
    assert LION.recipe == {"normalize_features": True, "dropout": 0.5, "weight_decay": 0.02}
