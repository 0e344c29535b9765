"""The category level of LEAF under the mask and the weight of every method that has pseudo-labels.

Networks, batches and options are those of the tests of each method, which say what it teaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.types import Batch, Clock, Objective

from . import test_adacm as adacm
from . import test_adamatch as adamatch
from . import test_comatch as comatch
from . import test_dash as dash
from . import test_defixmatch as defixmatch
from . import test_fixmatch as fixmatch
from . import test_flexmatch as flexmatch
from . import test_freematch as freematch
from . import test_lion as lion
from . import test_pseudo_label as pseudo_label
from . import test_simmatch as simmatch
from . import test_softmatch as softmatch
from . import test_uda as uda
from .saying import (
    KNOWN,
    KNOWN_STRONG,
    LATE,
    START,
    STRONG,
    WEAK,
    Rows,
    Says,
    ambiguous,
    batch_of,
    close,
    gradient,
    logits_of,
)

Make = Callable[..., PseudoLabeling]


@dataclass(frozen=True)
class Case:
    """A method, what it sees, and the mask under which it teaches pseudo-labels.

    Attributes:
        method: its name in the table of methods.
        about: what is particular about its mask.
        make: options -> the method, in the state in which it sees the batch.
        batch: what it sees.
        mass: probability of the positive classes, which tells this mask and belief from others.
        mask: of the unlabeled images.
        belief: logits of the prediction that the pseudo-labels are made from.
        logits: of the view that learns.
        clock: when it sees the batch.
        weight: lambda, by default.
        ramp: share of the weight at this time.
        others: terms that are neither of labels nor of pseudo-labels.
        hard: whether pseudo-labels are classes, the most probable ones.
        minus: logits, belief and mask of the images whose cost is taken off.
    """

    method: str
    about: str
    make: Make
    batch: Callable[[], Batch]
    mass: float
    mask: Sequence[float] | Tensor
    belief: Rows = field(default_factory=lambda: WEAK)
    logits: Rows = field(default_factory=lambda: STRONG)
    clock: Clock = LATE
    weight: float = 1.0
    ramp: float = 1.0
    others: tuple[str, ...] = ()
    hard: bool = True
    minus: tuple[Rows, Rows, Sequence[float]] | None = None

    def objective(self, batch: Batch | None = None, **options: object) -> Objective:
        algorithm = self.make(**options)
        return algorithm.loss(batch or self.batch(), Says(algorithm.num_classes), self.clock)

    def terms(self, **options: object) -> dict[str, Tensor]:
        return self.objective(**options).terms

    def cost(self) -> Tensor:
        """The ambiguous loss under this mask, from its definition."""
        cost = ambiguous(self.logits, self.belief, self.mask, self.mass)
        if self.minus is not None:
            cost = cost - ambiguous(*self.minus, self.mass)
        return self.ramp * cost


def pair() -> Batch:
    return batch_of([WEAK], [STRONG])


def dash_at(threshold: float) -> Make:
    """After the warm-up, in a run that has this threshold at the start of its first period."""
    return partial(dash.make, threshold, scale=1.0, num_steps=1)


def adacm_at(*thresholds: float) -> Make:
    def make(**options: object) -> adacm.AdaCM:
        algorithm = adacm.make(**options)
        algorithm.thresholds.threshold.copy_(torch.tensor(thresholds))
        return algorithm

    return make


def soft_weights(rows: Rows, **options: object) -> Tensor:
    return softmatch.make(**options).weights(torch.as_tensor(rows).amax(1))


ONE, TWO, ALL = (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)
UNEVEN = [[0.9, 0.05, 0.05], [0.8, 0.15, 0.05], [0.9, 0.04, 0.06], [0.45, 0.3, 0.25]]
DOUBTED = [lion.sure(0.97), lion.P, lion.P[::-1]]
TAUGHT = [lion.STRONG[0], lion.STRONG[0][::-1], lion.STRONG[0]]

# What the rows of a method have in common
PSEUDO_LABEL = partial(Case, "pseudo_label", batch=lambda: batch_of([WEAK]), logits=WEAK, mass=0.97)
FIXMATCH = partial(Case, "fixmatch", batch=pair)
UDA = partial(Case, "uda", batch=pair, hard=False)
DEFIXMATCH = partial(
    Case,
    "defixmatch",
    make=defixmatch.make,
    batch=defixmatch.batch,
    mask=TWO,
    minus=(KNOWN_STRONG, KNOWN, (1.0, 0.0)),
    weight=0.5,
)
DASH = partial(Case, "dash", batch=dash.batch, clock=Clock(10, 100, 10))
COMATCH = partial(
    Case,
    "comatch",
    batch=comatch.smoothing_batch,
    belief=logits_of(comatch.SMOOTHED),
    logits=STRONG[:2],
    mass=0.6,
    clock=START,
    others=("contrast",),
    hard=False,
)
SIMMATCH = partial(
    Case,
    "simmatch",
    batch=simmatch.data,
    belief=logits_of(simmatch.SMOOTHED),
    logits=simmatch.SCORES,
    mass=0.605,
    others=("instance",),
    hard=False,
)
ADAMATCH = partial(
    Case, "adamatch", batch=adamatch.data, belief=logits_of(adamatch.ALIGNED), mass=0.8
)
FLEXMATCH = partial(
    Case,
    "flexmatch",
    batch=flexmatch.data,
    belief=logits_of(flexmatch.GUESSES),
    mass=0.65,
    clock=START,
)
FREEMATCH = partial(
    Case,
    "freematch",
    make=freematch.make,
    logits=freematch.STRONG,
    clock=START,
    others=("fairness",),
)
SOFTMATCH = partial(
    Case,
    "softmatch",
    batch=softmatch.data,
    belief=logits_of(softmatch.Q),
    logits=softmatch.STRONG,
    mass=0.75,
    clock=START,
)
ADACM = partial(
    Case,
    "adacm",
    batch=adacm.data,
    belief=logits_of(adacm.BELIEF),
    mass=0.85,
    clock=START,
    others=("contrast",),
)
LION = partial(
    Case,
    "lion",
    batch=lambda: lion.data(weak=DOUBTED, strong=TAUGHT),
    belief=logits_of(DOUBTED),
    logits=TAUGHT,
    mass=0.98,
    weight=1.2,
)

CASES = [
    PSEUDO_LABEL("one", pseudo_label.make, mask=ONE),
    PSEUDO_LABEL("all", partial(pseudo_label.make, threshold=0.5), mask=ALL),
    PSEUDO_LABEL("ramp", pseudo_label.make, mask=ONE, clock=Clock(10, 100, 10), ramp=0.25),
    UDA("one", partial(uda.make, threshold=0.95), mask=ONE, mass=0.97),
    UDA("two", uda.make, mask=TWO, mass=0.93),
    FIXMATCH("one", fixmatch.make, mask=ONE, mass=0.97),
    FIXMATCH("two", partial(fixmatch.make, threshold=0.8), mask=TWO, mass=0.97),
    FIXMATCH("all", partial(fixmatch.make, threshold=0.5), mask=ALL, mass=0.9),
    FIXMATCH("no-threshold", partial(fixmatch.make, threshold=0.0), mask=ALL, mass=0.9),
    DEFIXMATCH("one-class", mass=0.9),
    DEFIXMATCH("more-classes", mass=0.97),
    DASH("soft", dash_at(0.5), mask=TWO, mass=0.97, hard=False),
    DASH("hard", dash_at(0.05), mask=ONE, mass=0.97),
    COMATCH("all", partial(comatch.filled, threshold=0.0), mask=(1.0, 1.0)),
    COMATCH("one", partial(comatch.filled, threshold=0.57), mask=(1.0, 0.0)),
    SIMMATCH("all", partial(simmatch.filled, threshold=0.0), mask=(1.0,)),
    SIMMATCH("smoothed", partial(simmatch.filled, threshold=0.605), mask=(1.0,)),
    SIMMATCH("none", partial(simmatch.filled, threshold=0.95), mask=(0.0,)),
    ADAMATCH("two", adamatch.make, mask=(1.0, 0.0, 1.0)),
    ADAMATCH("all", partial(adamatch.make, threshold=0.7), mask=ALL),
    ADAMATCH("ramp", adamatch.make, mask=(1.0, 0.0, 1.0), clock=Clock(25, 100, 20), ramp=0.5),
    FLEXMATCH("two", partial(flexmatch.make, flexmatch.COUNTS), mask=TWO),
    FLEXMATCH("equal", partial(flexmatch.make, [6, 6, 6]), mask=ONE),
    FLEXMATCH("start", flexmatch.make, mask=ALL),
    FREEMATCH(
        "all", batch=freematch.data, belief=logits_of(freematch.Q), mask=[1.0] * 4, mass=0.75
    ),
    FREEMATCH(
        "three",
        batch=lambda: freematch.data(UNEVEN),
        belief=logits_of(UNEVEN),
        mask=(*ALL, 0.0),
        mass=0.85,
    ),
    *(
        SOFTMATCH(
            f"momentum-{momentum}",
            partial(softmatch.make, momentum=momentum),
            mask=soft_weights(softmatch.ALIGNED, momentum=momentum),
        )
        for momentum in (0.0, 0.9)
    ),
    # The aligned prediction of the first image is of another class.
    SOFTMATCH(
        "not-aligned",
        softmatch.make,
        batch=lambda: softmatch.data(softmatch.TURNED, STRONG[:2]),
        mask=soft_weights(softmatch.make().align(torch.tensor(softmatch.TURNED))),
        belief=logits_of(softmatch.TURNED),
        logits=STRONG[:2],
        mass=0.45,
    ),
    ADACM("equal", adacm_at(0.79, 0.79, 0.79), mask=adacm.MASK),
    ADACM("own", adacm_at(0.91, 0.69, 0.5), mask=(0.0, 1.0, 1.0)),
    *(
        LION(
            f"{about}-epoch-{number}",
            partial(lion.make, threshold=threshold, rise=0.0),
            mask=mask,
            clock=lion.epoch(number),
            others=others,
        )
        for number, others in ((1, ("negative", "gap")), (20, ()))
        for about, threshold, mask in (("all", 0.6, ALL), ("one", 0.7, ONE))
    ),
]


def name(case: Case) -> str:
    return f"{case.method}-{case.about}"


every_case = pytest.mark.parametrize("case", CASES, ids=name)
every_hard_case = pytest.mark.parametrize("case", [c for c in CASES if c.hard], ids=name)


@every_case
def test_by_default_there_is_none(case):
    assert set(case.terms()) == {"supervised", "pseudo", *case.others}


@every_case
def test_it_replaces_the_pseudo_labels_under_their_mask(case):
    terms = case.terms(category="replace", mass=case.mass)
    assert set(terms) == {"supervised", "category", *case.others}
    close(terms["category"], case.weight * case.cost())


@every_case
def test_it_leaves_the_other_terms_as_they_are(case):
    plain, replaced = case.terms(), case.terms(category="replace", mass=case.mass)
    assert all(replaced[k] == plain[k] for k in ("supervised", *case.others))


@every_case
def test_it_has_the_weight_of_the_method(case):
    terms = case.terms(category="replace", mass=case.mass, weight=3.0)
    close(terms["category"], 3 * case.cost())


@every_case
def test_it_can_be_added(case):
    terms = case.terms(category="add", mass=case.mass)
    assert set(terms) == {"supervised", "pseudo", "category", *case.others}
    assert terms["pseudo"] == case.terms()["pseudo"]
    assert terms["category"] == case.terms(category="replace", mass=case.mass)["category"]
    close(terms["category"], case.weight * case.cost())
    assert bool(terms["category"]) == any(case.mask)


@every_case
def test_by_default_its_mass_is_nine_tenths(case):
    assert case.terms(category="add") == case.terms(category="add", mass=0.9)


@every_hard_case
def test_without_mass_it_is_the_cross_entropy_with_the_pseudo_label(case):
    plain, replaced = case.objective(), case.objective(category="replace", mass=0.0)
    close(replaced.terms["category"], plain.terms["pseudo"].item())
    close(replaced.total, plain.total.item())


@every_case
def test_only_the_view_of_the_pseudo_labels_is_taught_and_only_under_the_mask(case):
    batch = case.batch()
    term = case.objective(batch, category="replace", mass=case.mass).terms["category"]
    learns, *others = [*batch.unlabeled.strong, *batch.unlabeled.weak]
    positive = fn.candidate_set(torch.as_tensor(case.belief).softmax(1), case.mass)
    taught = (torch.as_tensor(case.mask) > 0) & ~positive.all(1)
    assert gradient(term, learns).any(1).tolist() == taught.tolist()
    assert all(found is None or not found.any() for found in (gradient(term, v) for v in others))


class TestUDA:
    def test_classes_come_from_the_prediction_before_sharpening(self):
        sharp, plain = ((torch.tensor(WEAK) / t).softmax(1) for t in (0.4, 1))
        assert not torch.equal(fn.candidate_set(sharp, 0.93), fn.candidate_set(plain, 0.93))
        terms = uda.objective(category="replace", mass=0.93).terms
        close(terms["category"], ambiguous(STRONG, WEAK, TWO, 0.93))


class TestDeFixMatch:
    @pytest.mark.parametrize("category", ["replace", "add"])
    def test_with_equal_batches_it_is_nothing(self, category):
        algorithm = defixmatch.make(category=category)
        found = algorithm.loss(defixmatch.with_equal_batches(), Says(), LATE)
        assert found.terms["category"] == 0


class TestDash:
    def test_during_the_warmup_there_is_none(self):
        terms = dash.make(category="replace").loss(dash.batch(), Says(), START).terms
        assert set(terms) == {"supervised"}
