"""What a training step costs besides computing.

    python benchmarks/step_time.py [--method leaf] [--size 112] [--batch 64] [--steps 10]

Three times are taken in turns in one process, so that a change of the machine's speed meets all of
them, and their medians are printed: the data of a step (fetch, augment, normalize), the whole step
as a run does it, and the same step on resident random tensors. The ratio is computing / whole.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from leaf_fer.algorithm import Algorithm
from leaf_fer.build import accelerate, build_batches, build_state, open_data
from leaf_fer.config import configure
from leaf_fer.engine.loop import State
from leaf_fer.types import Batch, Clock


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def stepper(fabric: Any, state: State) -> Callable[[Batch, int], None]:
    """One step as :func:`leaf_fer.engine.loop.fit` makes it, without logging."""
    model, optimizer = fabric.setup(state.model, state.optimizer)
    model.train()
    algorithm: Algorithm = state.algorithm

    def step(batch: Batch, number: int) -> None:
        with fabric.autocast():
            objective = algorithm.loss(batch, model, Clock(number, 1000, 100))
        optimizer.zero_grad()
        fabric.backward(objective.total)
        optimizer.step()
        state.average.update(state.model)
        algorithm.after_step(state.model)

    return step


def measure(method: str, size: int, batch_size: int, steps: int) -> dict[str, float]:
    """Median seconds of the data, the whole step and computing alone, taken in turns."""
    given = {
        "data": "synthetic:1000",
        "method": method,
        "labels": 400,
        "image_size": size,
        "batch_size": batch_size,
        "cache": f"{tempfile.gettempdir()}/leaf-step-time",
    }
    config = configure(given)
    data, fabric = open_data(config.settings), accelerate(config.settings)
    state = build_state(config, data, fabric.device)
    batches = build_batches(config, data, fabric.device, state.algorithm.views)
    step = stepper(fabric, state)
    resident = batches.at(0)
    step(resident, 0)
    times: dict[str, list[float]] = {"data": [], "whole": [], "computing": []}
    for number in range(1, steps + 1):
        times["data"].append(timed(partial(batches.at, number)))
        times["whole"].append(timed(lambda k=number: step(batches.at(k), k)))
        times["computing"].append(timed(partial(step, resident, number)))
    median = {name: statistics.median(values) for name, values in times.items()}
    return {"size": size, **median, "ratio": median["computing"] / median["whole"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="leaf")
    parser.add_argument("--size", type=int, nargs="+", default=[48, 112])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    rows = []
    print(f"{'size':>5} {'data':>9} {'whole step':>11} {'computing':>10} {'ratio':>6}")
    for size in command.size:
        row = measure(command.method, size, command.batch, command.steps)
        rows.append(row)
        print(
            f"{size:5} {1e3 * row['data']:6.0f} ms {1e3 * row['whole']:8.0f} ms "
            f"{1e3 * row['computing']:7.0f} ms {row['ratio']:6.2f}"
        )
    facts = {
        "method": command.method,
        "batch": command.batch,
        "steps": command.steps,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    if command.json:
        command.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
