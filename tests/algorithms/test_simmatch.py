from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.simmatch import SimMatch
from leaf_fer.models.classifier import Unit
from leaf_fer.types import Clock

from .saying import (
    KNOWN,
    LATE,
    START,
    Says,
    batch_of,
    close,
    logits_of,
    problem_of,
    view,
)

# spec 3.12
KEYS = [[1, 0], [0, 1], [1, 1], [-1, 0.5]]
CLASSES = [0, 1, 1, 2]
WEAK, STRONG = [[1, 0.3]], [[0.8, 0.5]]
P = [[0.6, 0.3, 0.1]]
TEACHER = [[0.683716, 0.000838, 0.315447, 0]]
UNFOLDED = [[0.812151, 0.000497, 0.187352, 0]]
SMOOTHED = [[0.608372, 0.301628, 0.09]]
STUDENT = [[0.218298, 0.009078, 0.772623, 0]]
AGREEMENT = 1.286675

SCORES = [[0.3, 0.9, -0.4]]


def make(**options) -> SimMatch:
    """A method whose embeddings are the normalized features and that leaves P as it is."""
    algorithm = SimMatch(problem_of(), Says(), embedding=2, **options)
    algorithm.project = Unit()
    algorithm.align.target.copy_(torch.tensor(P).mean(0))
    return algorithm


def filled(**options) -> SimMatch:
    algorithm = make(**options)
    algorithm.keys.copy_(unit(KEYS))
    algorithm.classes.copy_(torch.tensor(CLASSES))
    return algorithm


def unit(rows: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float32))


def data(**changes):
    changes = {"known": view(KNOWN, torch.ones(2, 2)), **changes}
    return batch_of([view(logits_of(P), WEAK)], [view(SCORES, STRONG)], **changes)


def run(algorithm: SimMatch, batch, clock: Clock = LATE) -> dict[str, Tensor]:
    return algorithm.loss(batch, Says(), clock).terms


class TestExchange:
    def test_resemblances_of_the_weak_view_are_those_of_the_specification(self):
        close(filled().resemblance(unit(WEAK)).exp(), TEACHER)

    def test_resemblances_of_the_strong_view_are_those_of_the_specification(self):
        close(filled().resemblance(unit(STRONG)).exp(), STUDENT)

    def test_resemblances_are_corrected_by_classes_as_in_the_specification(self):
        unfolded, _ = filled().exchange(torch.tensor(TEACHER), torch.tensor(P))
        close(unfolded, UNFOLDED)

    def test_classes_are_corrected_by_resemblances_as_in_the_specification(self):
        _, q = filled().exchange(torch.tensor(TEACHER), torch.tensor(P))
        close(q, SMOOTHED)

    def test_without_class_scores_a_pseudo_label_is_the_sum_of_resemblances(self):
        _, q = filled(smoothing=0.0).exchange(torch.tensor(TEACHER), torch.tensor(P))
        close(q, [[0.683716, 0.316284, 0]])

    def test_with_class_scores_alone_a_pseudo_label_is_the_prediction(self):
        _, q = filled(smoothing=1.0).exchange(torch.tensor(TEACHER), torch.tensor(P))
        close(q, P)

    def test_equal_class_scores_leave_resemblances_as_they_are(self):
        unfolded, _ = filled().exchange(torch.tensor(TEACHER), torch.ones(1, 3) / 3)
        close(unfolded, TEACHER)

    def test_rows_sum_to_1(self):
        generator = torch.Generator().manual_seed(0)
        s, p = (torch.randn(5, n, generator=generator).softmax(1) for n in (4, 3))
        for rows in filled().exchange(s, p):
            close(rows.sum(1), [1] * 5)

    def test_a_higher_temperature_makes_all_images_more_alike(self):
        found = filled(temperature=1e4).resemblance(unit(WEAK)).exp()
        torch.testing.assert_close(found, torch.full((1, 4), 0.25), atol=1e-3, rtol=0)

    def test_equal_seen_and_wanted_shares_change_nothing(self):
        close(filled().align(torch.tensor(P)), P)


