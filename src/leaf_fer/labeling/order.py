"""Which face to ask about next.

``useful`` begins with faces that differ: the middle faces of clusters of features. Then a
logistic regression on the features of the faces labeled so far says of every other face how
probable each class is, and the face comes next that is ambiguous and likely of a class with few
labels. ``random`` is a shuffle. Both depend on the seed and on what was answered, nothing else,
so that a session can be left and taken up again.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.errors import UserError

Rows = NDArray[np.int64]
Values = NDArray[np.float32]

MASS = 0.9
"""What candidate sets reach, as in LEAF."""

FIRST_PER_CLASS = 4
"""Clusters, and so faces that differ, for each class."""

ALIKE = 0.95
"""Cosine between the features of faces that say the same, such as neighbors in a video."""

INVERSE_PENALTY = 10.0
"""C of scikit-learn's logistic regression."""


def medoids(features: Values, count: int, seed: int) -> Rows:
    """Rows of the middle faces of clusters, those of the largest cluster first.

    Args:
        features: (N, D).
        count: clusters, >= 1; at most N are made.
        seed: of k-means.

    Raises:
        UserError: scikit-learn is not installed.
    """
    cluster = _scikit("cluster").KMeans(min(count, len(features)), n_init=1, random_state=seed)
    with warnings.catch_warnings():  # of faces that are alike; there are fewer clusters then
        warnings.simplefilter("ignore")
        owner = cluster.fit(features).labels_
    chosen = []
    for number in np.argsort(-np.bincount(owner), kind="stable"):
        members = np.flatnonzero(owner == number)
        if len(members):
            away = np.square(features[members] - cluster.cluster_centers_[number]).sum(axis=1)
            chosen.append(members[away.argmin()])
    return np.array(chosen, dtype=np.int64)


def probabilities(features: Values, rows: Rows, targets: Rows, classes: int) -> Values:
    """What the labels so far say about all faces.

    Args:
        features: (N, D).
        rows: (n,) of the labeled faces.
        targets: (n,) in [0, C), at least two different ones.
        classes: C.

    Returns:
        (N, C), rows sum to 1; 0 for a class without a label.
    """
    linear: Any = _scikit("linear_model").LogisticRegression(C=INVERSE_PENALTY, max_iter=500)
    linear.fit(features[rows].astype(np.float64), targets)
    found = np.zeros((len(features), classes), dtype=np.float32)
    found[:, linear.classes_] = linear.predict_proba(features)
    return found


def candidates(probability: Values, mass: float = MASS) -> Rows:
    """How many of the most probable classes it takes to reach a mass.

    It is the size of :func:`leaf_fer.functional.candidate_set`.

    >>> candidates(np.array([[0.70, 0.05, 0.15, 0.10], [0.97, 0.01, 0.01, 0.01]]))
    array([3, 1])
    """
    ordered = -np.sort(-probability, axis=1)
    return np.asarray(1 + (ordered.cumsum(axis=1)[:, :-1] < mass).sum(axis=1), dtype=np.int64)


def usefulness(probability: Values, counts: Rows) -> NDArray[np.float64]:
    """How much a label is worth: ambiguity times coverage.

        (|candidate set| + entropy / log C) * sum_c p_c / (1 + n_c)

    Args:
        probability: (N, C), rows sum to 1.
        counts: n, (C,) labels there are of each class.

    Returns:
        (N,), >= 0.
    """
    p = probability.astype(np.float64)
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1) / np.log(p.shape[1])
    ambiguity = candidates(probability) + entropy
    return np.asarray(ambiguity * (p @ (1 / (1 + counts))), dtype=np.float64)


def unlike(features: Values, seen: Rows) -> NDArray[np.bool_]:
    """Which faces are no near-duplicates of any that were seen: (N, D), (n,) -> (N,)."""
    lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-12)
    directions = features[seen] / lengths[seen, None]
    nearest = (features @ directions.T).max(axis=1, initial=-1.0) / lengths
    return np.asarray(nearest < ALIKE, dtype=np.bool_)


class Random:
    """All faces, shuffled.

    Args:
        count: N.
        seed: of the shuffle.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._order = np.random.default_rng(seed).permutation(count)

    def next(self, free: NDArray[np.bool_], rows: Rows, targets: Rows, seen: Rows) -> int | None:
        """The first face that is free; see :meth:`Useful.next`."""
        return _first(self._order, free)


class Useful:
    """Faces that differ, then those whose label is worth most.

    Args:
        features: (N, D).
        rows: (n,) of the faces to choose among.
        classes: C.
        seed: of the clusters.
    """

    def __init__(self, features: Values, rows: Rows, classes: int, seed: int) -> None:
        self._features = features
        self._classes = classes
        self._start = rows[medoids(features[rows], FIRST_PER_CLASS * classes, seed)]
        self._shuffled = Random(len(features), seed)
        self._known: tuple[bytes, Values] = (b"", features[:0])

    def next(self, free: NDArray[np.bool_], rows: Rows, targets: Rows, seen: Rows) -> int | None:
        """The row of the face to show, or None if no face is free.

        Args:
            free: (N,) whether a face may be shown.
            rows: (n,) of the labeled faces, in the order in which they were labeled.
            targets: (n,) in [0, C).
            seen: (m,) rows of faces that were shown last, and of those that are shown now.
        """
        first = _first(self._start, free)
        if first is not None or not free.any():
            return first
        if len(set(targets.tolist())) < 2:
            return self._shuffled.next(free, rows, targets, seen)
        counts = np.bincount(targets, minlength=self._classes)
        worth = usefulness(self._probabilities(rows, targets), counts)
        fresh = free & unlike(self._features, seen)
        return int(np.where(fresh if fresh.any() else free, worth, -1.0).argmax())

    def _probabilities(self, rows: Rows, targets: Rows) -> Values:
        """Of the first labels: the more there are, the less often it pays to learn again."""
        few = len(rows) - len(rows) % max(1, len(rows) // 50)
        if len(set(targets[:few].tolist())) < 2:
            few = len(rows)
        known = rows[:few].tobytes() + targets[:few].tobytes()
        if self._known[0] != known:
            found = probabilities(self._features, rows[:few], targets[:few], self._classes)
            self._known = known, found
        return self._known[1]


def _first(order: Rows, free: NDArray[np.bool_]) -> int | None:
    there = order[free[order]]
    return int(there[0]) if len(there) else None


def _scikit(module: str) -> Any:
    """A module of scikit-learn."""
    try:
        if module == "cluster":
            from sklearn import cluster as found
        else:
            from sklearn import linear_model as found
    except ImportError:
        raise UserError(
            "--order useful: needs scikit-learn: pip install 'leaf-fer[label]'"
        ) from None
    return found
