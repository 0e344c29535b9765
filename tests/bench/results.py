"""Folders as ``leaf bench run`` leaves them, with results that are made up."""

import json

from leaf_fer.bench import grid
from leaf_fer.config import configure, write_yaml


def record(balanced=0.5, *, best=None, overall=0.25, commit="abc", seed=0, warned=(), **options):
    """A line of records.jsonl."""
    options = {"data": "ferplus", "labels": "100", **options}
    config = configure(options, {"seed": seed, "split_seed": seed})
    values = {"part": config.settings.final, "overall_accuracy": overall}
    others = []
    if best is not None:
        others = [{"selection": "best-on-validation", **values, "balanced_accuracy": best}]
    metrics = {"selection": "last", **values, "balanced_accuracy": balanced, "others": others}
    metrics["device"] = "a CPU"
    metrics["warnings"] = [{"step": 150, "warning": text} for text in warned]
    name = grid._name(config)
    return {"cell": name, "commit": commit, "config": config.to_dict(), "metrics": metrics}


def write(folder, *records):
    """A folder of finished runs."""
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(text)
    return folder


def begin(folder, *, failed=False, **options):
    """A run in a folder that has not come to an end."""
    options = {"data": "ferplus", "labels": "100", **options}
    cell = folder / "cells" / grid._name(configure(options))
    cell.mkdir(parents=True)
    (cell / "cell.yaml").write_text(write_yaml(configure(options, {"data": "ferplus:/there"})))
    (cell / "cell.json").write_text(json.dumps({"data": "ferplus", "commit": "abc"}))
    if failed:
        (cell / "failed.json").write_text("{}")
