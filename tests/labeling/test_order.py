from itertools import pairwise

import numpy as np
import pytest
import torch

from leaf_fer.functional import candidate_set
from leaf_fer.labeling import order as module
from leaf_fer.labeling.order import (
    FIRST_PER_CLASS,
    NEIGHBORS,
    Random,
    Useful,
    candidates,
    clusters,
    probabilities,
    typical,
    unlike,
    usefulness,
)

CLASSES = 3


@pytest.fixture
def blobs():
    """90 faces in three groups of 50, 30 and 10, and the group of each."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), (50, 30, 10))
    centers = 4 * np.eye(3, 5)
    features = centers[group] + 0.3 * rng.standard_normal((90, 5))
    shuffle = rng.permutation(90)
    return features[shuffle].astype(np.float32), group[shuffle]


def dirichlet(count=50, classes=6):
    return np.random.default_rng(0).dirichlet(np.full(classes, 0.4), count).astype(np.float32)


def label(order, truth, count, free=None):
    """The rows that are shown to somebody who knows the truth."""
    free = np.ones(len(truth), bool) if free is None else free.copy()
    rows = []
    for _ in range(count):
        known = np.array(rows, dtype=np.int64)
        row = order.next(free, known, truth[known], known[-5:])
        free[row] = False
        rows.append(row)
    return rows


class TestClusters:
    def test_they_are_the_groups(self, blobs):
        features, group = blobs
        owner = clusters(features, 3, seed=0)
        assert {(int(c), int(g)) for c, g in zip(owner, group, strict=True)} == {
            (int(owner[group == g][0]), g) for g in range(3)
        }

    def test_the_same_seed_gives_the_same(self, blobs):
        features, _ = blobs
        assert clusters(features, 12, 3).tolist() == clusters(features, 12, 3).tolist()

    def test_there_are_at_most_as_many_as_faces(self, blobs):
        assert sorted(clusters(blobs[0][:4], 9, seed=0)) == [0, 1, 2, 3]

    def test_faces_that_are_all_the_same_are_one(self):
        assert len(set(clusters(np.ones((6, 2), np.float32), 3, seed=0))) == 1


class TestTypical:
    def test_it_is_the_face_with_the_nearest_neighbors(self, blobs):
        features, group = blobs
        expected = []
        for number in range(3):
            members = np.flatnonzero(group == number)
            means = [
                sorted(np.linalg.norm(features[members] - features[row], axis=1))[: NEIGHBORS + 1]
                for row in members
            ]
            expected.append(members[np.argmin([np.mean(near) for near in means])])
        assert typical(features, group).tolist() == expected

    def test_it_is_not_the_mean_of_two_crowds(self):
        rng = np.random.default_rng(0)
        crowd = rng.standard_normal((300, 2)).astype(np.float32) + [8, 0]
        features = np.concatenate([crowd, np.zeros((1, 2)), crowd - [16, 0]]).astype(np.float32)
        (row,) = typical(features, np.zeros(601, dtype=np.int64))
        assert row != 300  # which is nearest to the mean, and alone
        assert 7 < abs(features[row, 0]) < 9

    def test_large_clusters_are_looked_at_in_part(self, monkeypatch):
        monkeypatch.setattr(module, "MEMBERS", 50)
        features = np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float32)
        (row,) = typical(features, np.zeros(2000, dtype=np.int64))
        assert np.linalg.norm(features[row]) < 1

    def test_a_number_that_no_face_has_has_none(self, blobs):
        features, group = blobs
        assert (typical(features, 2 * group)[[1, 3]] == -1).all()


class TestUsefulness:
    @pytest.mark.parametrize("mass", [0.0, 0.5, 0.9, 1.0])
    def test_candidates_are_counted_as_leaf_counts_them(self, mass):
        p = dirichlet()
        expected = candidate_set(torch.from_numpy(p), mass).sum(dim=1)
        assert candidates(p, mass).tolist() == expected.tolist()

    def test_it_is_ambiguity_times_coverage(self):
        p, counts = dirichlet(20), np.array([0, 3, 10, 1, 0, 50])
        expected = []
        for row in p.astype(float):
            mass, size = 0.0, 0
            for value in sorted(row, reverse=True):
                if mass < 0.9:
                    mass, size = mass + value, size + 1
            entropy = -sum(q * np.log(q) for q in row if q > 0) / np.log(6)
            coverage = sum(q / (1 + n) for q, n in zip(row, counts, strict=True))
            expected.append((size + entropy) * coverage)
        np.testing.assert_allclose(usefulness(p, counts), expected, rtol=1e-5)

    def test_of_two_certain_faces_that_of_the_rarer_class_is_worth_more(self):
        first, second = usefulness(np.eye(3, dtype=np.float32)[[0, 2]], np.array([9, 9, 1]))
        assert second == pytest.approx(5 * first)

    def test_an_ambiguous_face_is_worth_more_than_a_certain_one(self):
        p = np.array([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3]], dtype=np.float32)
        sure, unsure = usefulness(p, np.array([5, 5, 5]))
        assert unsure > 3 * sure


class TestProbabilities:
    def test_they_follow_the_labels(self, blobs):
        features, group = blobs
        rows = np.concatenate([np.flatnonzero(group == c)[:3] for c in range(3)])
        found = probabilities(features, rows, group[rows], 3)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        assert (found.argmax(axis=1) == group).all()

    def test_a_class_without_a_label_has_none(self, blobs):
        features, group = blobs
        rows = np.concatenate([np.flatnonzero(group == c)[:3] for c in (0, 2)])
        found = probabilities(features, rows, group[rows], 4)
        assert found.shape == (90, 4)
        assert (found[:, [1, 3]] == 0).all()
        assert (found[:, [0, 2]] > 0).all()


class TestUnlike:
    def test_it_is_the_cosine_with_the_nearest(self, blobs):
        features, _ = blobs
        seen = np.array([3, 60, 7])

        def near(a, b):
            return a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= module.ALIKE

        expected = [not any(near(row, features[s]) for s in seen) for row in features]
        assert unlike(features, seen).tolist() == expected
        assert not all(expected)

    def test_without_any_that_were_seen_all_are_new(self, blobs):
        assert unlike(blobs[0], np.array([], dtype=np.int64)).all()


class TestUseful:
    def test_it_begins_with_typical_faces_of_different_clusters(self, blobs):
        features, group = blobs
        count = FIRST_PER_CLASS * CLASSES
        first = label(Useful(features, np.arange(90), CLASSES, seed=0), group, count)
        owner = clusters(features, count, seed=0)
        assert set(first) <= set(typical(features, owner))
        sizes = np.bincount(owner)[owner[first]]
        assert (np.diff(sizes) <= 0).all()  # the largest comes first

    def test_then_of_those_that_are_left_the_face_comes_that_is_worth_most(self, blobs):
        features, group = blobs
        *known, last = label(Useful(features, np.arange(90), CLASSES, seed=0), group, 20)
        known = np.array(known)
        owner = clusters(features, 24, seed=0)  # the first 12 of which have had their turn
        faces = np.array(
            [row for row in typical(features, owner) if owner[row] not in owner[known]]
        )
        fresh = unlike(features, known[-5:])[faces]
        faces = faces[fresh] if fresh.any() else faces
        assert len(faces) > 2
        p = probabilities(features, known, group[known], CLASSES)[faces]
        worth = usefulness(p, np.bincount(group[known], minlength=CLASSES))
        assert last == faces[(worth * np.sqrt(np.bincount(owner)[owner[faces]])).argmax()]

    def test_clusters_get_smaller_when_all_have_had_their_turn(self, blobs, monkeypatch):
        features, group = blobs
        asked = []
        monkeypatch.setattr(
            module, "clusters", lambda *args: asked.append(args[1]) or clusters(*args)
        )
        shown = label(Useful(features, np.arange(90), CLASSES, seed=0), group, 90)
        assert sorted(shown) == list(range(90))
        assert asked[:3] == [12, 24, 48]
        assert all(one < two for one, two in pairwise(asked))
        monkeypatch.setattr(module, "MOST_CLUSTERS", 24)
        asked.clear()
        label(Useful(features, np.arange(90), CLASSES, seed=0), group, 90)
        assert asked == [12, 24]

    def test_a_rare_group_gets_more_labels_than_by_chance(self, blobs):
        features, group = blobs
        shown = label(Useful(features, np.arange(90), CLASSES, seed=0), group, 30)
        by_chance = 30 * (group == 2).mean()
        assert (group[shown] == 2).sum() >= 1.8 * by_chance

    def test_near_duplicates_of_what_was_just_shown_wait(self):
        rng = np.random.default_rng(0)
        features = rng.standard_normal((40, 16)).astype(np.float32)
        features[20:] = features[:20] + 0.01 * rng.standard_normal((20, 16)).astype(np.float32)
        truth = np.arange(40) % 2
        order = Useful(features, np.arange(40), 2, seed=0)
        shown = label(order, truth, 40)
        fast = [abs(a - b) == 20 for a, b in pairwise(shown[8:28])]
        assert not any(fast)
        assert sorted(shown) == list(range(40))  # they do come when no others are left

    def test_a_session_that_was_left_goes_on_as_if_it_had_not_been(self, blobs):
        features, group = blobs
        whole = label(Useful(features, np.arange(90), CLASSES, seed=1), group, 70)
        for stop in (0, 5, 12, 30, 69):
            known = np.array(whole[:stop], dtype=np.int64)
            free = np.ones(90, bool)
            free[known] = False
            fresh = Useful(features, np.arange(90), CLASSES, seed=1)
            assert fresh.next(free, known, group[known], known[-5:]) == whole[stop]

    def test_the_seed_changes_it(self, blobs):
        features, group = blobs
        one, two = (Useful(features, np.arange(90), CLASSES, seed=s) for s in (0, 1))
        assert label(one, group, 12) != label(two, group, 12)

    def test_only_faces_that_are_free_are_shown(self, blobs):
        features, group = blobs
        rows = np.arange(0, 90, 3)
        free = np.zeros(90, bool)
        free[rows] = True
        shown = label(Useful(features, rows, CLASSES, seed=0), group, 30, free)
        assert sorted(shown) == rows.tolist()
        order = Useful(features, rows, CLASSES, seed=0)
        none = np.array([], dtype=np.int64)
        assert order.next(np.zeros(90, bool), none, none, none) is None

    def test_while_all_labels_are_of_one_class_faces_are_drawn(self, blobs):
        features, _ = blobs
        shown = label(Useful(features, np.arange(90), CLASSES, seed=0), np.zeros(90, int), 90)
        assert sorted(shown) == list(range(90))

    def test_the_more_labels_the_less_often_it_learns(self, blobs, monkeypatch):
        features, group = blobs
        fits = []

        def counting(features, rows, targets, classes):
            fits.append(len(rows))
            return probabilities(features, rows, targets, classes)

        monkeypatch.setattr(module, "probabilities", counting)
        many = np.tile(features, (4, 1)) + 0.1
        label(Useful(many, np.arange(360), CLASSES, seed=0), np.tile(group, 4), 210)
        assert fits == [*range(12, 100), *range(100, 150, 2), *range(150, 200, 3), 200, 204, 208]


class TestRandom:
    def test_every_face_comes_once_in_an_order_of_the_seed(self):
        truth = np.zeros(20, int)
        orders = [label(Random(20, seed), truth, 20) for seed in (0, 0, 1)]
        assert sorted(orders[0]) == list(range(20))
        assert orders[0] == orders[1] != orders[2]

    def test_none_is_left(self):
        none = np.array([], dtype=np.int64)
        assert Random(3, 0).next(np.zeros(3, bool), none, none, none) is None
