"""What a model says about faces, beside what their annotators disagree about.

N images, C classes. ``votes`` are counts (N, C), at least one in every row; a *share* is a count
over the sum of its row. ``sets`` are (N, C) bool, such as the candidate sets of LEAF (Zhang et
al., 2024, arXiv:2404.15041): the fewest most probable classes that together reach a mass T.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Facts = dict[str, Any]

BINS = (50, 60, 70, 80, 90, 100)
"""Upper ends, in percent, of the bins for the share of the class with the most votes."""


def shares_of(votes: Integers) -> NDArray[np.float64]:
    """Votes as a distribution over classes: (N, C) -> (N, C), rows sum to 1."""
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def smallest_sets(votes: Integers, mass: float) -> Integers:
    """How many classes are needed, at least, to hold a mass T of the votes: (N, C) -> (N,).

    Example:
        >>> smallest_sets(np.array([[7, 1, 2, 0], [10, 0, 0, 0]]), 0.9).tolist()
        [2, 1]
    """
    before = np.cumsum(np.sort(votes, axis=1)[:, ::-1], axis=1)[:, :-1]
    # In votes, not shares: 7 and 2 of 10 are 0.9, but 0.7 + 0.2 is less.
    needed = mass * votes.sum(axis=1, keepdims=True)
    return np.asarray(1 + (before < needed).sum(axis=1))


def in_words(votes: Integers, names: Sequence[str]) -> str:
    r"""Votes (C,) for one image, most first; lines break between them only.

    Example:
        >>> in_words(np.array([3, 0, 6]), ("awe", "fear", "joy")).replace("\N{NO-BREAK SPACE}", " ")
        'joy 6, awe 3'
    """
    voted = [place for place in np.argsort(-votes, kind="stable") if votes[place]]
    counts = (f"{names[place]} {votes[place]}" for place in voted)
    return ", ".join(count.replace(" ", "\N{NO-BREAK SPACE}") for count in counts)


def annotator_facts(votes: Integers) -> Facts:
    """How much annotators disagree.

    Returns:
        ``top_share``, the mean share of the class with the most votes, which is also how often a
        single annotator agrees with it; mean ``entropy`` of the votes in nats; and ``classes``,
        how many got at least one and two votes.
    """
    return {
        "top_share": float(shares_of(votes).max(axis=1).mean()),
        "entropy": float(_entropy(votes).mean()),
        "classes": {f"{least}": float((votes >= least).sum(axis=1).mean()) for least in (1, 2)},
    }


def confused_pairs(
    predictions: Integers, targets: Integers, votes: Integers, classes: Sequence[str]
) -> list[Facts]:
    """All errors by class, the most frequent first, and whether annotators made them too.

    Args:
        predictions: (N,) int64 in [0, C).
        targets: (N,) int64 in [0, C).
        votes: (N, C).
        classes: names of the C classes.

    Returns:
        For each pair of a ``true`` and a ``predicted`` class: ``count``; ``rate``, the share of the
        images of the true class; ``vote_share``, the mean share of votes for the predicted class on
        just these images; ``vote_share_of_class``, the same on all images of the true class;
        ``voted``, on how many of these images, as a share, somebody voted for the predicted class.
    """
    share = shares_of(votes)
    wrong = predictions != targets
    pairs = Counter(zip(targets[wrong].tolist(), predictions[wrong].tolist(), strict=True))
    found = []
    for (true, said), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        of_class = targets == true
        these = of_class & (predictions == said)
        found.append(
            {
                "true": classes[true],
                "predicted": classes[said],
                "count": count,
                "rate": count / int(of_class.sum()),
                "vote_share": float(share[these, said].mean()),
                "vote_share_of_class": float(share[of_class, said].mean()),
                "voted": float((votes[these, said] > 0).mean()),
            }
        )
    return found


def accuracy_by_agreement(predictions: Integers, targets: Integers, votes: Integers) -> list[Facts]:
    """Accuracy of a model and of an annotator where annotators agree little, and where they do.

    Returns:
        For each of :data:`BINS` of the share of the class with the most votes, open below and
        closed above: ``most``, its upper end in percent; ``count``; ``accuracy`` of the model;
        ``annotator``, that of one annotator, the mean share of votes for the true class. The last
        two are None in an empty bin.
    """
    top, total = votes.max(axis=1), votes.sum(axis=1)
    percent = np.searchsorted(np.array(BINS)[:-1] * 1.0, 100 * top / total)
    right = predictions == targets
    label = np.take_along_axis(shares_of(votes), targets[:, None], axis=1)[:, 0]
    return [
        {
            "most": end,
            "count": int((percent == place).sum()),
            "accuracy": _mean(right[percent == place]),
            "annotator": _mean(label[percent == place]),
        }
        for place, end in enumerate(BINS)
    ]


def error_facts(predictions: Integers, targets: Integers, votes: Integers) -> Facts:
    """Whether annotators, too, see what a model sees wrongly.

    Returns:
        ``count`` of errors; ``vote_share``, the mean share of votes for the predicted class;
        ``voted`` and ``voted_twice``, the share of errors whose class got at least one or two
        votes; ``second``, the share of errors whose class got the most votes after the true one,
        and ``second_by_chance``, the same for wrong classes at random; all but ``count`` are None
        without errors. ``top_2``: the share of all images whose predicted class got the most
        votes or the most after the true class.
    """
    rows = np.arange(len(votes))
    others = votes.copy()
    others[rows, targets] = 0
    runners_up = (others > 0) & (others == others.max(axis=1, keepdims=True))
    wrong, second = predictions != targets, runners_up[rows, predictions]
    said = votes[rows, predictions]
    return {
        "count": int(wrong.sum()),
        "vote_share": _mean(shares_of(votes)[rows, predictions][wrong]),
        "voted": _mean(said[wrong] >= 1),
        "voted_twice": _mean(said[wrong] >= 2),
        "second": _mean(second[wrong]),
        "second_by_chance": _mean(runners_up[wrong].sum(axis=1) / (votes.shape[1] - 1)),
        "top_2": float((second | ~wrong).mean()),
    }


def distance(probabilities: Floats, votes: Integers) -> Facts:
    """How far a model's probabilities are from the votes.

    Args:
        probabilities: p, (N, C) or (1, C), rows sum to 1.
        votes: (N, C), with shares v.

    Returns:
        ``kl``: mean of sum_c v_c log(v_c / p_c) in nats, p at least the smallest normal float32;
        ``js``: mean Jensen-Shannon distance, the root of the divergence in bits, in [0, 1].
    """
    share = shares_of(votes)
    floor = float(np.finfo(np.float32).tiny)
    belief = np.broadcast_to(probabilities.astype(np.float64), share.shape).clip(floor)
    middle = (share + belief) / 2
    divergence = (_relative(share, middle) + _relative(belief, middle)) / 2 / np.log(2)
    return {
        "kl": float(_relative(share, belief).mean()),
        "js": float(np.sqrt(divergence.clip(0)).mean()),
    }


def set_facts(
    sets: NDArray[np.bool_],
    probabilities: Floats,
    targets: Integers,
    votes: Integers,
    classes: Sequence[str],
    mass: float,
) -> Facts:
    """What candidate sets hold: of the truth, of the votes, of the model's own belief.

    Args:
        sets: (N, C).
        probabilities: (N, C), rows sum to 1.
        targets: (N,) int64 in [0, C).
        votes: (N, C).
        classes: names of the C classes.
        mass: T in [0, 1] of the sets.

    Returns:
        ``mass``; ``size``, the mean number of classes, and ``smallest``, that of the smallest sets
        that hold T of the votes; ``truth``, how often the true class is in the set, and
        ``truth_by_class``, by its name, None for a class without images; mean ``vote_share`` and
        ``probability`` that the set holds, which are equal for a calibrated model; ``all_voted``,
        how often all classes with at least one and two votes are in it; ``same``, how often it is
        such a smallest set (one of several where votes tie); ``size_and_entropy``, the correlation
        (Pearson) of its size and the entropy of the votes, None where one of them does not vary.
    """
    size = sets.sum(axis=1)
    held = (votes * sets).sum(axis=1)
    truth = sets[np.arange(len(sets)), targets]
    fewest = smallest_sets(votes, mass)
    enough = held >= mass * votes.sum(axis=1)
    return {
        "mass": mass,
        "size": float(size.mean()),
        "smallest": float(fewest.mean()),
        "truth": float(truth.mean()),
        "truth_by_class": {n: _mean(truth[targets == c]) for c, n in enumerate(classes)},
        "vote_share": float((held / votes.sum(axis=1)).mean()),
        "probability": float((probabilities * sets).sum(axis=1, dtype=np.float64).mean()),
        "all_voted": {
            f"{least}": float((sets | (votes < least)).all(axis=1).mean()) for least in (1, 2)
        },
        "same": float((enough & (size == fewest)).mean()),
        "size_and_entropy": _correlation(size.astype(np.float64), _entropy(votes)),
    }


def _entropy(votes: Integers) -> NDArray[np.float64]:
    """(N, C) -> (N,) in nats."""
    return -_relative(shares_of(votes), np.ones(votes.shape))


def _relative(p: Floats, q: Floats) -> NDArray[np.float64]:
    """Return sum_c p_c log(p_c / q_c), where 0 log 0 is 0: (N, C), (N, C) -> (N,)."""
    terms = p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1))
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Of two lists (N,), unless one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _mean(values: NDArray[Any]) -> float | None:
    """The mean of values, if there are any."""
    return float(values.mean()) if len(values) else None
