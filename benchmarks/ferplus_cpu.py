"""Supervised, LEAF and its literal reading on FERPlus, small enough for two CPU cores.

    python benchmarks/ferplus_cpu.py PATH [--labels 400]
    python benchmarks/ferplus_cpu.py --table

PATH is FERPlus in its official layout. Cells that are finished are skipped, and a cell that was
cut off goes on where it stopped. Every finished cell is a line of results/ferplus_cpu.jsonl, from
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

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "ferplus_cpu"
RECORDS = ROOT / "results" / "ferplus_cpu.jsonl"
TABLE = RECORDS.with_suffix(".md")
METHODS = ("supervised", "leaf", "leaf_literal")
LABELS = (400, 100)
SETTINGS: dict[str, Any] = {
    "image_size": 48,
    "backbone": "resnet18",
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


def run(path: str, method: str, labels: int, loaded: str) -> dict[str, Any]:
    """Train one cell, or finish it, and return its record."""
    from leaf_fer.config import configure
    from leaf_fer.engine.record import RunFolder
    from leaf_fer.run import execute

    out = RUNS / f"{method}-{labels}"
    given = {"data": f"ferplus:{path}", "method": method, "labels": labels, **SETTINGS}
    config = configure(given)
    begun = RunFolder(out).started
    note = out / "commit.txt"
    if not begun:
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(loaded)
    result = execute(config, out, resume=begun)
    # A path says nothing to anybody else.
    settings = {**config.to_dict(), "data": "ferplus"}
    return {
        "method": method,
        "labels": labels,
        "commit": note.read_text(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU thread(s)",
        "settings": settings,
        **result,
    }


def records() -> list[dict[str, Any]]:
    """All finished cells."""
    if not RECORDS.exists():
        return []
    return [json.loads(line) for line in RECORDS.read_text().splitlines()]


def table() -> str:
    """The records as a table in Markdown."""
    rows = [
        "| method | labels (drawn) | balanced accuracy, last | overall, last "
        "| balanced, best epoch | mask | largest class | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = {(m, n): place for place, (n, m) in enumerate((n, m) for n in LABELS for m in METHODS)}
    found = sorted(records(), key=lambda r: order[r["method"], r["labels"]])
    for r in found:
        best = next(o for o in r["others"] if o["selection"] == "best-on-validation")
        name, share = max(r["predicted_shares"].items(), key=lambda item: item[1])
        rows.append(
            f"| {r['method']} | {r['labels']} ({r['drawn']}) | {100 * r['balanced_accuracy']:.2f} "
            f"| {100 * r['overall_accuracy']:.2f} | {100 * best['balanced_accuracy']:.2f} "
            f"| {100 * r['kept']:.0f} % | {name} {100 * share:.0f} % | {r['seconds']:.0f} |"
        )
    s = found[0]["settings"]
    head = (
        "# FERPlus, small enough for a CPU\n\n"
        f"Valid part ({found[0]['count']:,} images), {s['backbone']} from random weights, "
        f"{s['image_size']} pixels, {s['steps']:,} steps of {s['batch_size']} labeled and, but for "
        f"supervised, {s['batch_size'] * s['unlabeled_ratio']} unlabeled images, Adam {s['lr']:g}, "
        f"moving average of the weights, {found[0]['machine']} per run, "
        f"seed {s['seed']}, split seed {s['split_seed']}: one run "
        "each, so differences of a few points mean nothing. *Best epoch* is chosen on the same "
        "part and therefore too high. *Mask* is the share of unlabeled images that counted at the "
        "end; *largest class* is what is predicted most often.\n\n"
        "Written by `python benchmarks/ferplus_cpu.py --table` from "
        f"[{RECORDS.name}]({RECORDS.name}); commit "
        f"{', '.join(sorted({r['commit'] for r in found}))}.\n\n"
    )
    return head + "\n".join(rows) + "\n"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--labels", type=int, nargs="+", choices=LABELS, default=LABELS)
    parser.add_argument("--table", action="store_true")
    command = parser.parse_args()
    done = {(r["method"], r["labels"]) for r in records()}
    loaded = commit()  # now: files may change while this runs, but not the code that is loaded
    cells = [(m, n) for n in command.labels for m in METHODS if (m, n) not in done]
    for method, labels in cells if not command.table else []:
        record = run(command.path, method, labels, loaded)
        lines = [
            json.loads(line)
            for line in (RUNS / f"{method}-{labels}" / "metrics.jsonl").read_text().splitlines()
        ]
        watched = [line["watch"] for line in lines if line.get("watch")]
        record["kept"] = watched[-1]["mask"] if watched else 0.0
        split = json.loads((RUNS / f"{method}-{labels}" / "split.json").read_text())
        record["drawn"] = split["notes"]["labels"]
        RECORDS.parent.mkdir(exist_ok=True)
        with RECORDS.open("a") as file:
            file.write(json.dumps(record) + "\n")
    if records():
        TABLE.write_text(table())
        print(table())


if __name__ == "__main__":
    main()