class TestLoss:
    def test_the_agreement_is_that_of_the_specification(self):
        close(run(filled(), data())["instance"], AGREEMENT)

    def test_the_soft_pseudo_label_is_that_of_the_specification(self):
        expected = F.cross_entropy(torch.tensor(SCORES), torch.tensor(SMOOTHED)).item()
        close(run(filled(threshold=0.0), data())["pseudo"], expected)

    @pytest.mark.parametrize(("threshold", "mask"), [(0.605, 1), (0.609, 0)])
    def test_the_mask_is_made_from_smoothed_predictions(self, threshold, mask):
        # 0.6 becomes 0.608.
        objective = filled(threshold=threshold).loss(data(), Says(), LATE)
        assert objective.watch["mask"] == mask

    def test_the_agreement_counts_uncertain_images_too(self):
        terms = run(filled(threshold=1.0), data())
        assert terms["pseudo"] == 0
        close(terms["instance"], AGREEMENT)

    def test_weights_multiply_the_terms(self):
        one = run(filled(threshold=0.0), data())
        other = run(filled(threshold=0.0, weight=2.0, instance_weight=3.0), data())
        close(other["pseudo"], 2 * one["pseudo"].item())
        close(other["instance"], 3 * one["instance"].item())

    def test_the_agreement_teaches_the_features_of_the_strong_view_alone(self):
        batch = data()
        run(filled(), batch)["instance"].backward()
        strong = batch.unlabeled.strong[0].grad
        assert strong[:, 3:].any()
        assert not strong[:, :3].any()
        assert batch.unlabeled.weak[0].grad is None
        assert not batch.labeled.weak[0].grad.any()

    def test_pseudo_labels_teach_the_logits_of_the_strong_view_alone(self):
        batch = data()
        run(filled(threshold=0.0), batch)["pseudo"].backward()
        strong = batch.unlabeled.strong[0].grad
        assert strong[:, :3].any()
        assert not strong[:, 3:].any()
        assert batch.unlabeled.weak[0].grad is None
        assert not batch.labeled.weak[0].grad.any()

    def test_the_gradient_is_taken_at_the_memory_that_was_read(self):
        batch = data()
        run(filled(), batch)["instance"].backward()
        feature = torch.tensor(STRONG).requires_grad_()
        similarity = F.normalize(feature) @ unit(KEYS).T / 0.1
        (-(torch.tensor(UNFOLDED) * similarity.log_softmax(1)).sum()).backward()
        torch.testing.assert_close(
            batch.unlabeled.strong[0].grad[:, 3:], feature.grad, atol=1e-4, rtol=1e-4
        )

    def test_the_embedding_head_learns_from_the_agreement_alone(self):
        torch.manual_seed(0)
        algorithm = SimMatch(problem_of(), Says(width=16), threshold=0.0)
        images = [view(torch.randn(4, 3), torch.randn(4, 16)) for _ in range(3)]
        several = batch_of(images[:1], images[1:2], known=images[2], target=CLASSES)
        run(algorithm, several)  # so that some images have been seen
        terms = run(algorithm, several)
        (terms["supervised"] + terms["pseudo"]).backward()
        assert all(p.grad is None for p in algorithm.project.parameters())
        terms["instance"].backward()
        assert all(p.grad.any() for p in algorithm.project.parameters() if p.dim() == 2)


class TestFirstEpoch:
    def test_it_has_no_instance_term(self):
        assert set(run(filled(), data(), START)) == {"supervised", "pseudo"}

    def test_its_pseudo_labels_are_the_predictions(self):
        expected = F.cross_entropy(torch.tensor(SCORES), torch.tensor(P)).item()
        close(run(filled(threshold=0.0), data(), START)["pseudo"], expected)

    @pytest.mark.parametrize(("step", "has"), [(19, False), (20, True)])
    def test_the_instance_term_starts_with_the_second_epoch(self, step, has):
        assert ("instance" in run(filled(), data(), Clock(step, 100, 20))) == has

    def test_it_fills_the_memory(self):
        algorithm = make()
        run(algorithm, data(index=[3, 1], target=[2, 0]), START)
        assert algorithm.classes.tolist() == [-1, 0, -1, 2]


