"""All methods on FERPlus with 400 labels, small enough for two CPU cores in two hours.

    python benchmarks/ferplus_cpu.py PATH [--methods fixmatch leaf ...]
    python benchmarks/ferplus_cpu.py PATH --checks
    python benchmarks/ferplus_cpu.py --table

PATH is FERPlus in its official layout. Start it twice, each with OMP_NUM_THREADS=1, to use two
cores: a method that another process trains is skipped, and so is one that is finished; one that was
cut off goes on where it stopped. Every finished run is a line of results/ferplus_cpu.jsonl, of
which --table writes results/ferplus_cpu.md. --checks runs CHECKS, methods with options other than
their defaults, to find out why one does badly; they get a table of their own. The test part is not
touched: numbers are of Valid.
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
from leaf_fer.training import execute

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


FACE_NETWORK = {"normalize_features": True, "dropout": 0.5, "weight_decay": 0.02}
PLAIN_NETWORK = {"normalize_features": False, "dropout": 0.0, "weight_decay": 0.0}
CHECKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("remixmatch", {"ramp": 0.015625}),
    ("vat", {"radius": 1.0}),
    ("mixmatch", {"weight": 10.0}),
    ("mixmatch", {"ramp": 1.0}),
    ("supervised", FACE_NETWORK),  # that of adacm and lion
    ("adacm", PLAIN_NETWORK),
    ("lion", PLAIN_NETWORK),
    ("leaf_release", PLAIN_NETWORK),
)


def commit() -> str:
    """The commit that is checked out, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def words(options: dict[str, Any]) -> str:
    """Options as one would type them."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


def run(path: str, method: str, options: dict[str, Any], loaded: str) -> dict[str, Any]:
    """Train one method, or finish it, and return its record."""
    out = RUNS / f"{method} {words(options)}".strip().replace(" ", "_")
    config = configure({"data": f"ferplus:{path}", "method": method, **SETTINGS, **options})
    begun = RunFolder(out).started
    note = out / "commit.txt"
    if not begun:
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(loaded)
    result = execute(config, out, resume=begun)
    watched = [line["watch"] for line in RunFolder(out).lines() if "mask" in line.get("watch", {})]
    return {
        "method": method,
        "options": options,
        "commit": note.read_text(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU thread(s)",
        "settings": {**config.to_dict(), "data": "ferplus"},  # a path says nothing to anybody else
        "drawn": json.loads((out / "split.json").read_text())["notes"]["labels"],
        "kept": watched[-1]["mask"] if watched else None,
        **result,
    }


def records() -> dict[tuple[str, str], dict[str, Any]]:
    """All finished runs by method and options, in the order of the methods, then of the checks."""
    if not RECORDS.exists():
        return {}
    lines = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    found = {(r["method"], words(r["options"])): r for r in lines}
    order = [(m, "") for m in METHODS] + [(m, words(o)) for m, o in CHECKS]
    return {key: found[key] for key in order if key in found}


def rows(found: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Some records as a table in Markdown."""
    lines = [
        "| method | balanced | overall | balanced, best epoch | mask | largest class | seconds "
        "| cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, options), r in found.items():
        best = next(o for o in r["others"] if o["selection"] == "best-on-validation")
        name, share = max(r["predicted_shares"].items(), key=lambda item: item[1])
        kept = "-" if r["kept"] is None else f"{100 * r['kept']:.0f} %"
        name_and_options = f"{method} `{options}`" if options else method
        lines.append(
            f"| {name_and_options} | {100 * r['balanced_accuracy']:.2f} "
            f"| {100 * r['overall_accuracy']:.2f} | {100 * best['balanced_accuracy']:.2f} "
            f"| {kept} | {name} {100 * share:.0f} % "
            f"| {r['seconds']:.0f} | {described(method).cost:.1f} |"
        )
    return "\n".join(lines) + "\n"


def table() -> str:
    """The records as a page in Markdown."""
    found = records()
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
    plain = {key: record for key, record in found.items() if not key[1]}
    checks = {key: record for key, record in found.items() if key[1]}
    page = head + rows(plain)
    if checks:
        page += (
            "\n## Looked into\n\nThe same with other options, to find out why a method does badly; "
            "see [docs/methods.md](../docs/methods.md). Seconds compare within the first table "
            f"only.\n\n{rows(checks)}"
        )
    return page


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--table", action="store_true")
    command = parser.parse_args()
    loaded = commit()  # now: files may change while this runs, but not the code that is loaded
    cells = CHECKS if command.checks else [(method, {}) for method in command.methods]
    costly_first = sorted(cells, key=lambda cell: -described(cell[0]).cost)
    for method, options in costly_first if not command.table else ():
        if (method, words(options)) in records():
            continue
        try:
            record = run(command.path, method, options, loaded)
        except UserError as error:  # another process has the folder
            print(error)
            continue
        RECORDS.parent.mkdir(exist_ok=True)
        with RECORDS.open("a") as file:
            file.write(json.dumps(record) + "\n")
    missing = [f"{m} {words(o)}".strip() for m, o in cells if (m, words(o)) not in records()]
    if missing:
        print(f"not finished: {', '.join(missing)}")
    if records():
        TABLE.write_text(table())
        print(table())


if __name__ == "__main__":
    main()
