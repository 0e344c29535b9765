from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from leaf_fer.metrics import (
    balanced_error,
    calibration_error,
    confusion_matrix,
    recall_errors,
    reliability,
    separation,
    summarize,
)

NAMES = tuple("abcdefg")


def predictions(count: int, seed: int, missing: tuple[int, ...] = ()):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, 7))
    targets = rng.choice([c for c in range(7) if c not in missing], count)
    logits[np.arange(count), targets] += 1.5
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), targets


def one_hot(labels: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


def test_it_gives_the_vector_of_the_specification():
    found = summarize(
        one_hot([0, 0, 0, 1, 1, 0, 2], 3), np.array([0, 0, 0, 0, 1, 1, 2]), ("a", "b", "c")
    )
    assert found["overall_accuracy"] == pytest.approx(0.714286, abs=1e-6)
    assert found["balanced_accuracy"] == 0.75


@pytest.mark.parametrize(("seed", "missing"), [(0, ()), (1, (3,)), (2, (0, 6))])
def test_it_agrees_with_scikit_learn(seed, missing):
    p, y = predictions(300, seed, missing)
    said = p.argmax(1)
    found = summarize(p, y, NAMES)
    assert found["overall_accuracy"] == pytest.approx(sk.accuracy_score(y, said))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn notes the classes that do not occur
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, said))
        f1 = sk.f1_score(y, said, average="macro", zero_division=0)
        recall = sk.recall_score(y, said, labels=range(7), average=None, zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    for c, name in enumerate(NAMES):
        expected = None if c in missing else pytest.approx(recall[c])
        assert found["per_class_recall"][name] == expected
    matrix = sk.confusion_matrix(y, said, labels=range(7))
    assert found["confusion_matrix"] == matrix.tolist()
    assert list(found["predicted_shares"].values()) == pytest.approx(matrix.sum(0) / 300)
    assert found["count"] == 300


def test_rows_of_the_confusion_matrix_are_true_classes():
    found = confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 2]), 3)
    assert found.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_a_class_that_does_not_occur_has_no_recall_and_no_weight():
    found = summarize(one_hot([0, 1], 3), np.array([0, 0]), ("a", "b", "c"))
    assert found["per_class_recall"] == {"a": 0.5, "b": None, "c": None}
    assert found["balanced_accuracy"] == 0.5


def test_a_collapse_is_seen_in_the_shares():
    found = summarize(one_hot([1] * 6, 3), np.array([0, 0, 1, 1, 2, 2]), ("a", "b", "c"))
    assert found["predicted_shares"] == {"a": 0, "b": 1, "c": 0}
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_result_is_ready_for_json(dtype):
    p, y = predictions(20, 0)
    assert json.loads(json.dumps(summarize(p.astype(dtype), y, NAMES)))["count"] == 20


class TestSeparation:
    def by_hand(self, p, y) -> float:
        areas = []
        for i in set(y):
            for j in set(y) - {i}:
                pairs = [(a, b) for a in p[y == i, i] for b in p[y == j, i]]
                areas.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
        return sum(areas) / len(areas)

    @pytest.mark.parametrize("missing", [(), (0, 6)])
    def test_it_is_the_loop_over_pairs_of_samples(self, missing):
        p, y = predictions(120, 5, missing)
        p = p.round(2)  # so that there are ties
        assert separation(p, y) == pytest.approx(self.by_hand(p, y))

    def test_it_agrees_with_scikit_learn(self):
        p, y = predictions(300, 0)
        expected = sk.roc_auc_score(y, p, multi_class="ovo", average="macro")
        assert separation(p, y) == pytest.approx(expected)
        assert summarize(p, y, NAMES)["auc"] == separation(p, y)

    def test_its_ends_are_those_of_order_not_of_thresholds(self):
        p = np.array([[0.9, 0.1], [0.8, 0.2]])
        assert separation(p, np.array([0, 1])) == 1
        assert separation(p, np.array([1, 0])) == 0
        assert separation(np.full((4, 2), 0.5), np.array([0, 0, 0, 1])) == 0.5

    def test_a_single_class_has_nobody_to_be_told_from(self):
        assert separation(one_hot([0, 1], 2), np.array([1, 1])) is None


class TestCalibrationError:
    def by_hand(self, confidence, correct, bins: int) -> float:
        total = 0.0
        for b in range(bins):
            chosen = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
            if chosen:
                accuracy = sum(bool(correct[i]) for i in chosen) / len(chosen)
                mean = sum(confidence[i] for i in chosen) / len(chosen)
                total += len(chosen) / len(confidence) * abs(accuracy - mean)
        return total

    @pytest.mark.parametrize("bins", [1, 10, 15])
    def test_it_is_the_loop_over_bins(self, bins):
        p, y = predictions(500, 3)
        confidence, correct = p.max(1), p.argmax(1) == y
        expected = self.by_hand(confidence, correct, bins)
        assert calibration_error(confidence, correct, bins) == pytest.approx(expected)

    def test_bins_are_closed_above(self):
        # 0.5 belongs to (0, 0.5]: one bin with accuracy 0.5 and confidence 0.5.
        found = calibration_error(np.array([0.5, 0.5]), np.array([True, False]), 2)
        assert found == 0

    def test_certain_and_right_is_perfect(self):
        assert calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0

    def test_certain_and_wrong_is_as_bad_as_can_be(self):
        assert calibration_error(np.ones(4), np.zeros(4, dtype=bool)) == 1

    def test_no_confidence_at_all_falls_into_the_first_bin(self):
        assert calibration_error(np.zeros(2), np.array([True, True])) == 1


def test_reliability_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(200), rng.random(200) < 0.6
    count, accuracy, sure = reliability(confidence, right, 15)
    assert count.sum() == 200
    there = count > 0
    gap = (np.abs(accuracy - sure)[there] * count[there]).sum() / 200
    assert gap == pytest.approx(calibration_error(confidence, right, 15))


def test_the_error_of_balanced_accuracy_is_its_spread_over_draws_of_faces():
    rng = np.random.default_rng(0)
    counts, recall = np.array([400, 60, 150]), np.array([0.9, 0.3, 0.6])
    drawn = rng.binomial(counts, recall, (20000, 3)) / counts
    hits = (counts * recall).round().astype(int)
    matrix = np.diag(hits)
    matrix[:, 0] += counts - hits
    matrix[0, 0], matrix[0, 1] = hits[0], counts[0] - hits[0]
    assert balanced_error(matrix) == pytest.approx(drawn.mean(axis=1).std(), rel=0.03)


def test_a_class_that_is_always_right_has_an_error_and_one_without_faces_has_none():
    errors = recall_errors(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 50]]))
    assert np.isnan(errors[1])
    assert errors[0] > errors[2] > 0
    share = 6 / 7
    assert errors[0] == pytest.approx(np.sqrt(share * (1 - share) / 5))