class TestMemory:
    def test_columns_are_normalized_over_the_features(self):
        # spec 3.12, the demonstration of pitfall 1
        algorithm = SimMatch(problem_of(num_labeled=2), Says(), embedding=2, momentum=0.0)
        columns = torch.tensor([[3.0, 0], [4, 5]])
        algorithm.remember(torch.arange(2), torch.tensor([0, 1]), columns.T)
        close(algorithm.keys.T, [[0.6, 0], [0.8, 1]])

    def test_it_follows_embeddings_by_its_momentum(self):
        algorithm = filled()
        run(algorithm, data(known=view([[1, 0, 0], [0, 1, 0]], [[3, 4], [-4, 3]]), index=[2, 0]))
        moved = [
            [0.7 * math.sqrt(0.5) + 0.3 * 0.6, 0.7 * math.sqrt(0.5) + 0.3 * 0.8],
            [0.7 - 0.3 * 0.8, 0.3 * 0.6],
        ]
        close(algorithm.keys[[2, 0]], unit(moved))

    def test_the_first_visit_takes_the_embedding_itself(self):
        algorithm = make()
        run(algorithm, data(known=view([[1, 0, 0], [0, 1, 0]], [[3, 4], [-4, 3]]), index=[2, 0]))
        close(algorithm.keys[[2, 0]], [[0.6, 0.8], [-0.8, 0.6]])

    def test_the_index_is_that_of_the_labeled_set(self):
        algorithm = filled()
        run(algorithm, data(index=[3, 1], row=[19]))
        same = (algorithm.keys == unit(KEYS)).all(1)
        assert same.tolist() == [True, False, True, False]

    def test_classes_come_with_their_images(self):
        algorithm = make()
        for index, target in (([2, 0], [1, 0]), ([3, 1], [2, 1])):
            run(algorithm, data(index=index, target=target), START)
        assert algorithm.classes.tolist() == CLASSES

    def test_a_step_looks_at_the_memory_before_it_moves(self):
        algorithm = filled(momentum=0.0)
        known = view([[1, 0, 0], [0, 1, 0]], [[-1, -1], [-1, 0]])
        batch = data(known=known, index=[0, 2], target=[2, 2])
        close(run(algorithm, batch)["instance"], AGREEMENT)
        close(algorithm.keys[[0, 2]], unit([[-1, -1], [-1, 0]]))

    def test_it_carries_no_gradient(self):
        algorithm = filled()
        run(algorithm, data())
        assert not algorithm.keys.requires_grad

    def test_state_is_one_row_per_labeled_image(self):
        algorithm = SimMatch(problem_of(num_labeled=7), Says())
        assert algorithm.keys.shape == (7, 128)
        assert set(algorithm.state_dict()) >= {"keys", "classes", "align.means", "align.count"}


class TestUnseen:
    def forget(self, *images: int) -> SimMatch:
        algorithm = filled()
        algorithm.classes[list(images)] = -1
        return algorithm

    def test_images_that_were_not_seen_take_no_part_in_resemblances(self):
        found = self.forget(0).resemblance(unit(WEAK)).exp()
        rest = torch.tensor(TEACHER[0][1:]) / sum(TEACHER[0][1:])
        assert found[0, 0] == 0
        close(found[0, 1:], rest)

    def test_images_that_were_not_seen_take_no_part_in_pseudo_labels(self):
        algorithm = self.forget(0)
        _, q = algorithm.exchange(algorithm.resemblance(unit(WEAK)).exp(), torch.tensor(P))
        close(q, [[0.54, 0.9 * 0.3 + 0.1, 0.09]])

    def test_the_agreement_is_that_of_the_images_seen(self):
        algorithm = self.forget(0)
        teacher = torch.tensor(TEACHER[0][1:]) * torch.tensor([0.3, 0.3, 0.1])
        student = torch.tensor(STRONG) / math.hypot(0.8, 0.5) @ unit(KEYS[1:]).T / 0.1
        expected = -(teacher / teacher.sum() * student.log_softmax(1)).sum()
        close(run(algorithm, data())["instance"], expected.item())

    def test_the_gradient_stays_finite(self):
        batch = data()
        run(self.forget(0, 3), batch)["instance"].backward()
        assert batch.unlabeled.strong[0].grad.isfinite().all()
        assert batch.unlabeled.strong[0].grad[:, 3:].any()

    def test_a_memory_without_any_image_stays_finite(self):
        terms = run(make(), data())
        assert all(term.isfinite() for term in terms.values())


