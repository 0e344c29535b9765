"""``leaf bench run``: run the missing cells of a grid. Imports no torch: cells are processes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from leaf_fer.bench import devices, grid
from leaf_fer.bench.board import Board
from leaf_fer.bench.cluster import Cluster
from leaf_fer.bench.folder import CellFolder, write_records
from leaf_fer.bench.scheduler import Scheduler, Task, Words
from leaf_fer.data.sources import locate
from leaf_fer.engine.signals import stopping
from leaf_fer.errors import UserError


def train(folder: CellFolder) -> list[str]:
    """``leaf train`` for the cell in a folder."""
    words = [sys.executable, "-m", "leaf_fer", "train", "--config", str(folder.options)]
    return [*words, "--out", str(folder.path), *(["--resume"] if folder.started else [])]


def main(command: argparse.Namespace, words: Words = train) -> int:
    """``leaf bench run``.

    Args:
        command: what was asked for.
        words: how to compute a cell.

    Returns:
        0: all cells are finished; 1: some have failed; 130: stopped before the end.

    Raises:
        UserError: a mistake in what was asked for, or in the recipe.
    """
    _check(command)
    recipe = grid.read_recipe(command.recipe)
    seeds = grid.seeds(command.seeds) if command.seeds else recipe.seeds
    cells = grid.select(grid.expand(recipe, seeds), command.only)
    places = grid.places(cells, command.data)
    for spec in places.values():
        locate(spec)
    out = Path(command.out or f"runs/{recipe.file.stem}")
    tasks = [
        Task(cell, CellFolder(out / "cells" / cell.name), places[cell.config.settings.data])
        for cell in cells
    ]
    if command.dry_run:
        print("\n".join(listing(tasks)))
        return 0
    for task in tasks if command.retry else ():
        task.folder.failure.unlink(missing_ok=True)
    board = Board(sys.stderr)
    return _run(command, tasks, words, out, board, f"{recipe.title}: {len(tasks)} cells")


def _run(
    command: argparse.Namespace,
    tasks: Sequence[Task],
    words: Words,
    out: Path,
    board: Board,
    title: str,
) -> int:
    """Run the tasks; return the exit status."""

    def tell() -> None:
        write_records(out / "cells", out / "records.jsonl")

    engine: Scheduler | Cluster
    if command.engine == "ray":
        board.say(f"{title}, on a Ray cluster, in {out}")
        per_gpu = command.jobs_per_device or 1
        cores = command.cores_per_cell or 1
        engine = Cluster(tasks, words, board, tell, cores=cores, per_gpu=per_gpu)
    else:
        slots = _slots(command)
        board.say(f"{title}, {len(slots)} at a time, in {out}")
        engine = Scheduler(tasks, slots, words, board, tell)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with stopping() as stop:
        engine.go(stop)
    tell()
    left = len(engine.waiting) + len(engine.stopped)
    for task in engine.failed:
        print(f"failed: {task.cell.name}: {task.folder.reason()}")
    print(
        f"{len(engine.done)} of {len(tasks)} cells finished, {len(engine.failed)} failed, "
        f"{left} to do: {out}"
    )
    return 130 if left else 1 if engine.failed else 0


def listing(tasks: Sequence[Task]) -> list[str]:
    """How far each cell is, with the options that its name does not say."""
    varied = grid.varied([task.cell for task in tasks])
    lines = []
    for task in tasks:
        given = task.cell.given
        words = [f"{name}={grid.shown(given[name])}" for name in varied if name in given]
        lines.append(" ".join([f"{state(task.folder):8}", task.cell.name, *words]))
    return lines


def state(folder: CellFolder) -> str:
    """How far a cell is, in a word."""
    if folder.finished or folder.failed:
        return "finished" if folder.finished else "failed"
    if folder.taken:
        return "running"
    return "stopped" if folder.started else "waiting"


def _check(command: argparse.Namespace) -> None:
    """Refuse what the engine would not heed."""
    ray, jobs, cores = command.engine == "ray", command.jobs, command.cores_per_cell
    if ray and jobs is not None:
        raise UserError(
            f"--jobs {jobs} --engine ray: Ray runs as many cells as there is room for; "
            "limit them by --cores-per-cell and, on GPUs, --jobs-per-device"
        )
    if not ray and cores is not None:
        raise UserError(
            f"--cores-per-cell {cores} --engine {command.engine}: here cells share the cores "
            "evenly; limit them by --jobs, or use --engine ray"
        )


def _slots(command: argparse.Namespace) -> list[devices.Slot]:
    """What ``--jobs`` and ``--jobs-per-device`` make of this machine."""
    each = command.jobs_per_device
    gpus = devices.visible_gpus(os.environ) if each else []
    # As many as this process may use, which a scheduler of a cluster may have limited.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return devices.slots(command.jobs or 1, each, gpus, cores, os.environ)
