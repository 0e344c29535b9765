"""Sets of classes that hold the true one as often as promised. Plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tails(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return, for every class, what all classes have that are less probable: (N, C) -> (N, C).

    1 - tail is the score of adaptive prediction sets (Romano et al., 2020, arXiv:2006.02544),
    without randomization: the mass that LEAF's candidate set (eq. (8)) needs to take the class in.
    A sum of the small ones keeps the digits that 1 - tail loses where a network is sure. The most
    probable class has 1: it is in every set. Equally probable classes: the later one is less so.

    Args:
        probabilities: (N, C), rows sum to 1.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities.astype(np.float64), order, axis=1)
    after = np.zeros_like(ordered)
    after[:, :-1] = ordered[:, :0:-1].cumsum(axis=1)[:, ::-1]
    after[:, 0] = 1
    found = np.empty_like(after)
    np.put_along_axis(found, order, after, axis=1)
    return found


@dataclass(frozen=True)
class Calibration:
    """What a model says of the true class of faces that it was not trained on.

    Split-conformal prediction (Vovk et al., 2005; Angelopoulos & Bates, 2021, arXiv:2107.07511):
    if a new face is drawn as these were, its set holds its true class with the probability asked
    for, or more, whatever the model is.

    Attributes:
        scores: (N,) float64, tail of the true class, see :func:`tails`.
        targets: (N,) int64, true classes.
        origin: of the faces, for people.
    """

    scores: NDArray[np.float64]
    targets: NDArray[np.int64]
    origin: str = ""

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating[Any]],
        targets: NDArray[np.int64],
        origin: str = "",
    ) -> Calibration:
        """Learn from labeled faces: (N, C) probabilities, (N,) classes."""
        rows = np.arange(len(targets))
        return cls(tails(probabilities)[rows, targets], targets, origin)

    def sets(
        self,
        probabilities: NDArray[np.floating[Any]],
        coverage: float,
        *,
        per_class: bool = False,
    ) -> NDArray[np.bool_]:
        """Return the candidate sets of new faces: (N, C) -> (N, C) bool, at least one per row.

        Args:
            probabilities: (N, C), rows sum to 1.
            coverage: in (0, 1), how often the true class should be in.
            per_class: promise it for the faces of every class, not only for all faces together.
                A class with fewer than coverage / (1 - coverage) faces here is then in all sets.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"expected 0 < coverage < 1, got {coverage}")
        classes = probabilities.shape[1]
        groups = [self.scores[self.targets == c] for c in range(classes)]
        least = [_least(group if per_class else self.scores, coverage) for group in groups]
        chosen: NDArray[np.bool_] = tails(probabilities) >= np.array(least)
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "origin": self.origin,
            "scores": self.scores.tolist(),
            "targets": self.targets.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Undo :meth:`to_dict`.

        Raises:
            KeyError, TypeError, ValueError: not what it gives.
        """
        scores = np.asarray(values["scores"], dtype=np.float64)
        targets = np.asarray(values["targets"], dtype=np.int64)
        if scores.ndim != 1 or scores.shape != targets.shape:
            raise ValueError(f"{scores.shape} scores for {targets.shape} targets")
        return cls(scores, targets, str(values["origin"]))


def _least(scores: NDArray[np.float64], coverage: float) -> float:
    """The tail that a class needs: of n + 1 exchangeable scores, so many are lower at most.

    Rounded first, so that 20 faces and 0.9 make 2, not the 1.99... of binary fractions.
    """
    below = math.floor(round((len(scores) + 1) * (1 - coverage), 9))
    return float(np.partition(scores, below - 1)[below - 1]) if below else -math.inf


def describe_sets(
    chosen: NDArray[np.bool_], targets: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Say how good sets are, ready for JSON.

    Args:
        chosen: (N, C) bool; N >= 1.
        targets: (N,) int64, true classes.
        classes: names of the C classes.

    Returns:
        ``coverage``, ``size`` (mean number of classes), ``single`` (share of sets of one class),
        and ``per_class``: the same by name, of the faces of that class; None where there are none.
    """

    def facts(rows: NDArray[np.bool_]) -> dict[str, float] | None:
        if not rows.any():
            return None
        sizes = chosen[rows].sum(axis=1)
        return {
            "coverage": float(chosen[rows, targets[rows]].mean()),
            "size": float(sizes.mean()),
            "single": float((sizes == 1).mean()),
        }

    everything = facts(np.ones(len(targets), dtype=bool)) or {}
    each = {name: facts(targets == number) for number, name in enumerate(classes)}
    return {**everything, "per_class": each}