class TestOracle:
    def test_steps_are_the_loop_of_the_definition(self):
        generator = torch.Generator().manual_seed(0)
        algorithm = SimMatch(
            problem_of(), Says(), embedding=2, threshold=0.5, smoothing=0.6, window=2
        )
        algorithm.project = Unit()
        keys, classes, means = {}, {}, []
        for step in range(6):
            z, s = (torch.randn(5, 3, generator=generator) for _ in range(2))
            f, g = (torch.randn(5, 2, generator=generator) for _ in range(2))
            k = torch.randn(2, 2, generator=generator)
            index = [step % 4, (step + 1) % 4]
            target = [i % 3 for i in index]
            means.append(z.double().softmax(1).mean(0))
            p = z.double().softmax(1) * (1 / 3 + 1e-6) / (sum(means[-2:]) / len(means[-2:]) + 1e-6)
            p = p / p.sum(1, keepdim=True)
            pseudo, instance = 0.0, 0.0
            for b in range(5):
                pull = looped_pull(p[b].tolist(), f[b], g[b], keys, classes)
                q, agreement = pull if step >= 2 else (p[b].tolist(), 0.0)
                cost = -sum(
                    a * v for a, v in zip(q, s[b].double().log_softmax(0).tolist(), strict=True)
                )
                pseudo += (max(q) >= 0.5) * cost / 5
                instance += agreement / 5
            known = view(torch.zeros(2, 3), k)
            steps = batch_of([view(z, f)], [view(s, g)], known=known, target=target, index=index)
            terms = run(algorithm, steps, Clock(step, 6, 2))
            close(terms["pseudo"], pseudo)
            close(terms.get("instance", torch.zeros(())), instance)
            for i, c, row in zip(index, target, F.normalize(k).double(), strict=True):
                keys[i] = F.normalize(0.7 * keys.get(i, torch.zeros(2)) + 0.3 * row, dim=0)
                classes[i] = c


def looped_pull(p: list[float], weak: Tensor, strong: Tensor, keys: dict, classes: dict):
    """Eqs. (5)-(12) for one image over the labeled images seen so far."""
    if not keys:
        return p, 0.0
    teacher, student = (
        {i: math.exp(float(F.normalize(v.double(), dim=0) @ m) / 0.1) for i, m in keys.items()}
        for v in (weak, strong)
    )
    total = sum(teacher.values())
    q = [
        0.6 * p[c] + 0.4 * sum(v / total for i, v in teacher.items() if classes[i] == c)
        for c in range(3)
    ]
    unfolded = {i: v * p[classes[i]] for i, v in teacher.items()}
    whole, rest = sum(unfolded.values()), sum(student.values())
    return q, -sum(v / whole * math.log(student[i] / rest) for i, v in unfolded.items())


def test_its_defaults_are_those_of_the_specification():
    algorithm = SimMatch(problem_of(), Says())
    assert (algorithm.weight, algorithm.instance_weight) == (1, 1)
    assert (algorithm.threshold, algorithm.temperature) == (0.95, 0.1)
    assert (algorithm.smoothing, algorithm.momentum) == (0.9, 0.7)
    assert algorithm.keys.shape[1] == 128
    assert len(algorithm.align.means) == 32
