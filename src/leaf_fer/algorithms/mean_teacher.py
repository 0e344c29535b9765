"""Mean Teacher: the average of the student's past weights teaches it."""

from __future__ import annotations

from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.memory import Average
from leaf_fer.models import Classifier, frozen_statistics, guess
from leaf_fer.ranges import Fraction, NonNegative, ProperFraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class MeanTeacher(Algorithm):
    """Mean Teacher (Tarvainen & Valpola, 2017, arXiv:1703.01780), section 2.

        L = CE(y, p(a(x))) + lambda r(t) mean (p(a2(u)) - q)^2,    q = p'(a1(u))

        theta' <- a theta' + (1 - a) theta  after every step,    r(t) linear, 1 from t_ramp on

    p' is the teacher, p the student, and both views are weak. (A widely used toolkit compares the
    teacher with itself, so that its term has no gradient; a test looks at ours.)

    Batch-norm: the student sees the labeled and the unlabeled images in passes of their own, and
    only the labeled one moves running statistics. The teacher is in evaluation mode, with averaged
    statistics and without dropout.

    Deviations from the paper: a grows to its value over the first steps (see
    :class:`~leaf_fer.memory.Average`), where the paper takes 0.99, then 0.999.

    Args:
        weight: lambda >= 0; weight of the consistency term.
        momentum: a in [0, 1). 0.999 averages over 1,000 steps: an eighth of 20 epochs of FERPlus
            with batches of 64; for much shorter runs take 0.99.
        ramp: t_ramp as a fraction in [0, 1] of the run.
    """

    views = Views(labeled="w", unlabeled="ww")
    passes = (1, 1, 1)
    state = "teacher network"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 50.0,
        momentum: ProperFraction = 0.999,
        ramp: Fraction = 0.4,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.ramp = ramp
        self.teacher = Average(model, momentum)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the distance from the teacher."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(self.teacher, u.weak[0]).probabilities
        known = model(x.weak[0])
        with frozen_statistics(model):
            p = model(u.weak[1]).probabilities
        weight = self.weight * clock.ramp(self.ramp)
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            consistency=weight * fn.squared_error(p, q),
            watch={"shares": fn.shares(q)},
        )

    def after_step(self, model: nn.Module) -> None:
        """Move the teacher."""
        self.teacher.update(model)
