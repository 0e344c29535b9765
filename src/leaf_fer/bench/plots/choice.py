"""What is drawn, and which records belong together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.figure import Figure

from leaf_fer.bench.comparison import METRICS
from leaf_fer.bench.grid import PUBLISHED
from leaf_fer.bench.plots.theme import Theme
from leaf_fer.bench.records import Record, row_name
from leaf_fer.errors import UserError
from leaf_fer.registry import BASELINE, methods

K = TypeVar("K", bound=Hashable)

Draw = Callable[[Theme], Figure]
"""Draws what was found, on a page of either theme."""

MOST_PANELS = 24


@dataclass(frozen=True)
class Choice:
    """What users say about a figure.

    Attributes:
        selection: whose accuracy, as records call it: last or best-on-validation.
        metric: balanced, overall or auc.
        against: row that others are compared with where differences are drawn.
        faces: of a class, at most, where every face is a dot.
    """

    selection: str = "last"
    metric: str = "balanced"
    against: str = BASELINE
    faces: int = 100


def ordered(records: Sequence[Record]) -> list[Record]:
    """Sort by data set and method, both in the order of the paper, then by labels and seed."""
    place = {key: number for number, key in enumerate((*PUBLISHED, *methods()))}

    def rank(record: Record) -> tuple[Any, ...]:
        labels = record.labels or ""
        data = (place.get(record.data, len(PUBLISHED)), record.data)
        return (*data, place[record.method], row_name(record), len(labels), labels, record.seed)

    return sorted(records, key=rank)


def grouped(records: Sequence[Record], key: Callable[[Record], K]) -> dict[K, list[Record]]:
    """Put the seeds of a run together.

    Raises:
        UserError: two runs of the same seed, which differ in something the figure does not show.
    """
    groups: dict[K, list[Record]] = {}
    for record in records:
        group = groups.setdefault(key(record), [])
        for other in group:
            if other.seed == record.seed:
                raise UserError(
                    f"{other.cell} and {record.cell} would be one point of the figure: "
                    "narrow with --only"
                )
        group.append(record)
    return groups


def percents(records: Sequence[Record], metric: str, selection: str) -> list[float]:
    """Accuracy of each run in percent.

    Raises:
        UserError: a record does not have the selection, or was not measured.
    """
    return [100 * float(measured(each, METRICS[metric][0], selection)) for each in records]


def measured(record: Record, name: str, selection: str) -> Any:
    """One of the metrics of a record.

    Raises:
        UserError: it is not there.
    """
    try:
        return record.metrics[selection][name]
    except KeyError:
        raise UserError(
            f"{record.cell}: its record has no {name} of --selection {selection.split('-')[0]}"
        ) from None


def caption(record: Record) -> str:
    """What a run is, in two lines."""
    facts = (record.data, budget(record), f"seed {record.seed}")
    whole = (fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in facts)  # lines break between them
    return f"{row_name(record)}\n{', '.join(whole)}"


def budget(record: Record) -> str:
    """How many labels a run had."""
    return f"{record.labels or 'all'} labels"


def check_panels(records: Sequence[Record]) -> None:
    """Refuse more runs than one picture can show.

    Raises:
        UserError: there are more.
    """
    if len(records) > MOST_PANELS:
        raise UserError(
            f"{len(records)} runs, a panel each: expected at most {MOST_PANELS}; narrow with --only"
        )
