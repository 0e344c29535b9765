"""What FixMatch and its relatives have in common: a weak view that is guessed, a strong one taught.

Methods, batches and times are those of the table in test_category.py.
"""

from __future__ import annotations

import pytest
import torch.nn.functional as F

from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.types import Views

from .saying import Says, close
from .test_category import CASES, name

OF_THE_WEAK_VIEW = {
    "pseudo_label",
    "uda",
    "fixmatch",
    "dash",
    "comatch",
    "simmatch",
    "flexmatch",
    "freematch",
    "softmatch",
}
"""Methods whose labeled term is the plain one, by default."""
GUESSING = OF_THE_WEAK_VIEW - {"pseudo_label"} | {"defixmatch"}
"""Methods that look at the weak view apart and at all others together."""


def of(methods: set[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [c for c in CASES if c.method in methods], ids=name)


@of(GUESSING)
def test_the_weak_view_has_a_pass_of_its_own_without_gradient(case):
    batch, algorithm = case.batch(), case.make()
    model = Says(algorithm.num_classes)
    algorithm.loss(batch, model, case.clock)
    x, u = batch.labeled, batch.unlabeled
    together = [*x.weak, *x.strong, *u.strong]
    assert model.sizes == [len(u.weak[0]), sum(map(len, together))]
    assert model.grad_enabled == [False, True]


@of(GUESSING | {"adamatch"})
def test_no_gradient_reaches_the_weak_view(case):
    batch = case.batch()
    case.objective(batch).total.backward()
    assert batch.unlabeled.weak[0].grad is None


@of(OF_THE_WEAK_VIEW)
def test_the_labeled_term_is_the_mean_cross_entropy(case):
    batch = case.batch()
    x = batch.labeled
    expected = F.cross_entropy(x.weak[0][:, :3], x.target)
    close(case.objective(batch).terms["supervised"], expected.item())


@pytest.mark.parametrize("method", sorted(GUESSING - {"comatch", "defixmatch"} | {"lion"}))
def test_it_asks_for_a_weak_and_a_strong_view(method):
    assert ALGORITHMS[method].views == Views(labeled="w", unlabeled="ws")
