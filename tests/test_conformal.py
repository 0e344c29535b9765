"""Sets of classes with a promise."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from leaf_fer.conformal import Calibration, describe_sets, tails

CLASSES = tuple("abcde")


def world(count, seed, sure=3.0):
    """Faces with noisy scores, and a network that is surer of them than it should be."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    targets = rng.choice(5, count, p=shares)
    scores = rng.standard_normal((count, 5))
    scores[np.arange(count), targets] += np.array([2.2, 1.5, 1.2, 1.0, 0.6])[targets]
    p = np.exp(sure * scores)
    return p / p.sum(axis=1, keepdims=True), targets


def by_hand(row):
    order = sorted(range(len(row)), key=lambda c: (-row[c], c))
    below = [math.fsum(row[c] for c in order[order.index(k) + 1 :]) for k in range(len(row))]
    return [1 if k == order[0] else tail for k, tail in enumerate(below)]


def test_a_tail_is_the_sum_of_all_less_probable_classes():
    p, _ = world(50, 0)
    p[0] = 0.2
    np.testing.assert_allclose(tails(p), [by_hand(row) for row in p], rtol=1e-12, atol=0)


def test_tails_keep_digits_where_the_network_is_sure():
    row = np.array([[1.0, 1e-12, 3e-13]], dtype=np.float32)
    np.testing.assert_allclose(tails(row), [[1, 3e-13, 0]], rtol=1e-6)


@pytest.mark.parametrize(("count", "coverage", "below"), [(20, 0.9, 2), (9, 0.9, 1), (99, 0.95, 5)])
def test_the_threshold_is_the_order_statistic_of_the_theorem(count, coverage, below):
    scores = (1 + np.random.default_rng(1).permutation(count)) / count / 10
    known = Calibration(scores, np.zeros(count, dtype=np.int64))
    edge = np.sort(scores)[below - 1]
    for tail, there in ((edge, True), (edge - 1e-6, False)):
        p = np.array([[0.6 - tail, 0.4, tail]])  # the tail of the second class
        assert known.sets(p, coverage)[0, :2].tolist() == [True, there]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("per_class", [False, True])
def test_new_faces_are_covered_as_promised_and_not_much_more(coverage, per_class):
    found, each = [], []
    for seed in range(20):
        p, y = world(1500, seed)
        known = Calibration.of(p, y)
        new, truth = world(1500, 100 + seed)
        facts = describe_sets(known.sets(new, coverage, per_class=per_class), truth, CLASSES)
        found.append(facts["coverage"])
        each.append([one["coverage"] for one in facts["per_class"].values()])
    assert coverage - 0.01 < np.mean(found) < coverage + 0.03
    lowest = np.mean(each, axis=0).min()
    assert (lowest > coverage - 0.02) == per_class


def test_without_enough_faces_all_classes_are_in():
    p, y = world(5, 0)
    assert Calibration.of(p, y).sets(p, 0.9).all()
    p, y = world(200, 0)
    known = Calibration.of(p, np.where(y == 4, 0, y))
    chosen = known.sets(p, 0.9, per_class=True)
    assert chosen[:, 4].all()
    assert not chosen[:, 0].all()


def test_a_set_is_never_empty_and_grows_with_the_promise():
    p, y = world(800, 3)
    known = Calibration.of(p, y)
    sizes = [known.sets(p, c).sum(axis=1) for c in (0.01, 0.3, 0.6, 0.9, 0.99)]
    assert sizes[0].min() == 1
    assert all((b >= a).all() for a, b in pairwise(sizes))


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, math.nan])
def test_a_promise_lies_between_0_and_1(coverage):
    p, y = world(20, 0)
    with pytest.raises(ValueError, match="expected 0 < coverage < 1"):
        Calibration.of(p, y).sets(p, coverage)


def test_it_goes_through_json_and_refuses_something_else():
    p, y = world(30, 0)
    known = Calibration.of(p, y, "here")
    again = Calibration.from_dict(json.loads(json.dumps(known.to_dict())))
    np.testing.assert_array_equal(again.scores, known.scores)
    np.testing.assert_array_equal(again.targets, known.targets)
    assert again.origin == "here"
    with pytest.raises(ValueError, match="scores for"):
        Calibration.from_dict({"origin": "", "scores": [0.1], "targets": [1, 2]})


def test_sets_are_described_by_class():
    chosen = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    found = describe_sets(chosen, np.array([0, 0, 0]), ("a", "b", "c"))
    assert found["coverage"] == pytest.approx(2 / 3)
    assert (found["size"], found["single"]) == (pytest.approx(5 / 3), pytest.approx(1 / 3))
    assert found["per_class"]["a"] == {k: found[k] for k in ("coverage", "size", "single")}
    assert found["per_class"]["b"] is None
