"""What a page is written from: what runs have written down, and what a model says about faces.

N faces, C classes, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.metrics import balanced_error

Integers = NDArray[np.int64]
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RunFacts:
    """What the files of a finished run say.

    Attributes:
        path: the folder.
        config: all options by name.
        metrics: what metrics.json holds.
        lines: those of metrics.jsonl.
        counts: how many images were labeled, unlabeled, for validation and for test.
        measured_on: identifies the faces of the part that was measured.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    lines: Lines = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    measured_on: str = ""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def method(self) -> str:
        """Key of the method, and the levels that EAF is on where the method does not say it."""
        return str(self.config["method"])

    @property
    def measured(self) -> bool:
        """Whether there were labeled faces to measure on."""
        return "confusion_matrix" in self.metrics

    @property
    def classes(self) -> list[str]:
        """Names of the classes that were measured."""
        return list(self.metrics["classes"])

    @property
    def matrix(self) -> Integers:
        """(C, C), rows are true classes."""
        return np.asarray(self.metrics["confusion_matrix"], dtype=np.int64)

    @property
    def balanced(self) -> float:
        """Balanced accuracy."""
        return float(self.metrics["balanced_accuracy"])

    @property
    def error(self) -> float:
        """Standard error of the balanced accuracy."""
        return balanced_error(self.matrix)

    def as_selected(self, selection: str) -> RunFacts:
        """The same run with the metrics of other weights: ``last``, ``best-on-validation``."""
        for found in (self.metrics, *self.metrics.get("others", ())):
            if found.get("selection") == selection:
                kept = {k: v for k, v in self.metrics.items() if k in ("seconds", "device")}
                return RunFacts(
                    self.path, self.config, {**kept, **found}, self.lines, self.counts,
                    self.measured_on,
                )  # fmt: skip
        return self


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces with their true classes and what a model says about them.

    Attributes:
        targets: (N,) int64 in [0, C).
        probabilities: (N, C), rows sum to 1.
        sets: (N, C) bool, candidate sets.
        pixels: places (n,) -> (n, S, S, 3) uint8.
        name: place -> what the data calls the face.
    """

    targets: Integers
    probabilities: NDArray[np.float32]
    sets: NDArray[np.bool_]
    pixels: Callable[[Integers], NDArray[np.uint8]]
    name: Callable[[int], str]

    @property
    def said(self) -> Integers:
        """(N,) int64, the most probable classes."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def sure(self) -> NDArray[np.float64]:
        """(N,) probabilities of these, in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64).clip(0, 1)

    def confident_errors(self, most: int) -> Integers:
        """Places of what is wrong with the most confidence, the worst first."""
        return confident_errors(self.probabilities, self.targets, most)

    def ambiguous(self, most: int) -> Integers:
        """Places of the least decided answers, by their entropy, the least decided first."""
        p = self.probabilities.astype(np.float64)
        entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)
        return np.argsort(-entropy, kind="stable")[:most]


def confident_errors(probabilities: NDArray[np.float32], targets: Integers, most: int) -> Integers:
    """Places of wrong answers, the most confident first: (N, C), (N,) -> (n,), n <= ``most``.

    Example:
        >>> confident_errors(np.array([[0.6, 0.4], [0.1, 0.9], [0.9, 0.1]]), np.array([1, 0, 0]), 5)
        array([1, 0])
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    sure = probabilities.max(axis=1)[wrong]
    return wrong[np.argsort(-sure, kind="stable")][:most]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the model of a run says about its faces.

    Attributes:
        classes: names of the C classes.
        mass: T of the candidate sets.
        faces: those of the part that was measured.
        pool: some unlabeled training faces whose class the data knows; None where it knows none,
            or the method uses none.
        pool_facts: of these, see :func:`leaf_fer.engine.watch.quality`.
        sample: (n,) places of the faces that ``plane`` and ``usage`` are of.
        plane: (n, 2), their features by t-SNE; None where it cannot be had.
        usage: by level of EAF, (C, E) mean gate weights; NaN for a class without faces.
    """

    classes: tuple[str, ...]
    mass: float
    faces: Faces
    pool: Faces | None = None
    pool_facts: Mapping[str, Any] | None = None
    sample: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    plane: NDArray[np.float64] | None = None
    usage: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def mean_by_class(
    gates: NDArray[np.float32], targets: Integers, classes: int
) -> NDArray[np.float64]:
    """Mean gate weights by class: (N, E), (N,) -> (C, E), rows sum to 1 or are NaN."""
    truth = np.eye(classes)[targets]  # (N, C)
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = truth.T @ gates.astype(np.float64) / truth.sum(axis=0)[:, None]
    return share
