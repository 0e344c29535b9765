"""Which face to ask about next.

``useful`` asks about typical faces: those in the densest part of a cluster of features of which no
face was shown yet. With few labels these teach more than faces at the border between classes
(Hacohen, Dekel & Weinshall, 2022, arXiv:2202.02794). There are twice as many clusters whenever all
have had their turn. At first the largest cluster comes next; then a logistic regression on the
features of the faces labeled so far says how probable each class is, and ambiguous faces that are
likely of a class with few labels come first. ``random`` is a shuffle. Both depend on the seed and
on what was answered, nothing else, so that a session can be left and taken up again.
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
"""Clusters, and so faces that differ, for each class, at first."""

MOST_CLUSTERS = 512
"""Beyond, the faces of a cluster would have little in common but their number."""

NEIGHBORS = 20
"""How many near faces say how typical a face is."""

MEMBERS = 600
"""Faces of a cluster among which neighbors are looked for, at most."""

ALIKE = 0.95
"""Cosine between the features of faces that say the same, such as neighbors in a video."""

INVERSE_PENALTY = 10.0
"""C of scikit-learn's logistic regression."""


def clusters(features: Values, count: int, seed: int) -> Rows:
    """Which faces are alike.

    Args:
        features: (N, D).
        count: clusters, >= 1; at most N are made, and fewer where faces are the same.
        seed: of k-means.

    Returns:
        (N,) the number of every face's cluster, in [0, count).

    Raises:
        UserError: scikit-learn is not installed.
    """
    means = _scikit("cluster").MiniBatchKMeans(
        min(count, len(features)), n_init=1, random_state=seed, batch_size=2048
    )
    with warnings.catch_warnings():  # of faces that are alike
        warnings.simplefilter("ignore")
        return np.asarray(means.fit(features).labels_, dtype=np.int64)


def typical(features: Values, owner: Rows) -> Rows:
    """The face of each cluster that is nearest to its neighbors (section 3 of TypiClust).

    Args:
        features: (N, D).
        owner: (N,) cluster of each face.

    Returns:
        (K,) rows; -1 for a number that no face has.
    """
    found = np.full(owner.max() + 1, -1, dtype=np.int64)
    for number in range(len(found)):
        members = np.flatnonzero(owner == number)
        if len(members):
            some = members[:: -(-len(members) // MEMBERS)]
            squares = [np.square(features[rows]).sum(axis=1) for rows in (members, some)]
            products = features[members] @ features[some].T
            away = np.sqrt(np.maximum(squares[0][:, None] + squares[1] - 2 * products, 0))
            near = min(NEIGHBORS + 1, len(some))  # most are their own nearest
            found[number] = members[np.partition(away, near - 1)[:, :near].mean(axis=1).argmin()]
    return found


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
        there = self._order[free[self._order]]
        return int(there[0]) if len(there) else None


class Useful:
    """Typical faces that differ; the more labels, the more their worth decides.

    Args:
        features: (N, D).
        rows: (n,) of the faces to choose among.
        classes: C.
        seed: of the clusters.
    """

    def __init__(self, features: Values, rows: Rows, classes: int, seed: int) -> None:
        self._features = features
        self._rows = rows
        self._classes = classes
        self._seed = seed
        self._clustered: tuple[int, Rows, Rows] = (0, rows, rows)
        self._known: tuple[bytes, Values] = (b"", features[:0])

    def next(self, free: NDArray[np.bool_], rows: Rows, targets: Rows, seen: Rows) -> int | None:
        """The row of the face to show, or None if no face is free.

        Args:
            free: (N,) whether a face may be shown.
            rows: (n,) of the labeled faces, in the order in which they were labeled.
            targets: (n,) in [0, C).
            seen: (m,) rows of faces that were shown last, and of those that are shown now.
        """
        if not free.any():
            return None
        faces, worth = self._open(free)
        if len(rows) >= FIRST_PER_CLASS * self._classes and len(set(targets.tolist())) > 1:
            counts = np.bincount(targets, minlength=self._classes)
            p = self._probabilities(rows, targets)[faces]
            worth = np.sqrt(worth) * usefulness(p, counts)
        fresh = unlike(self._features, seen)[faces]
        return int(faces[np.where(fresh if fresh.any() else True, worth, -1.0).argmax()])

    def _open(self, free: NDArray[np.bool_]) -> tuple[Rows, NDArray[np.float64]]:
        """The typical faces of clusters of which none was shown, and how large these are."""
        shown = ~free[self._rows]
        count = FIRST_PER_CLASS * self._classes
        while count < 2 * min(MOST_CLUSTERS, len(self._rows)):
            if shown.sum() < count:
                owner, faces = self._clusters(count)
                there = (np.bincount(owner[shown], minlength=len(faces)) == 0) & (faces >= 0)
                if there.any():
                    return faces[there], np.bincount(owner)[there].astype(np.float64)
            count *= 2
        faces = np.flatnonzero(free)
        return faces, np.ones(len(faces))

    def _clusters(self, count: int) -> tuple[Rows, Rows]:
        """Of the faces to choose among: the cluster of each, and the typical face of each."""
        if self._clustered[0] != count:
            features = self._features[self._rows]
            owner = clusters(features, count, self._seed)
            faces = typical(features, owner)
            self._clustered = count, owner, np.where(faces < 0, -1, self._rows[faces])
        return self._clustered[1:]

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
