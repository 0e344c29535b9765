from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.algorithms.mean_teacher import MeanTeacher
from leaf_fer.types import Batch, Clock

from .saying import (
    KNOWN,
    LATE,
    STRONG,
    TARGET,
    WEAK,
    Says,
    batch_of,
    close,
    gradient,
    problem_of,
    same,
)


def make(model: Says | None = None, **options: object) -> MeanTeacher:
    return MeanTeacher(problem_of(), model or Says(), **options)


def batch() -> Batch:
    return batch_of([WEAK, STRONG])


def consistency(clock: Clock = LATE, rows: slice = slice(None), **options: object) -> Tensor:
    views = batch_of([WEAK[rows], STRONG[rows]])
    return make(**options).loss(views, Says(), clock).terms["consistency"]


def moved(model: Says, scale: float) -> Says:
    """The network after an optimizer step."""
    with torch.no_grad():
        model.scale.fill_(scale)
    return model


class TestConsistency:
    def test_it_gives_the_vector_of_the_specification(self):
        close(consistency(weight=1.0), 0.106991)

    @pytest.mark.parametrize(("row", "expected"), [(0, 0.050164), (1, 0.267515), (2, 0.003293)])
    def test_every_sample_costs_what_the_specification_says(self, row, expected):
        close(consistency(weight=1.0, rows=slice(row, row + 1)), expected)

    def test_its_weight_is_50(self):
        close(consistency() / 50, 0.106991)

    @pytest.mark.parametrize(("step", "share"), [(0, 0), (10, 0.25), (40, 1), (90, 1)])
    def test_it_grows_linearly(self, step, share):
        close(consistency(Clock(step, 100, 10), weight=1.0), share * 0.106991)

    def test_the_first_view_is_the_teachers(self):
        student = Says()
        algorithm = make(student, weight=1.0)
        found = algorithm.loss(batch(), moved(student, -2.0), LATE).terms["consistency"]
        p, q = (-2 * torch.tensor(STRONG)).softmax(1), torch.tensor(WEAK).softmax(1)
        close(found, (p - q).square().mean())


class TestGradient:
    def test_it_is_not_zero(self):
        student = Says()
        term = make(student).loss(batch(), student, LATE).terms["consistency"]
        (found,) = torch.autograd.grad(term, student.scale)
        assert found.abs() > 0.1

    def test_it_reaches_every_sample_of_the_students_view(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["consistency"]
        assert gradient(term, views.unlabeled.weak[1]).abs().amax(1).gt(0).all()

    def test_it_does_not_reach_the_teachers_view(self):
        views = batch()
        term = make().loss(views, Says(), LATE).terms["consistency"]
        assert gradient(term, views.unlabeled.weak[0]) is None

    def test_it_does_not_reach_the_teacher(self):
        student = Says()
        algorithm = make(student)
        algorithm.loss(batch(), student, LATE).total.backward()
        assert student.scale.grad is not None
        assert all(p.grad is None and not p.requires_grad for p in algorithm.parameters())


class TestTeacher:
    def test_it_starts_as_the_student(self):
        student = moved(Says(), 3.0)
        assert make(student).teacher.model.scale == 3

    def test_without_memory_it_is_the_student_after_a_step(self):
        student = Says()
        algorithm = make(student, momentum=0.0)
        algorithm.after_step(moved(student, -2.0))
        assert same(
            list(algorithm.teacher.model.state_dict().values()),
            list(student.state_dict().values()),
        )

    def test_without_memory_it_says_after_a_step_what_the_student_says(self):
        student = Says()
        algorithm = make(student, momentum=0.0)
        algorithm.after_step(moved(student, -2.0))
        views = batch_of([WEAK, WEAK])
        assert algorithm.loss(views, student, LATE).terms["consistency"] == 0

    def test_it_moves_between_steps_only(self):
        student = Says()
        algorithm = make(student)
        algorithm.loss(batch(), moved(student, 2.0), LATE)
        assert algorithm.teacher.model.scale == 1

    def test_it_follows_the_student_slowly(self):
        student = Says()
        algorithm = make(student, momentum=0.05)
        algorithm.after_step(moved(student, 2.0))
        close(algorithm.teacher.model.scale, 0.05 * 1 + 0.95 * 2)

    def test_its_memory_grows_to_the_momentum(self):
        student = Says()
        algorithm = make(student, momentum=0.999)
        expected = 1.0
        for step in range(3):
            decay = (1 + step) / (10 + step)
            expected = decay * expected + (1 - decay) * 2
            algorithm.after_step(moved(student, 2.0))
        close(algorithm.teacher.model.scale, expected)

    def test_after_many_steps_its_memory_is_the_momentum(self):
        student = Says()
        algorithm = make(student, momentum=0.999)
        algorithm.teacher.updates = 10**6
        for _ in range(3):
            algorithm.after_step(moved(student, 2.0))
        close(algorithm.teacher.model.scale, 1.002997)

    def test_it_uses_averaged_statistics(self, problem, new_model, new_batch):
        model = new_model().train()
        algorithm = MeanTeacher(problem, model, weight=1.0)
        views = new_batch(MeanTeacher.views)
        teacher, twin = copy.deepcopy(model).eval(), copy.deepcopy(model)
        found = algorithm.loss(views, model, LATE).terms["consistency"]
        first, second = views.unlabeled.weak
        q, p = teacher(first).probabilities, twin(second).probabilities
        close(found, (p - q).square().mean())

    def test_its_statistics_stay_as_they_were(self, problem, new_model, new_batch):
        model = new_model().train()
        algorithm = MeanTeacher(problem, model)
        before = copy.deepcopy(list(algorithm.buffers()))
        algorithm.loss(new_batch(MeanTeacher.views), model, LATE)
        assert same(list(algorithm.buffers()), before)

    def test_its_statistics_follow_the_students(self, problem, new_model, new_batch):
        model = new_model().train()
        algorithm = MeanTeacher(problem, model, momentum=0.0)
        algorithm.loss(new_batch(MeanTeacher.views), model, LATE)
        algorithm.after_step(model)
        assert same(list(algorithm.buffers()), list(model.buffers()))

    def test_a_momentum_that_never_moves_it_is_refused(self):
        with pytest.raises(ValueError, match="decay"):
            make(momentum=1.0)


class TestPasses:
    def test_the_labeled_term_is_the_mean_cross_entropy(self):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(make().loss(batch(), Says(), LATE).terms["supervised"], expected)

    def test_there_are_two_terms(self):
        assert set(make().loss(batch(), Says(), LATE).terms) == {"supervised", "consistency"}

    def test_the_student_sees_labeled_images_and_the_second_view_apart(self):
        student = Says()
        make().loss(batch(), student, LATE)
        assert student.sizes == [2, 3]
        close(student.seen[1], STRONG)
