"""Records of runs side by side, and beside the paper's numbers. Imports no torch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev

from leaf_fer.bench.grid import PUBLISHED
from leaf_fer.bench.records import Record, row_name
from leaf_fer.errors import UserError
from leaf_fer.registry import BASELINE, methods

PAPER = Path(__file__).with_name("paper.csv")
"""Numbers of the paper, in percent; a row has the name that records of it have."""

METRICS = {
    "balanced": ("balanced_accuracy", "Balanced accuracy"),
    "overall": ("overall_accuracy", "Overall accuracy"),
    "auc": ("auc", "AUC of pairs of classes"),
}
"""What is compared, with its name in records and in titles."""

LOWER, UPPER = BASELINE, f"{BASELINE}, all labels"
"""Rows that say what labels alone give."""

Column = tuple[str, str | None]
"""A data set, and the labels of it; None: all."""


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table.

    Attributes:
        percents: accuracy of each run, in percent, or a difference of two, in percentage points.
        expected: runs that other places have.
        states: how many runs of this place are ``failed`` and ``unfinished``.
        paper: the same of the paper; None where it has none.
        commits: of the code that the runs are of.
        rank: 1 for the best of its column, equals have the same; 0 if it is not compared.
        relative: these are differences to another row.
    """

    percents: tuple[float, ...]
    expected: int
    states: Counter[str]
    paper: float | None
    commits: tuple[str, ...] = ()
    rank: int = 0
    relative: bool = False

    @property
    def mean(self) -> float | None:
        """Mean over the runs; None if there are none."""
        return mean(self.percents) if self.percents else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation, with n - 1; None of a single run."""
        return stdev(self.percents) if len(self.percents) > 1 else None

    @property
    def difference(self) -> float | None:
        """Mean minus the paper's number, in percentage points."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def ahead(self) -> int:
        """Of differences, how many are positive."""
        return sum(percent > 0 for percent in self.percents)

    @property
    def note(self) -> str:
        """What is not there, or nothing.

        Example:
            >>> Entry((50.0, 51.0), 3, Counter(failed=1), None).note
            '2 of 3 seeds, 1 failed'
        """
        if not self.percents:
            return " and ".join(sorted(self.states)) or "missing"
        if len(self.percents) >= self.expected:
            return ""
        words = [f"{count} {state}" for state, count in sorted(self.states.items())]
        return ", ".join([f"{len(self.percents)} of {self.expected} seeds", *words])


@dataclass(frozen=True)
class Table:
    """Accuracies by row and column.

    Attributes:
        metric: one of :data:`METRICS`.
        selection: which weights were tested, as records call it.
        columns: in their order.
        rows: in their order, each with an entry for every column.
        against: the row that was subtracted from the others; None if none was.
    """

    metric: str
    selection: str
    columns: list[Column]
    rows: dict[str, list[Entry]]
    against: str | None = None


def build(
    records: Sequence[Record], metric: str, selection: str, against: str | None = None
) -> Table:
    """Arrange records, finished or not, of one protocol.

    Args:
        records: in any order.
        metric: one of :data:`METRICS`.
        selection: as records call it.
        against: row to subtract from the others, run by run of the same labels and seeds. Which
            labels were drawn moves all methods, and their differences less.

    Raises:
        UserError: there is no such row.
    """
    if against is not None:
        records = _relative(records, against)
    columns = _columns(records)
    seeds = len({(record.seed, record.config["split_seed"]) for record in records})
    places: dict[tuple[str, Column], list[Record]] = {}
    for record in sorted(records, key=_order):
        name, labels = _row(record), record.labels
        for column in columns:
            if column[0] == record.data and (name == UPPER or column[1] == labels):
                places.setdefault((name, column), []).append(record)
    rows = {
        name: [
            _entry(
                places.get((name, column), []),
                seeds,
                metric,
                selection,
                paper=_paper_minus(name, against, column, metric),
                relative=against is not None,
            )
            for column in columns
        ]
        for name in dict.fromkeys(name for name, _ in places)
    }
    return Table(metric, selection, columns, _ranked(rows), against)


