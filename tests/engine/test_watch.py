"""Whether pseudo-labels are right is written down, and changes nothing."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from leaf_fer.build import open_data
from leaf_fer.data.split import Split
from leaf_fer.data.table import UNKNOWN, FaceTable
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import evaluate
from leaf_fer.engine.loop import Interrupted
from leaf_fer.engine.record import RunFolder
from leaf_fer.engine.watch import THRESHOLDS, draw, quality
from leaf_fer.errors import UserError
from leaf_fer.models import load_model
from leaf_fer.training import execute

CLASSES = ("anger", "fear", "happiness")


def share(flags):
    return sum(flags) / len(flags) if flags else None


def candidates(p, mass):
    """The fewest most probable classes that reach the mass, one by one."""
    chosen, total = [], 0.0
    for place in sorted(range(len(p)), key=lambda place: -p[place]):
        if chosen and total >= mass:
            break
        chosen.append(place)
        total += p[place]
    return chosen


@pytest.mark.parametrize("mass", [0.0, 0.6, 0.9])
def test_quality_is_what_counting_one_by_one_finds(mass):
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.2, 0.3, 0.25], size=400).astype(np.float32)
    truth = np.array([rng.choice(3, p=row) for row in (p + 0.2) / (p + 0.2).sum(1)[:, None]])
    found = quality(p, truth, CLASSES, mass)
    said = [max(range(3), key=lambda c, row=row: row[c]) for row in p]
    right = [guess == true for guess, true in zip(said, truth, strict=True)]
    assert found["count"] == 400
    assert found["accuracy"] == pytest.approx(share(right))
    assert list(found["coverage"]) == list(found["precision"]) == [f"{t:g}" for t in THRESHOLDS]
    for least in THRESHOLDS:
        sure = [row.max() >= least for row in p]
        assert found["coverage"][f"{least:g}"] == pytest.approx(share(sure))
        precision = share([yes for yes, one in zip(right, sure, strict=True) if one])
        assert found["precision"][f"{least:g}"] == pytest.approx(precision)
    assert found["per_class_precision"] == {
        name: pytest.approx(share([r for r, s, row in zip(right, said, p, strict=True)
                                   if s == number and row.max() >= 0.95]))
        for number, name in enumerate(CLASSES)
    }  # fmt: skip
    sets = [candidates(row.tolist(), mass) for row in p]
    assert found["candidates"]["mass"] == mass
    assert found["candidates"]["size"] == pytest.approx(np.mean([len(chosen) for chosen in sets]))
    hits = share([true in chosen for true, chosen in zip(truth, sets, strict=True)])
    assert found["candidates"]["hits"] == pytest.approx(hits)


def test_a_confidence_at_the_threshold_counts_and_no_image_has_no_precision():
    p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], dtype=np.float32)
    found = quality(p, np.array([0, 0]), CLASSES)
    assert found["coverage"] == {"0.5": 1, "0.7": 0, "0.8": 0, "0.9": 0, "0.95": 0}
    assert found["precision"] == {"0.5": 0.5, "0.7": None, "0.8": None, "0.9": None, "0.95": None}
    assert found["per_class_precision"] == dict.fromkeys(CLASSES)


def table(order=range(40)):
    """Forty training images, of which every fourth has no class."""
    targets = np.array([UNKNOWN if n % 4 == 0 else n % 3 for n in order])
    names = [f"{n:02}.png" for n in order]
    return FaceTable(CLASSES, names, targets, np.zeros(len(names), dtype=np.uint8))


def pool(labeled, unlabeled):
    none = np.empty(0, dtype=np.int64)
    labeled = np.array(labeled, dtype=np.int64)
    return Split(labeled, labeled % 3, np.array(unlabeled), none, none, none, 0, "equal")


def test_images_are_drawn_that_have_a_class_and_no_label():
    rows = draw(table(), pool([1, 2], range(1, 40)), 100, seed=0)  # the labeled ones in the pool
    assert rows.tolist() == [n for n in range(3, 40) if n % 4]
    few = draw(table(), pool([1, 2], range(1, 40)), 5, seed=0)
    assert len(few) == 5
    assert set(few) < set(rows)
    assert np.all(np.diff(few) > 0)


def test_a_larger_draw_contains_the_smaller_and_another_seed_draws_others():
    split = pool([], range(40))
    small, large, other = (draw(table(), split, n, s) for n, s in ((6, 1), (12, 1), (6, 2)))
    assert set(small) < set(large)
    assert set(small) != set(other)


def test_the_draw_does_not_depend_on_the_order_of_the_table():
    backwards = list(range(39, -1, -1))
    one, two = table(), table(backwards)
    first, second = (draw(t, pool([], range(40)), 8, seed=3) for t in (one, two))
    assert {one.names[row] for row in first} == {two.names[row] for row in second}


def test_images_without_a_class_cannot_be_watched():
    message = r"--watch-unlabeled 9: .* none of its 2 unlabeled training images; expected 0"
    with pytest.raises(UserError, match=message):
        draw(table(), pool([1], [0, 4]), 9, seed=0)


def watched(out):
    return [line for line in RunFolder(out).lines() if "unlabeled" in line]


def losses(out):
    return [(line["step"], line["loss"]) for line in RunFolder(out).lines() if "loss" in line]


@pytest.mark.parametrize("method", ["leaf", "flexmatch", "adacm"])
def test_watching_changes_no_bit_of_the_training(tiny, tmp_path, method):
    one, two = tmp_path / "one", tmp_path / "two"
    config = {"method": method, "dropout": 0.3, "steps": 8, "epoch_steps": 2, "prefetch": True}
    execute(tiny(**config), one)
    execute(tiny(**config, watch_unlabeled=20), two)
    assert losses(one) == losses(two)
    assert (len(watched(one)), len(watched(two))) == (0, 4)
    expected, got = (load_file(RunFolder(out).checkpoint) for out in (one, two))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_it_is_the_averaged_network_that_is_watched(tiny, tmp_path):
    given = {"watch_unlabeled": 30, "seed": 5, "split_seed": 3, "lr": 0.01}
    config = tiny(method="fixmatch", mass=0.7, **given)
    execute(config, tmp_path / "run")
    lines = watched(tmp_path / "run")
    assert [(line["step"], line["epoch"]) for line in lines] == [(3, 1), (6, 2)]
    data = open_data(config.settings, tmp_path / "run" / "split.json")
    rows = draw(data.table, data.split, 30, seed=3)
    model, card = load_model(tmp_path / "run" / "model")
    images = Images(data.store.images, torch.device("cpu"))
    p = evaluate(model, images, rows, batch_size=100, autocast=False)
    expected = quality(p, data.table.targets[rows], card.classes, 0.7)
    assert lines[-1]["unlabeled"] == expected
    assert lines[0]["unlabeled"] != expected


def test_what_is_watched_without_a_mass_of_the_method_has_that_of_the_paper(tiny, tmp_path):
    execute(tiny(method="supervised", watch_unlabeled=5, steps=1), tmp_path / "run")
    (line,) = watched(tmp_path / "run")
    assert line["unlabeled"]["count"] == 5
    assert line["unlabeled"]["candidates"]["mass"] == 0.9


def test_a_run_that_goes_on_watches_the_same_images(tiny, tmp_path, monkeypatch):
    config = tiny(method="fixmatch", watch_unlabeled=20, steps=9, epoch_steps=3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    execute(config, whole)
    steps = iter(range(9))

    @contextmanager
    def stopping_in_the_fifth_step():
        yield lambda: next(steps) == 4

    with monkeypatch.context() as patch:
        patch.setattr("leaf_fer.run.stopping", stopping_in_the_fifth_step)
        with pytest.raises(Interrupted):
            execute(config, cut)
    assert len(watched(cut)) == 1
    execute(tiny(), cut, resume=True)
    assert watched(cut) == watched(whole)
    assert len(watched(cut)) == 3


def test_watching_is_no_time_of_training(tiny, tmp_path, monkeypatch):
    now = 0.0

    def tick(seconds=0.001):
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr("leaf_fer.engine.hooks.time", SimpleNamespace(perf_counter=tick))
    monkeypatch.setattr("leaf_fer.run.watch.quality", lambda *_: {"ends": tick(100)})
    result = execute(tiny(method="supervised", watch_unlabeled=5), tmp_path / "run")
    assert len(watched(tmp_path / "run")) == 2
    assert result["seconds"] < 1


def test_a_run_that_cannot_watch_does_not_start(tiny, tmp_path):
    config = tiny(method="supervised", labels=None, watch_unlabeled=20)
    with pytest.raises(UserError, match=r"--watch-unlabeled 20: .* none of its 0 unlabeled"):
        execute(config, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").started
