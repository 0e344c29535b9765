"""One row per method: its terms for the shared inputs of the specification, worked out by hand.

A new method adds a row here. What is particular to a method is tested in a file of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from leaf_fer import functional as fn
from leaf_fer.algorithms import ALGORITHMS

from .saying import (
    KNOWN,
    KNOWN_STRONG,
    LATE,
    STRONG,
    WEAK,
    Says,
    batch_of,
    close,
    problem_of,
    view,
)

# Method, options, terms. Weak view, strong view and labeled images are TV-A (spec 0.3) and those of
# spec 3.9; where a method has two weak views and no strong one, the second is the strong TV-A. All
# at a step where every ramp has ended. Mixup mixes nothing, and features play no part.
VECTORS: list[tuple[str, dict[str, Any], dict[str, float]]] = [
    ("supervised", {}, {"supervised": 0.648151}),
    ("pi_model", {}, {"supervised": 0.648151, "consistency": 1.069910}),
    ("pseudo_label", {"threshold": 0.95, "weight": 1.0}, {"pseudo": 0.011992}),
    ("vat", {}, {"supervised": 0.648151, "entropy": 0.029582}),
    ("uda", {}, {"supervised": 0.648151, "pseudo": 0.637241}),
    ("mean_teacher", {}, {"supervised": 0.648151, "consistency": 5.349550}),
    ("mixmatch", {}, {"supervised": 0.648151, "consistency": 3.175985}),
    (
        "remixmatch",
        {"rotation_weight": 0.0},
        {"supervised": 0.648151, "mixed": 1.339319, "anchor": 0.517632},
    ),
    ("fixmatch", {}, {"supervised": 0.648151, "pseudo": 0.139010}),
    ("defixmatch", {"threshold": 0.8}, {"supervised": 0.925532, "pseudo": 0.157185}),
    ("dash", {}, {"supervised": 0.648151, "pseudo": 0.139010}),
    ("comatch", {"threshold": 0.5}, {"supervised": 0.648151, "pseudo": 1.128706}),
    ("simmatch", {"threshold": 0.8, "smoothing": 1.0}, {"pseudo": 0.241303}),
    ("adamatch", {}, {"supervised": 0.925532, "pseudo": 0.637326}),
    ("flexmatch", {}, {"supervised": 0.648151, "pseudo": 0.837184}),
    ("freematch", {}, {"supervised": 0.648151, "pseudo": 0.837184, "fairness": -0.096972}),
    ("softmatch", {}, {"supervised": 0.648151, "pseudo": 0.837184}),
    ("adacm", {}, {"supervised": 0.324076, "pseudo": 0.637326}),
    ("lion", {}, {"supervised": 1.037042, "pseudo": 0.166812}),
    ("leaf", {}, {"supervised": 0.648151, "category": 0.637326}),
    ("leaf_plus", {}, {"supervised": 0.925532, "category": 0.637326}),
    ("leaf_literal", {}, {"supervised": 0.648151, "category": 0.234088}),
    ("leaf_release", {}, {"supervised": 0.324076}),
]


def test_every_method_has_a_row():
    assert [key for key, _, _ in VECTORS] == list(ALGORITHMS)


@pytest.mark.parametrize(("key", "options", "terms"), VECTORS, ids=[row[0] for row in VECTORS])
def test_a_method_gives_the_terms_worked_out_by_hand(key, options, terms, monkeypatch):
    monkeypatch.setattr(fn, "mixing_weights", lambda *_: torch.ones(()))
    torch.manual_seed(0)
    model = Says()
    algorithm = ALGORITHMS[key](problem_of(), model, **options)
    weak, strong = (view(rows, torch.ones(3, 1)) for rows in (WEAK, STRONG))
    views = algorithm.views.unlabeled
    guides = [weak, strong if "s" not in views else weak][: views.count("w")]
    known, known_strong = (view(rows, torch.ones(2, 1)) for rows in (KNOWN, KNOWN_STRONG))
    batch = batch_of(
        guides or [weak[:0]],
        [strong] * views.count("s"),
        known=known,
        known_strong=known_strong,
    )
    found = algorithm.loss(batch, model, LATE).terms
    assert set(terms) <= set(found)
    for name, value in terms.items():
        close(found[name], value)
