"""All methods on FERPlus with 400 labels, small enough for two CPU cores in two hours.

    python benchmarks/ferplus_cpu.py PATH [--methods fixmatch leaf ...]
    python benchmarks/ferplus_cpu.py --table

PATH is FERPlus in its official layout. Start it twice, each with OMP_NUM_THREADS=1, to use two
cores: a method that another process trains is skipped, and so is one that is finished; one that was
cut off goes on where it stopped. Every finished run is a line of results/ferplus_cpu.jsonl, from
which --table writes results/ferplus_cpu.md. The test part is never touched: numbers are of Valid.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from leaf_fer.config import configure
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError
from leaf_fer.registry import method as described
from leaf_fer.registry import methods
from leaf_fer.run import execute

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "ferplus_cpu"
RECORDS = ROOT / "results" / "ferplus_cpu.jsonl"
TABLE = RECORDS.with_suffix(".md")
METHODS = tuple(methods())
SETTINGS: dict[str, Any] = {
    "labels": 400,
    "image_size": 48,
    "backbone": "conv4",
    "steps": 600,
    "epoch_steps": 60,
    "seed": 0,
    "split_seed": 0,
    "final": "validation",
}


def commit() -> str:
    """The commit that is checked out, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def run(path: str, method: str, loaded: str) -> dict[str, Any]:
    """Train one method, or finish it, and return its record."""
    out = RUNS / method
    config = configure({"data": f"ferplus:{path}", "method": method, **SETTINGS})
    begun = RunFolder(out).started
    note = out / "commit.txt"
    if not begun:
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(loaded)
    result = execute(config, out, resume=begun)
    watched = [line["watch"] for line in RunFolder(out).lines() if "mask" in line.get("watch", {})]
    return {
        "method": method,
        "commit": note.read_text(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU thread(s)",
        "settings": {**config.to_dict(), "data": "ferplus"},  # a path says nothing to anybody else
        "drawn": json.loads((out / "split.json").read_text())["notes"]["labels"],
        "kept": watched[-1]["mask"] if watched else None,
        **result,
    }


def records() -> dict[str, dict[str, Any]]:
    """All finished runs by method, in the order of the methods."""
    if not RECORDS.exists():
        return {}
    found = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    by_method = {record["method"]: record for record in found}
    return {method: by_method[method] for method in METHODS if method in by_method}


def table() -> str:
    """The records as a table in Markdown."""
    rows = [
        "| method | balanced | overall | balanced, best epoch | mask | largest class | seconds "
        "| cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = records()
    for method, r in found.items():
        best = next(o for o in r["others"] if o["selection"] == "best-on-validation")
        name, share = max(r["predicted_shares"].items(), key=lambda item: item[1])
        kept = "-" if r["kept"] is None else f"{100 * r['kept']:.0f} %"
        rows.append(
            f"| {method} | {100 * r['balanced_accuracy']:.2f} | {100 * r['overall_accuracy']:.2f} "
            f"| {100 * best['balanced_accuracy']:.2f} | {kept} | {name} {100 * share:.0f} % "
            f"| {r['seconds']:.0f} | {described(method).cost:.1f} |"
        )
    r = next(iter(found.values()))
    s = r["settings"]
    head = (
        "# All methods on FERPlus, small enough for a CPU\n\n"
        "**A smoke table**: it shows that every method trains, not which is best. One seed, a tiny "
        "budget and random initial weights; differences of a few points mean nothing. Each method "
        "has its own defaults and its own recipe (`leaf methods METHOD`); all else is the "
        "same.\n\n"
        f"Valid part ({r['count']:,} images), {r['drawn']} labels, {s['backbone']} from random "
        f"weights, {s['image_size']} pixels, "
        f"{s['steps']:,} steps of {s['batch_size']} labeled and, "
        f"but for supervised, {s['batch_size'] * s['unlabeled_ratio']} unlabeled images, Adam "
        f"{s['lr']:g}, moving average of the weights after the last step, {r['machine']} per run, "
        f"seed {s['seed']}, split seed {s['split_seed']}. Accuracies in %. *Best epoch* is chosen "
        "on the same part and therefore too high. *Mask* is the mean weight of pseudo-labels at "
        "the end; *largest class* is what is predicted most often; *cost* is the computing that a "
        "step takes by its passes, supervised = 1.\n\n"
        "Written by `python benchmarks/ferplus_cpu.py --table` from "
        f"[{RECORDS.name}]({RECORDS.name}); commit "
        f"{', '.join(sorted({r['commit'] for r in found.values()}))}.\n\n"
    )
    return head + "\n".join(rows) + "\n"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--table", action="store_true")
    command = parser.parse_args()
    loaded = commit()  # now: files may change while this runs, but not the code that is loaded
    costly_first = sorted(command.methods, key=lambda m: -described(m).cost)
    for method in costly_first if not command.table else ():
        if method in records():
            continue
        try:
            record = run(command.path, method, loaded)
        except UserError as error:  # another process has the folder
            print(error)
            continue
        RECORDS.parent.mkdir(exist_ok=True)
        with RECORDS.open("a") as file:
            file.write(json.dumps(record) + "\n")
    if records():
        TABLE.write_text(table())
        print(table())


if __name__ == "__main__":
    main()