@cache
def _figures() -> dict[tuple[str, ...], float]:
    with PAPER.open(encoding="utf-8", newline="") as file:
        names = ("row", "data", "labels", "metric")
        return {
            tuple(line[name] for name in names): float(line["percent"])
            for line in csv.DictReader(file)
        }


def paper(row: str, column: Column, metric: str) -> float | None:
    """The paper's number in percent, or None.

    Example:
        >>> paper("leaf expert=linear", ("rafdb", "100"), "balanced")
        56.01
    """
    data, labels = column
    return _figures().get((row, data, labels or "", metric))


def _paper_minus(row: str, against: str | None, column: Column, metric: str) -> float | None:
    """The paper's number, or its difference between two rows."""
    one = paper(row, column, metric)
    if one is None or against is None:
        return one
    other = paper(against, column, metric)
    return None if other is None else one - other


def _relative(records: Sequence[Record], against: str) -> list[Record]:
    """Records with what they are above those of a row; without a partner they have no metrics.

    Raises:
        UserError: there is no such row.
    """
    rows = [_row(record) for record in sorted(records, key=_order)]
    if against not in rows:
        known = ", ".join(map(repr, dict.fromkeys(rows)))
        raise UserError(f"--against {against!r}: no such row; expected one of {known}")
    others = {_run(record): record for record in records if _row(record) == against}
    return [
        replace(record, metrics=_minus(record, others.get(_run(record))))
        for record in records
        if _row(record) not in (against, UPPER)
    ]


def _run(record: Record) -> tuple[object, ...]:
    """What two runs must share to be compared."""
    return record.data, record.labels, record.seed, record.config["split_seed"]


def _minus(record: Record, other: Record | None) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for selection, values in record.metrics.items():
        theirs = {} if other is None else other.metrics.get(selection, {})
        found[selection] = {
            name: values[name] - theirs[name]
            for name, _ in METRICS.values()
            if values.get(name) is not None and theirs.get(name) is not None
        }
    return found


def _row(record: Record) -> str:
    name = row_name(record)
    return UPPER if name == LOWER and record.labels is None else name


def _columns(records: Sequence[Record]) -> list[Column]:
    """Data sets as the paper has them, then others; budgets in their order, all labels last.

    The upper bound is in all columns of its data set. Only without others it has one of its own.
    """
    found = {(record.data, record.labels) for record in records if _row(record) != UPPER}
    there = {data for data, _ in found}
    found |= {(record.data, None) for record in records if record.data not in there}

    def order(column: Column) -> tuple[int, str, int, str]:
        data, labels = column
        place = PUBLISHED.index(data) if data in PUBLISHED else len(PUBLISHED)
        budget = int(labels) if labels and labels.isdecimal() else 10**9
        return place, data, budget, labels or "~"

    return sorted(found, key=order)


def _order(record: Record) -> tuple[int, int, str, int]:
    """Lower bound, methods as ``leaf methods`` lists them, upper bound."""
    name = _row(record)
    bound = {LOWER: 0, UPPER: 2}.get(name, 1)
    return bound, list(methods()).index(record.method), name, record.seed


def _entry(
    records: Sequence[Record],
    seeds: int,
    metric: str,
    selection: str,
    *,
    paper: float | None,
    relative: bool,
) -> Entry:
    found = [record.metrics.get(selection, {}).get(METRICS[metric][0]) for record in records]
    percents = tuple(100 * value for value in found if value is not None)
    states = Counter(record.state for record in records if record.state != "finished")
    commits = tuple(sorted({record.commit for record in records if record.commit}))
    return Entry(percents, seeds, states, paper, commits, relative=relative)


def _ranked(rows: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Rank each column by what is shown, two decimals; the upper bound does not compete."""
    competing = [entries for name, entries in rows.items() if name != UPPER]
    scores = [
        sorted({round(e.mean, 2) for e in column if e.mean is not None}, reverse=True)
        for column in zip(*competing, strict=True)
    ]

    def ranked(entry: Entry, ranks: list[float]) -> Entry:
        if entry.mean is None:
            return entry
        return replace(entry, rank=1 + ranks.index(round(entry.mean, 2)))

    return {
        name: entries if name == UPPER else list(map(ranked, entries, scores))
        for name, entries in rows.items()
    }
