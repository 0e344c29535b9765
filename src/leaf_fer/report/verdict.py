"""What the numbers of a run mean, in words that are computed from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leaf_fer.metrics import recall_errors
from leaf_fer.report.facts import RunFacts
from leaf_fer.report.markup import SPACE, counted, percent, points

Kind = Literal["good", "bad", "note"]

CHANCE = 2.0
"""Standard errors that a difference must exceed to be called one: about one in 20 by chance."""
FEW = 30
"""Faces of a class, fewer of which say little about it."""
UNSURE = 0.05
"""Calibration error from which on a page remarks on it."""
SWALLOWED = 0.6
"""Share of all answers that one class may take, if less than half as many faces have it."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a verdict, and whether it is good news."""

    text: str
    kind: Kind = "note"


@dataclass(frozen=True)
class Difference:
    """Balanced accuracy of one run less that of another.

    Attributes:
        value: in [-1, 1].
        error: its standard error, with the faces of both taken as drawn by themselves. Where they
            are the same faces the true one is smaller, so this never claims too much.
    """

    value: float
    error: float

    @property
    def real(self) -> bool:
        """Whether it is more than chance gives."""
        return abs(self.value) > CHANCE * self.error

    @property
    def words(self) -> str:
        """How it reads after a number."""
        bound = f"{CHANCE:g} standard errors are {points(CHANCE * self.error).lstrip('+')} points"
        if self.real:
            return f"more than the choice of test faces explains ({bound})"
        return f"within chance ({bound})"


def difference(run: RunFacts, other: RunFacts) -> Difference:
    """How much better a run is than another."""
    return Difference(run.balanced - other.balanced, math.hypot(run.error, other.error))


def budget(run: RunFacts) -> str:
    """How many labels a run had, in words."""
    labels = run.counts.get("labeled")
    return counted(labels, "label") if labels else f"{run.config['labels'] or 'all'} labels"


def verdict(run: RunFacts, beside: RunFacts | None) -> list[Sentence]:
    """The sentences of a run, the main one first.

    Args:
        run: finished.
        beside: a supervised run, if there is one.
    """
    if not run.measured:
        return [Sentence("Trained, but there were no labeled faces to measure it on.")]
    found = [_main(run)]
    if beside is not None and beside.measured:
        found.append(_beside(run, beside))
    found += [_classes(run), _confused(run), *_collapse(run), _sureness(run), *_scope(run)]
    return [sentence for sentence in found if sentence.text]


def _main(run: RunFacts) -> Sentence:
    chance = 1 / int((run.matrix.sum(axis=1) > 0).sum())
    known = run.balanced - chance > CHANCE * run.error
    text = (
        f"With {budget(run)}, {run.method} recognizes {percent(run.balanced)} of the "
        f"{run.metrics['part']} faces of a class, averaged over classes "
        f"(standard error {points(run.error).lstrip('+')})."
    )
    than = "guessing gets" if known else "That is no more than guessing, which gets"
    return Sentence(
        f"{text} {than[0].upper()}{than[1:]} {percent(chance)}.", "note" if known else "bad"
    )


def _beside(run: RunFacts, beside: RunFacts) -> Sentence:
    """How a run stands beside a supervised one."""
    gap = difference(run, beside)
    way = "above" if gap.value > 0 else "below"
    distance = points(abs(gap.value)).lstrip("+")
    if set(run.classes) != set(beside.classes):
        return Sentence(f"{beside.name} knows other classes and cannot be compared.", "bad")
    text = (
        f"That is {distance} points {way} supervised training with {budget(beside)} "
        f"({percent(beside.balanced)}), {gap.words}."
    )
    if run.measured_on != beside.measured_on:
        text += " The two were measured on different faces."
    kind: Kind = "note" if not gap.real else "good" if gap.value > 0 else "bad"
    return Sentence(text, kind)


def _classes(run: RunFacts) -> Sentence:
    """The best and the worst class."""
    matrix, truth = run.matrix, run.matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):
        recall = matrix.diagonal() / truth
    best, worst = int(np.nanargmax(recall)), int(np.nanargmin(recall))
    if best == worst:
        return Sentence("")
    few = f", of only {truth[worst]} faces" if truth[worst] < FEW else ""
    return Sentence(
        f"Best at {run.classes[best]} ({percent(recall[best], 0)}), worst at {run.classes[worst]} "
        f"({percent(recall[worst], 0)} ±{SPACE}{100 * recall_errors(matrix)[worst]:.0f}{few})."
    )


def _confused(run: RunFacts) -> Sentence:
    """The class that is most often taken for another."""
    matrix, truth = run.matrix, run.matrix.sum(axis=1)
    share = (
        np.where(truth[:, None] >= min(FEW, truth.max()), matrix, 0) / np.maximum(truth, 1)[:, None]
    )
    np.fill_diagonal(share, 0)
    true, said = np.unravel_index(int(share.argmax()), share.shape)
    if not share[true, said]:
        return Sentence("It made no error.", "good")
    names = run.classes
    return Sentence(
        f"Its most frequent confusion: {names[true]} is taken for {names[said]} in "
        f"{percent(float(share[true, said]), 0)} of the faces."
    )


def _collapse(run: RunFacts) -> list[Sentence]:
    """Whether one class swallows all others."""
    matrix = run.matrix
    said, truth = matrix.sum(axis=0) / matrix.sum(), matrix.sum(axis=1) / matrix.sum()
    most = int(said.argmax())
    if said[most] > SWALLOWED and truth[most] < said[most] / 2:
        text = f"{percent(float(said[most]), 0)} of all answers are {run.classes[most]}, which "
        text += f"{percent(float(truth[most]), 0)} of the faces are: the run has collapsed."
        return [Sentence(text, "bad")]
    never = [n for n, s, t in zip(run.classes, said, truth, strict=True) if t > 0 and s == 0]
    return [Sentence(f"It never says {' or '.join(never)}.", "bad")] if never else []


def _sureness(run: RunFacts) -> Sentence:
    """Whether its confidence can be believed."""
    error = float(run.metrics["ece"])
    if error <= UNSURE:
        return Sentence(
            f"Its confidence can be believed: it is off by {points(error).lstrip('+')} points.",
            "good",
        )
    return Sentence(
        f"Do not read its confidence as a probability: it is off by "
        f"{points(error).lstrip('+')} points on average.",
        "bad",
    )


def _scope(run: RunFacts) -> list[Sentence]:
    """What the number is not."""
    text = "One seed: another draw of labels or another seed may change more than the standard "
    found = [Sentence(text + "error says. Take three seeds before you conclude anything.")]
    selection, part = run.metrics.get("selection"), run.metrics.get("part")
    if selection == "best-on-validation" and part == "validation":
        text = "The weights were chosen on the faces they are measured on: expect less elsewhere."
        found.append(Sentence(text, "bad"))
    return found
