"""How long a training step takes, and where the time goes.

Whatever is timed is done by a process of its own that rests unless it is asked: a method, the same
with a setting turned round, or semilearn's FixMatch in another environment. They are asked in
turns, forth and back, so a change of the machine's speed meets all of them.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from leaf_fer.bench.contestant import OWN, Contestant, Times, contestant
from leaf_fer.bench.figures import PEER, WORK, steps_row, text, views_row
from leaf_fer.bench.machine import commit, hardware, versions
from leaf_fer.config import configure
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_json

Options = dict[str, Any]

DATA: Options = {"data": "synthetic:1000", "labels": 400}
SCRIPT = Path(__file__).with_name("usb.py")


def main(command: argparse.Namespace) -> int:
    """``leaf bench speed``.

    Raises:
        UserError: an option is not usable, or a process has died.
    """
    sizes = [(size, batch or command.batch) for size, batch in command.size]
    plans = [variants(command, size, batch) for size, batch in sizes]
    if command.json and not Path(command.json).absolute().parent.is_dir():
        raise UserError(f"--json {command.json}: expected a file in a folder that exists")
    if command.peer_python and shutil.which(command.peer_python) is None:
        raise UserError(f"--peer-python {command.peer_python}: expected a Python interpreter")
    facts = surroundings(command, plans)
    for plan in plans:
        measure(command, plan, facts)
    print(text(facts))
    if command.json:
        write_json(Path(command.json), facts)
    return 0


def variants(command: argparse.Namespace, size: int, batch: int) -> dict[str, Options]:
    """Options of all runs that are timed at one size, by name.

    Raises:
        UserError: an option is not allowed.
    """
    shared = ("backbone", "device", "precision", "compile")
    given = {**DATA, **{name: getattr(command, name) for name in shared}}
    given |= {"image_size": size, "batch_size": batch}
    plan = {}
    for method in command.method:
        plan[method] = {**given, "method": method}
        settings = configure(plan[method]).settings
        for name in command.switch:
            on = not getattr(settings, name)
            plan[f"{method}, {name} {'on' if on else 'off'}"] = {**plan[method], name: on}
    return plan


def surroundings(command: argparse.Namespace, plans: Sequence[Mapping[str, Options]]) -> Options:
    """What the numbers depend on, and room for them."""
    import torch

    device = "cuda" if command.device != "cpu" and torch.cuda.is_available() else "cpu"
    own = ("command", "part", "parser", "debug", "json", "peer_python")
    return {
        "command": {name: value for name, value in vars(command).items() if name not in own},
        "method": f"median of {command.steps}, everything in turns, each in a process of its own; "
        "a ratio is the median of the ratios within a round",
        "hardware": hardware(device, command.threads or torch.get_num_threads()),
        "versions": versions(),
        "commit": commit(),
        "settings": plans,
        "views": [],
        "rows": [],
    }


def measure(command: argparse.Namespace, plan: Mapping[str, Options], facts: Options) -> None:
    """Time everything at one size and add the rows."""
    first, options = next(iter(plan.items()))
    at = {"size": options["image_size"], "batch": options["batch_size"]}
    say(f"{at['size']} pixels, batch {at['batch']}: {command.steps} rounds")
    machine = {name: facts["hardware"][name] for name in ("device", "threads")}
    contestants: dict[str, Contestant] = {}
    with ExitStack() as stack:
        if command.peer_python:  # first, as it may not work
            words = [command.peer_python, "-I", "-W", "ignore", str(SCRIPT)]
            asked = {**machine, **peer_options(command, options)}
            start = contestant(f"--peer-python {words[0]}", words, asked)
            contestants[PEER] = stack.enter_context(start)
            facts["versions"][PEER] = contestants[PEER].found["versions"]
        for name, given in plan.items():
            start = contestant(f"--method {name}", OWN, {**machine, "options": given})
            contestants[name] = stack.enter_context(start)
        turns = [(name, work) for name in contestants for work in WORK]
        turns += [(first, "pairs"), (first, "pillow")]
        turns += [(PEER, "pairs")] if command.peer_python else []
        times = Times(contestants, turns, command.steps)
    facts["views"].append({**at, **views_row(first, times, at["batch"])})
    names = sorted(contestants, key=lambda name: name == PEER)  # last
    facts["rows"] += [
        {**at, **steps_row(name, first, times, contestants[name].found)} for name in names
    ]


def peer_options(command: argparse.Namespace, options: Options) -> Options:
    """What semilearn is asked to build: the same images, in the same roles."""
    from leaf_fer.build import open_data
    from leaf_fer.types import MEAN, STD

    data = open_data(configure(options).settings)
    return {
        "backbone": command.backbone,
        "workers": command.peer_workers,
        "image_size": options["image_size"],
        "batch_size": options["batch_size"],
        "classes": len(data.table.classes),
        "images": str(data.store.folder.absolute() / "images.npy"),
        "labeled": data.split.labeled.tolist(),
        "targets": data.split.targets.tolist(),
        "unlabeled": data.split.unlabeled.tolist(),
        "mean": MEAN,
        "std": STD,
    }
