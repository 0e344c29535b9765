"""The numbers about votes, each against a plain loop or a case that can be seen through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leaf_fer.report.ambiguity import (
    BINS,
    accuracy_by_agreement,
    annotator_facts,
    confused_pairs,
    distance,
    error_facts,
    in_words,
    set_facts,
    smallest_sets,
)

CLASSES = ("joy", "fear", "awe", "pain")


def drawn(count=400, seed=0):
    """Votes of ten people with the class of most as truth, and a model that is no better."""
    generator = np.random.default_rng(seed)
    votes = generator.multinomial(10, generator.dirichlet(np.full(4, 0.4), count))
    belief = generator.dirichlet(np.full(4, 0.5), count).astype(np.float32)
    return votes, votes.argmax(axis=1), belief


def test_the_smallest_set_is_that_of_a_plain_loop():
    votes, _, _ = drawn()
    for mass in (0, 0.5, 0.9, 0.95, 1):
        expected = []
        for row in votes:
            left, size = sorted(row, reverse=True), 1
            while 100 * sum(left[:size]) < round(100 * mass) * sum(row):
                size += 1
            expected.append(size)
        assert smallest_sets(votes, mass).tolist() == expected


def test_seven_and_two_of_ten_votes_are_a_mass_of_nine_tenths():
    assert 0.7 + 0.2 < 0.9
    assert smallest_sets(np.array([[7, 2, 1, 0]]), 0.9) == 2


def test_annotators_that_agree_have_no_entropy_and_half_of_them_a_bit():
    agreed = annotator_facts(np.array([[10, 0, 0, 0]]))
    assert agreed == {"top_share": 1, "entropy": 0, "classes": {"1": 1, "2": 1}}
    halves = annotator_facts(np.array([[5, 4, 0, 1], [5, 5, 0, 0], [1, 1, 0, 0]]))
    assert halves["top_share"] == pytest.approx(0.5)
    assert halves["classes"] == pytest.approx({"1": 7 / 3, "2": 4 / 3})
    assert annotator_facts(np.array([[1, 1, 0, 0]]))["entropy"] == pytest.approx(math.log(2))


def test_confused_pairs_are_sorted_and_say_how_often_annotators_agree_with_them():
    votes = np.array([[6, 4, 0, 0], [8, 2, 0, 0], [10, 0, 0, 0], [1, 9, 0, 0], [9, 0, 0, 0]])
    targets, predictions = np.array([0, 0, 0, 1, 0]), np.array([1, 0, 1, 2, 0])
    first, second = confused_pairs(predictions, targets, votes, CLASSES)
    assert first == {
        "true": "joy", "predicted": "fear", "count": 2, "rate": 0.5,
        "vote_share": pytest.approx(0.2), "vote_share_of_class": pytest.approx(0.15), "voted": 0.5,
    }  # fmt: skip
    assert (second["true"], second["predicted"], second["rate"]) == ("fear", "awe", 1)
    assert (second["vote_share"], second["voted"]) == (0, 0)


def test_all_errors_are_in_a_pair():
    votes, targets, belief = drawn()
    pairs = confused_pairs(belief.argmax(axis=1), targets, votes, CLASSES)
    counts = [pair["count"] for pair in pairs]
    assert sum(counts) == (belief.argmax(axis=1) != targets).sum()
    assert counts == sorted(counts, reverse=True)


def test_agreement_is_in_bins_that_are_closed_above():
    tops = [5, 5, 6, 7, 8, 9, 10]
    votes = np.array([[top, 10 - top, 0, 0] for top in tops] + [[8, 1, 0, 0]])  # 8 of 9: 89 %
    targets = np.zeros(8, dtype=np.int64)
    predictions = np.array([0, 1, 1, 1, 1, 0, 0, 1])
    found = accuracy_by_agreement(predictions, targets, votes)
    assert [each["most"] for each in found] == list(BINS)
    assert [each["count"] for each in found] == [2, 1, 1, 1, 2, 1]
    assert [each["accuracy"] for each in found] == [0.5, 0, 0, 0, 0.5, 1]
    human = [0.5, 0.6, 0.7, 0.8, (0.9 + 8 / 9) / 2, 1]
    assert [each["annotator"] for each in found] == pytest.approx(human)


def test_an_empty_bin_has_no_accuracy():
    found = accuracy_by_agreement(np.array([0]), np.array([0]), np.array([[10, 0, 0, 0]]))
    assert found[0] == {"most": 50, "count": 0, "accuracy": None, "annotator": None}


def test_an_error_is_second_in_votes_by_a_plain_loop():
    votes, targets, belief = drawn()
    predictions = belief.argmax(axis=1)
    second, chance, top = [], [], []
    for row, true, said in zip(votes, targets, predictions, strict=True):
        others = {c: row[c] for c in range(4) if c != true and row[c]}
        runners_up = [c for c in others if others[c] == max(others.values())]
        top.append(said == true or said in runners_up)
        if said != true:
            second.append(said in runners_up)
            chance.append(len(runners_up) / 3)
    found = error_facts(predictions, targets, votes)
    assert found["count"] == len(second) > 100
    assert found["second"] == pytest.approx(np.mean(second))
    assert found["second_by_chance"] == pytest.approx(np.mean(chance))
    assert found["top_2"] == pytest.approx(np.mean(top))


def test_errors_say_who_voted_for_them():
    votes = np.array([[6, 4, 0, 0], [9, 1, 0, 0], [10, 0, 0, 0], [10, 0, 0, 0]])
    found = error_facts(np.array([1, 1, 1, 0]), np.zeros(4, dtype=np.int64), votes)
    assert found == {
        "count": 3, "vote_share": pytest.approx(0.5 / 3), "voted": pytest.approx(2 / 3),
        "voted_twice": pytest.approx(1 / 3), "second": pytest.approx(2 / 3),
        "second_by_chance": pytest.approx(2 / 9), "top_2": 0.75,
    }  # fmt: skip


def test_without_errors_there_is_nothing_to_say_of_them():
    found = error_facts(np.array([0]), np.array([0]), np.array([[6, 4, 0, 0]]))
    assert found.pop("count") == 0
    assert found.pop("top_2") == 1
    assert set(found.values()) == {None}


def test_distances_are_those_of_a_plain_loop():
    votes, _, belief = drawn(50)
    kl, js = [], []
    for row, p in zip(votes, belief.astype(np.float64), strict=True):
        v = row / row.sum()
        m = (v + p) / 2
        kl.append(sum(a * math.log(a / b) for a, b in zip(v, p, strict=True) if a))
        bits = sum(a * math.log2(a / c) for x in (v, p) for a, c in zip(x, m, strict=True) if a)
        js.append(math.sqrt(bits / 2))
    assert distance(belief, votes) == pytest.approx({"kl": np.mean(kl), "js": np.mean(js)})


def test_the_votes_themselves_are_at_distance_nothing_and_other_classes_at_one():
    votes = np.array([[6, 4, 0, 0], [0, 10, 0, 0]])
    assert distance(votes / 10, votes) == pytest.approx({"kl": 0, "js": 0}, abs=1e-9)
    far = distance(np.array([[0, 0, 0, 1.0]]), votes)
    assert far["js"] == pytest.approx(1)
    assert 80 < far["kl"] < 90


def test_no_single_guess_is_closer_than_the_mean_of_the_votes():
    votes, _, _ = drawn()
    mean = (votes / 10).mean(axis=0, keepdims=True)
    other = mean + [[0.02, -0.02, 0.01, -0.01]]
    assert distance(mean, votes)["kl"] < distance(other, votes)["kl"]


def test_candidate_sets_hold_what_a_plain_loop_finds():
    votes, targets, belief = drawn()
    sets = np.random.default_rng(1).random((400, 4)) < 0.6
    sets[:, 0] |= ~sets.any(axis=1)
    found = set_facts(sets, belief, targets, votes, CLASSES, 0.9)
    rows = list(zip(sets, belief, targets, votes, strict=True))
    assert found["mass"] == 0.9
    assert found["size"] == np.mean([s.sum() for s, _, _, _ in rows])
    assert found["smallest"] == smallest_sets(votes, 0.9).mean()
    assert found["truth"] == np.mean([s[t] for s, _, t, _ in rows])
    for number, name in enumerate(CLASSES):
        own = np.mean([s[t] for s, _, t, _ in rows if t == number])
        assert found["truth_by_class"][name] == pytest.approx(own)
    assert found["vote_share"] == pytest.approx(np.mean([v[s].sum() / 10 for s, _, _, v in rows]))
    assert found["probability"] == pytest.approx(np.mean([p[s].sum() for s, p, _, _ in rows]))
    for least in (1, 2):
        holds = np.mean([all(s[c] for c in range(4) if v[c] >= least) for s, _, _, v in rows])
        assert found["all_voted"][f"{least}"] == pytest.approx(holds)
    same = [v[s].sum() >= 9 and s.sum() == smallest_sets(v[None], 0.9)[0] for s, _, _, v in rows]
    assert 0 < found["same"] == pytest.approx(np.mean(same))


def test_a_set_is_the_same_whichever_of_equal_classes_it_has():
    votes = np.array([[8, 1, 1, 0], [8, 1, 1, 0], [8, 1, 1, 0], [8, 1, 1, 0]])
    sets = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]], dtype=bool)
    found = set_facts(sets, np.full((4, 4), 0.25), np.zeros(4, np.int64), votes, CLASSES, 0.9)
    assert found["same"] == 0.5
    assert found["truth_by_class"] == {"joy": 1, "fear": None, "awe": None, "pain": None}
    assert found["size_and_entropy"] is None  # all votes are alike


def test_sets_that_grow_with_the_entropy_correlate_with_it():
    votes = np.array([[10, 0, 0, 0], [5, 5, 0, 0], [4, 0, 3, 3]])
    sets, targets, belief = votes > 0, np.zeros(3, np.int64), np.full((3, 4), 0.25)
    found = set_facts(sets, belief, targets, votes, CLASSES, 0.9)
    h = [0, math.log(2), -(0.4 * math.log(0.4) + 0.6 * math.log(0.3))]
    assert found["size_and_entropy"] == pytest.approx(np.corrcoef([1, 2, 3], h)[0, 1])
    opposite = set_facts(sets[::-1], belief, targets, votes, CLASSES, 0.9)
    assert opposite["size_and_entropy"] == pytest.approx(np.corrcoef([3, 2, 1], h)[0, 1])


def test_votes_in_words_are_sorted_and_stay_on_one_line_with_their_class():
    words = in_words(np.array([1, 0, 6, 3]), CLASSES)
    assert words == "awe\N{NO-BREAK SPACE}6, pain\N{NO-BREAK SPACE}3, joy\N{NO-BREAK SPACE}1"
