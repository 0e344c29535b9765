"""Which passes of a network in training move its batch-norm statistics."""

from __future__ import annotations

import pytest
import torch

from leaf_fer import functional as fn
from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.types import Unlabeled

from .saying import LATE, START, same, statistics_after


@pytest.mark.parametrize(
    ("key", "clock"),
    [
        ("pseudo_label", LATE),
        ("pi_model", LATE),
        ("mean_teacher", LATE),
        ("vat", LATE),
        ("dash", START),  # its warm-up
    ],
)
def test_only_the_labeled_pass_moves_them(key, clock, problem, new_model, new_batch):
    model = new_model().train()
    batch = new_batch(ALGORITHMS[key].views)
    expected = statistics_after(model, batch.labeled.weak[0])
    ALGORITHMS[key](problem, model).loss(batch, model, clock)
    assert same(list(model.buffers()), expected)


@pytest.mark.parametrize(
    "key",
    [
        "fixmatch",
        "uda",
        "defixmatch",
        "dash",
        "comatch",
        "simmatch",
        "flexmatch",
        "freematch",
        "softmatch",
    ],
)
def test_the_weak_pass_and_the_joint_pass_move_them(key, problem, new_model, new_batch):
    model = new_model().train()
    ALGORITHMS[key](problem, model).loss(new_batch(ALGORITHMS[key].views), model, LATE)
    assert model.backbone[1].num_batches_tracked == 2


def weak_views(u: Unlabeled) -> tuple[torch.Tensor, ...]:
    return u.weak


def strong_views_and_the_weak_one(u: Unlabeled) -> tuple[torch.Tensor, ...]:
    return (*u.strong, *u.weak)


@pytest.mark.parametrize(
    ("key", "options", "mixed_views"),
    [
        ("mixmatch", {}, weak_views),
        ("remixmatch", {"rotation_weight": 0.5}, strong_views_and_the_weak_one),
        ("remixmatch", {"rotation_weight": 0.0}, strong_views_and_the_weak_one),
    ],
)
def test_only_the_mixed_labeled_pass_moves_them(
    key, options, mixed_views, monkeypatch, problem, new_model, new_batch
):
    model = new_model().train()
    batch = new_batch(ALGORITHMS[key].views)
    pool = torch.cat([batch.labeled.weak[0], *mixed_views(batch.unlabeled)])
    partners = torch.arange(len(pool)).roll(9)
    monkeypatch.setattr(fn, "mixing_weights", lambda *_: torch.tensor(0.7))
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: partners)
    expected = statistics_after(model, fn.mixup(pool, partners, torch.tensor(0.7))[:8])
    ALGORITHMS[key](problem, model, **options).loss(batch, model, LATE)
    assert same(list(model.buffers()), expected)
