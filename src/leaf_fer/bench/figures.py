"""From seconds to the rows and the tables of ``leaf bench speed``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leaf_fer.bench.contestant import Times

Row = dict[str, Any]

PEER = "semilearn"
"""Name of the contestant from another environment."""

WORK = ("data", "step", "computing")
"""Work of a contestant: the views of a step, a step as in a run, and one with a resident batch."""

VIEWS = {
    "size": "size",
    "batch": "batch",
    "leaf": "pairs_per_second",
    "Pillow": "pillow_pairs_per_second",
    "leaf / Pillow": "over_pillow",
    PEER: "peer_pairs_per_second",
    f"leaf / {PEER}": "over_peer",
}
STEPS = {
    "size": "size",
    "batch": "batch",
    "of": "name",
    "precision": "precision",
    "data": "data_ms",
    "step": "step_ms",
    "computing": "computing_ms",
    "step / computing": "step_over_computing",
    "first step": "first_step_ms",
    "compiling": "compiling_ms",
    "MiB": "memory_mib",
    "step / {first}'s": "step_over_first",
    f"{PEER}'s / step": "peer_step_over_step",
    f"{PEER}'s / computing": "peer_computing_over_computing",
}
"""Title of a column -> its name in a row. Columns without any value are not shown."""


def views_row(first: str, times: Times, batch: int) -> Row:
    """How many pairs of a weak and a strong view one core makes, here and elsewhere.

    Args:
        first: the contestant that makes those of this package and the usual ones.
        times: of all.
        batch: pairs per piece of work.
    """
    own, usual, peer = (first, "pairs"), (first, "pillow"), (PEER, "pairs")
    row: Row = {
        "pairs_per_second": batch / times.median(own),
        "pillow_pairs_per_second": batch / times.median(usual),
        "over_pillow": times.ratio(usual, own),
    }
    if peer in times.seconds:
        row["peer_pairs_per_second"] = batch / times.median(peer)
        row["over_peer"] = times.ratio(peer, own)
    return row


def steps_row(name: str, first: str, times: Times, found: Mapping[str, Any]) -> Row:
    """What a step of one contestant takes, and how that compares.

    Args:
        name: the contestant.
        first: the one that all are compared with.
        times: of all.
        found: what it says of itself, see :func:`leaf_fer.bench.usb.serve`.
    """
    step, computing = (name, "step"), (name, "computing")
    row: Row = {
        "name": name,
        "precision": found["precision"],
        "data_ms": 1e3 * times.median((name, "data")),
        "step_ms": 1e3 * times.median(step),
        "computing_ms": 1e3 * times.median(computing),
        "step_over_computing": times.ratio(step, computing),
        "first_step_ms": 1e3 * found["first"],
        "memory_mib": found["memory"] and found["memory"] / 2**20,
        "step_over_first": times.ratio(step, (first, "step")),
        "rounds_ms": {work: [1e3 * each for each in times.seconds[name, work]] for work in WORK},
    }
    if found.get("compiled"):
        row["compiling_ms"] = 1e3 * (found["first"] + found["second"] - 2 * times.median(step))
    if (PEER, "step") in times.seconds and name != PEER:
        row["peer_step_over_step"] = times.ratio((PEER, "step"), step)
        row["peer_computing_over_computing"] = times.ratio((PEER, "computing"), computing)
    return row


def text(facts: Mapping[str, Any]) -> str:
    """The tables, and what they are tables of."""
    machine, rows = facts["hardware"], facts["rows"]
    where = f"{machine['threads']} threads of {machine['cpu']}"
    gpu = machine["gpu"]
    return "\n".join(
        [
            facts["method"],
            f"{where}{f' and {gpu}' if gpu else ''}, torch {facts['versions']['torch']}",
            "",
            "a weak and a strong view of every image, normalized: pairs per second of one core",
            *table(VIEWS, facts["views"]),
            "",
            "a training step: milliseconds, peak memory, ratios",
            *table({t.format(first=rows[0]["name"]): key for t, key in STEPS.items()}, rows),
        ]
    )


def table(columns: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    """Lines of a table: a title above every column, words to the left, numbers to the right."""
    shown = [title for title, key in columns.items() if any(row.get(key) for row in rows)]
    cells = [shown, *([written(row.get(columns[title])) for title in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [isinstance(rows[0].get(columns[title]), str) for title in shown]
    return [
        "  ".join(
            cell.ljust(width) if words else cell.rjust(width)
            for cell, width, words in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in cells
    ]


def written(value: Any) -> str:
    """A value in three digits or more, as a table has it.

    Example:
        >>> [written(value) for value in (None, "leaf", 64, 1234.5, 12.34, 0.5)]
        ['-', 'leaf', '64', '1234', '12.3', '0.50']
    """
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
