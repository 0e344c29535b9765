"""What a grid of runs has found: records to read, to name and to compare. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaf_fer.bench import grid
from leaf_fer.bench.folder import CellFolder
from leaf_fer.config import SETTINGS, Config, Settings, options_of, read_yaml
from leaf_fer.errors import UserError
from leaf_fer.registry import method

EAF = (
    *("eaf", "num_experts", "top_k", "expert", "gate", "shared_expert"),
    *("combine", "balance_weight", "instance_level"),
)
"""Options of the levels that any method can have; without eaf the others say nothing."""

NO_PROTOCOL = ("data", "method", "labels", "seed", "split_seed", "select", *EAF, *grid.MACHINE)
"""Settings that records of one table may differ in. Either selection is in every record."""

ALWAYS_SAID = ("image_size", "backbone", "batch_size")
"""Protocol that readers want to know, default or not."""


@dataclass(frozen=True)
class Record:
    """One training run.

    Attributes:
        cell: name of its folder.
        folder: the folder, which need not be there if somebody passed on the records alone.
        config: all options; those that the record does not have, because they are newer, have
            their defaults.
        metrics: by selection, ``last`` and perhaps ``best-on-validation``; empty if unfinished.
        commit: of the code, if known.
        device: what it was computed on, if known.
        state: finished, failed or unfinished.
        warnings: of the run; none in records that are older than they.
    """

    cell: str
    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    commit: str | None = None
    device: str | None = None
    state: str = "finished"
    warnings: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """Key of the method."""
        return str(self.config["method"])

    @property
    def data(self) -> str:
        """The data set, as the recipe calls it."""
        return str(self.config["data"])

    @property
    def labels(self) -> str | None:
        """Budget or file of labels; None: all there are."""
        labels = self.config["labels"]
        return None if labels is None else str(labels)

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.config["seed"])


def read(places: Iterable[Path]) -> list[Record]:
    """The finished runs of folders that ``leaf bench run`` wrote, or of their records, each once.

    Raises:
        UserError: no records, or not of this kind; a run that has two results.
    """
    found: dict[str, Record] = {}
    origin: dict[str, Path] = {}
    for place in places:
        file = place if place.is_file() else place / "records.jsonl"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise UserError(
                f"{place}: no records.jsonl to read; expected the folder of a leaf bench run, or "
                "its records"
            ) from None
        for number, line in enumerate(lines, 1):
            try:
                record = _record(file.parent, json.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                reason = error if isinstance(error, UserError) else "not a record of leaf bench run"
                raise UserError(f"{file}, line {number}: {reason}") from None
            known = found.setdefault(record.cell, record)
            first = origin.setdefault(record.cell, place)
            if known.metrics != record.metrics:
                raise UserError(
                    f"{record.cell}: {first} and {place} have different results of it; "
                    "name one of them"
                )
    return list(found.values())


def unfinished(folders: Iterable[Path]) -> list[Record]:
    """Runs of these folders that have begun and have no result, failed ones among them."""
    found = {}
    for file in (file for folder in folders for file in sorted(folder.glob("cells/*/cell.json"))):
        cell = CellFolder(file.parent)
        if not cell.finished:
            facts = json.loads(file.read_text(encoding="utf-8"))
            config = _complete({**read_yaml(str(cell.options)), "data": facts["data"]})
            state = "failed" if cell.failed else "unfinished"
            found[cell.path.name] = Record(cell.path.name, cell.path, config, {}, state=state)
    return list(found.values())


def select(records: Sequence[Record], only: Sequence[str]) -> list[Record]:
    """The records that ``--only OPTION=VALUE[,VALUE...] ...`` leaves.

    Raises:
        UserError: a value that no record has.
    """
    names = [option.name for option in SETTINGS]
    cells = []
    for record in records:
        settings = Settings(**{name: record.config[name] for name in names})
        own = {name: value for name, value in record.config.items() if name not in names}
        cells.append(grid.Cell(record.cell, Config(settings, own), {}))
    kept = {cell.name for cell in grid.select(cells, only)}
    return [record for record in records if record.cell in kept]


def row_name(record: Record) -> str:
    """The method, and its options and those of the EAF that are not what it has by default.

    Example:
        >>> config = _complete({"method": "leaf", "eaf": "instance", "mass": 0.8})
        >>> row_name(Record("", Path(), config, {}))
        'leaf eaf=instance mass=0.8'
    """
    entry, config = method(record.method), record.config
    defaults = {o.name: o.default for o in options_of(entry.key)} | entry.recipe
    eaf = EAF if config["eaf"] != "none" else EAF[:1]
    names = [*eaf, *(option.name for option in entry.options)]
    differing = [name for name in names if config[name] != defaults[name]]
    return " ".join([entry.key, *(f"{name}={grid.shown(config[name])}" for name in differing)])


def check_protocol(records: Iterable[Record]) -> None:
    """Refuse records that cannot stand side by side.

    Settings must agree on each data set, and the part that was tested on all. A setting that a
    method recommends is the method's: it must agree among the records of that method.

    Raises:
        UserError: the first option that differs, its values and how to leave one out.
    """
    first: dict[tuple[str, ...], Record] = {}
    for record in records:
        recommended = method(record.method).recipe
        for name in _protocol():
            where = () if name == "final" else (record.data,)
            whose = (record.method,) if name in recommended else ()
            other = first.setdefault((name, *where, "", *whose), record)
            one, two = (grid.shown(each.config[name]) for each in (other, record))
            if one != two:
                raise UserError(
                    f"{name} differs: {one} in {other.cell}, {two} in {record.cell}; records of "
                    f"different protocols do not compare, narrow with --only {name}={one}"
                )


def protocol(records: Sequence[Record]) -> list[str]:
    """What the records have in common, a sentence for each data set and method that need one.

    Only what is not the default is said, and what everybody wants to know.
    """
    common: dict[str, list[str]] = {}
    own: dict[str, list[str]] = {}
    defaults = {option.name: option.default for option in SETTINGS}
    for record in records:
        recommended = method(record.method).recipe
        length = "epochs" if record.config["steps"] is None else "steps"
        for name in _protocol():
            value = record.config[name]
            if name == "epochs" and length == "steps":
                continue
            if value != defaults[name] or name in (*ALWAYS_SAID, length):
                whose, of = (own, record.method) if name in recommended else (common, record.data)
                words = whose.setdefault(of, [])
                word = f"{name} {grid.shown(value)}"
                words += [] if word in words else [word]
    same = len({tuple(words) for words in common.values()}) == 1
    lines = _sentences({"all": next(iter(common.values()))} if same else common)
    return [line.removeprefix("all: ") for line in lines] + _sentences(own)


def _sentences(said: Mapping[str, Sequence[str]]) -> list[str]:
    """``a, b: words`` for those of whom the same is said."""
    whose: dict[str, list[str]] = {}
    for name, words in said.items():
        whose.setdefault(", ".join(words), []).append(name)
    return [f"{', '.join(names)}: {words}" for words, names in whose.items()]


def _protocol() -> list[str]:
    return [option.name for option in SETTINGS if option.name not in NO_PROTOCOL]


def _record(folder: Path, line: Mapping[str, Any]) -> Record:
    """A line of records.jsonl."""
    metrics = line["metrics"]
    found = {str(each["selection"]): each for each in [metrics, *metrics.get("others", [])]}
    cell, config = str(line["cell"]), _complete(line["config"])
    path = folder / "cells" / cell
    warnings = tuple(each["warning"] for each in metrics.get("warnings", ()))
    return Record(
        *(cell, path, config, found, line.get("commit"), metrics.get("device")), warnings=warnings
    )


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the options that are newer than it."""
    return {option.name: option.default for option in options_of(config["method"])} | dict(config)
