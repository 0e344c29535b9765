"""``leaf bench table``: what runs have found, as tables. Imports no torch."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from leaf_fer.bench import records as records_of
from leaf_fer.bench.comparison import Table, build
from leaf_fer.bench.formats import FORMATS
from leaf_fer.bench.records import Record
from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically

SELECTIONS = {"last": "last", "best": "best-on-validation"}
"""Words of ``--selection`` -> what records call it."""


def main(command: argparse.Namespace) -> int:
    """``leaf bench table``."""
    folders = [Path(folder) for folder in dict.fromkeys(command.folders)]
    finished = records_of.read(folders)
    there = {record.cell for record in finished}
    left = [record for record in records_of.unfinished(folders) if record.cell not in there]
    kept = records_of.select([*finished, *left], command.only)
    kept_finished = [record for record in kept if record.state == "finished"]
    if not kept_finished:
        raise UserError(f"{folders[0]}: none of the cells asked for is finished")
    records_of.check_protocol(kept_finished)
    text = FORMATS[command.format](tables(kept, command), notes(kept_finished))
    if command.out:
        write_atomically(Path(command.out), text.encode())
    else:
        print(text, end="")
    return 0


def tables(records: Sequence[Record], command: argparse.Namespace) -> list[Table]:
    """The tables that were asked for, metric by metric; with ``both``, what there are records for.

    Raises:
        UserError: no record has the selection, or there is no row of the name to subtract.
    """
    both = command.selection == "both"
    asked = list(SELECTIONS.values()) if both else [SELECTIONS[command.selection]]
    there = [name for name in asked if any(name in record.metrics for record in records)]
    if not there:
        raise UserError(
            f"--selection {command.selection}: no record has it; runs without validation images "
            "have last alone"
        )
    rows = [None] if command.against is None else [None, command.against]
    return [
        build(records, metric, name, row)
        for metric in command.metric
        for name in there
        for row in rows
    ]


def notes(records: Sequence[Record]) -> list[str]:
    """What readers must know: part, seeds, protocol, commits, devices."""
    parts = sorted({str(each.get("part")) for r in records for each in r.metrics.values()})
    seeds = sorted({record.seed for record in records})
    listed = ", ".join(map(str, seeds))
    commits = Counter(record.commit or "unknown" for record in records)
    counted = ", ".join(
        f"{commit} ({n} cell{'s' if n > 1 else ''})" for commit, n in commits.most_common()
    )
    devices = sorted({record.device for record in records if record.device})
    return [
        f"In percent, on the {' and '.join(parts)} part.",
        f"Mean ± standard deviation (n - 1) over the {len(seeds)} seeds {listed}."
        if len(seeds) > 1
        else f"One seed: {listed}.",
        *(f"Protocol: {line}." for line in records_of.protocol(records)),
        f"Different commits: {counted}." if len(commits) > 1 else f"Commit: {next(iter(commits))}.",
        *([f"Computed on: {'; '.join(devices)}."] if devices else []),
        *warnings(records),
    ]


def warnings(records: Sequence[Record]) -> list[str]:
    """What runs warned of, and in how many of each row."""
    rows = Counter(records_of.row_name(record) for record in records)
    warned: dict[str, Counter[str]] = {}
    for record in records:
        for text in dict.fromkeys(record.warnings):
            warned.setdefault(text, Counter())[records_of.row_name(record)] += 1
    return [
        f"Warned in {', '.join(f'{n} of {rows[row]} runs of {row}' for row, n in counts.items())}: "
        f"{text}."
        for text, counts in warned.items()
    ]
