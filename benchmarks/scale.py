"""What a hundred times as many images cost: ten thousand against a million drawn faces.

    python benchmarks/scale.py [--counts 10000 1000000] [--backbones conv4 resnet18] [--json FILE]

Every set is prepared once (7 GB for a million images at 48 pixels; --cache keeps them for another
time). Then `leaf train` runs on all sets in turns, so that a change of the machine's speed meets
all of them. Start-up is the time from the start of the command to the end of its first step; steps
per second are the median over the later steps of all runs. Memory is the largest value of
/proc/PID/status, added over processes: RssAnon is what they have for themselves, RssFile what they
have mapped from files, libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

KINDS = ("RssAnon", "RssFile")
WARM = 5
"""Steps of a run that do not count: the first ones take longer."""

IMPORTS = "import leaf_fer.run, lightning_fabric, tensorboardX"


def follow(command: Sequence[str], until: Callable[[], bool] = bool) -> dict[str, float]:
    """Run Python; seconds until it ended and until a condition was true, memory peaks in MiB."""
    found = dict.fromkeys(KINDS, 0.0)
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output)
        while process.poll() is None:
            for kind, peak in memory(process.pid).items():
                found[kind] = max(found[kind], peak)
            if "until" not in found and until():
                found["until"] = time.perf_counter() - begin
            time.sleep(0.02)
        found["seconds"] = time.perf_counter() - begin
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)}:\n{output.read()}")
    return found


def memory(pid: int) -> dict[str, float]:
    """MiB of each kind that a process and those that it has started have now."""
    process = Path(f"/proc/{pid}")
    try:
        lines = (process / "status").read_text().splitlines()
        started = [
            child for file in process.glob("task/*/children") for child in file.read_text().split()
        ]
    except OSError:  # it has just ended
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    found = {kind: int(fields[kind].split()[0]) / 1024 for kind in KINDS if kind in fields}
    for child in started:
        for kind, size in memory(int(child)).items():
            found[kind] = found.get(kind, 0.0) + size
    return found


def prepare(count: int, size: int, cache: Path) -> dict[str, Any]:
    """Prepare a set unless that has been done before, and read how long it took."""
    pattern = f"synthetic-*-{count}-{size}px-*/store.json"
    fresh = not list(cache.glob(pattern))
    options = ["--image-size", f"{size}", "--cache", f"{cache}"]
    found = follow(["-m", "leaf_fer", "data", f"synthetic:{count}", *options])
    (file,) = cache.glob(pattern)
    store = json.loads(file.read_text())
    kept = {key: store[key] for key in ("count", "seconds", "images_per_second", "processes")}
    return {**kept, "anonymous_mib": found["RssAnon"] if fresh else None}


def train(
    count: int, size: int, cache: Path, backbone: str, steps: int, out: Path
) -> dict[str, Any]:
    """One run of `leaf train`."""
    shutil.rmtree(out, ignore_errors=True)
    options = {
        "labels": 4000,
        "image-size": size,
        "backbone": backbone,
        "steps": steps,
        "epoch-steps": steps,
        "cache": cache,
        "out": out,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", f"{value}")]
    log = out / "metrics.jsonl"
    found = follow(
        ["-m", "leaf_fer", "train", f"synthetic:{count}", *words],
        lambda: log.exists() and log.stat().st_size > 0,
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    rates = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    assert len(rates) == steps, "a run of few steps logs every one"
    return {
        "startup": found["until"],
        "rates": rates[WARM:],
        **{kind: found[kind] for kind in KINDS},
        "split_bytes": (out / "split.json").stat().st_size,
        "checkpoint_bytes": (out / "checkpoint" / "state.safetensors").stat().st_size,
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Several runs of the same kind in a few numbers."""
    rates = [rate for run in runs for rate in run["rates"]]
    return {
        "startup_seconds": statistics.median(run["startup"] for run in runs),
        "steps_per_second": statistics.median(rates),
        "anonymous_mib": max(run["RssAnon"] for run in runs),
        "file_mib": max(run["RssFile"] for run in runs),
        "split_bytes": runs[-1]["split_bytes"],
        "checkpoint_bytes": runs[-1]["checkpoint_bytes"],
    }


PREPARED: dict[str, Callable[[dict[str, Any]], str]] = {
    "time": lambda p: f"{p['seconds']:,.0f} s",
    "images per second": lambda p: f"{p['images_per_second']:,.0f}, {p['processes']} processes",
    "memory of its own": lambda p: f"{p['anonymous_mib']:,.0f} MiB" if p["anonymous_mib"] else "-",
}
TRAINED: dict[str, Callable[[dict[str, Any]], str]] = {
    "start-up": lambda r: f"{r['startup_seconds']:.1f} s",
    "steps per second": lambda r: f"{r['steps_per_second']:.2f}",
    "memory of its own": lambda r: f"{r['anonymous_mib']:,.0f} MiB",
    "memory mapped from files": lambda r: f"{r['file_mib']:,.0f} MiB",
    "split.json": lambda r: f"{1e-6 * r['split_bytes']:.1f} MB",
    "checkpoint": lambda r: f"{1e-6 * r['checkpoint_bytes']:.1f} MB",
}
"""What the rows of the table show."""


def table(facts: dict[str, Any]) -> str:
    """The numbers in Markdown, one set a column."""
    prepared = facts["prepared"]
    rows = [["", *(f"{int(count):,} images" for count in prepared)]]
    for name, show in PREPARED.items():
        rows.append([f"preparing: {name}", *map(show, prepared.values())])
    for backbone, runs in facts["runs"].items():
        for name, show in TRAINED.items():
            rows.append([f"{backbone}: {name}", *map(show, runs.values())])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main() -> None:
    """Prepare, train in turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--backbones", nargs="+", default=["conv4", "resnet18"])
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=60, help="of a run, at most 199")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder of the prepared sets, kept")
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = command.cache or Path(scratch) / "cache"
        prepared = {str(n): prepare(n, command.size, cache) for n in command.counts}
        imports = min(follow(["-c", IMPORTS])["seconds"] for _ in range(3))
        runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for backbone in command.backbones:
            cells = runs[backbone] = {str(n): [] for n in command.counts}
            for number in range(command.rounds):
                # The other way round every second time: no set is always the one that comes first.
                for count in command.counts[:: 1 if number % 2 == 0 else -1]:
                    out = Path(scratch) / "run"
                    found = train(count, command.size, cache, backbone, command.steps, out)
                    cells[str(count)].append(found)
    facts = {
        "size": command.size,
        "steps": command.steps,
        "rounds": command.rounds,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "imports_seconds": imports,
        "prepared": prepared,
        "runs": {b: {n: summary(r) for n, r in cells.items()} for b, cells in runs.items()},
    }
    print(table(facts))
    print(f"\nOf a start-up, imports take {imports:.1f} s.")
    if command.json:
        command.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
