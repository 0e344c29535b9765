"""``leaf bench run`` whose cells are actors: they take no time, and do as they are told.

``FAKE``, or a file ``fake``, says what by the method: "fixmatch fail leaf wait"; all others
finish at once.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def run(words):
    """The runner, with this file in the place of ``leaf train``."""
    from leaf_fer.bench import run, scheduler
    from leaf_fer.cli import build_parser

    def act(folder):
        resume = ["--resume"] if folder.started else []
        return [sys.executable, __file__, "act", str(folder.path), *resume]

    scheduler.POLL = 0.02
    words = ["bench", "run", *words]
    return run.main(build_parser(words).parse_args(words), act)


def act(folder, *resume):
    """A cell."""
    file = folder.parents[2] / "fake"
    told = (file.read_text() if file.exists() else os.environ.get("FAKE", "")).split()
    method = folder.name.split("-")[0]
    if method in told[::2]:
        SCENES[told[told.index(method) + 1]](folder, *resume)
    note(folder, "finished", *resume)
    part = folder / ".metrics.json.part"
    part.write_text(json.dumps({"part": "test", "balanced_accuracy": 0.5}))
    part.replace(folder / "metrics.json")


def fail(folder, *resume):
    note(folder, "failed", *resume)
    sys.exit("leaf: error: no luck")


def wait(folder, *resume):
    """Train until SIGTERM."""

    def save(number, frame):
        note(folder, "saved")
        sys.exit(130)

    signal.signal(signal.SIGTERM, save)
    note(folder, "training", *resume)
    time.sleep(60)


def pause(folder, *resume):
    """Train until SIGTERM; when it goes on, finish."""
    if not resume:
        note(folder, "begun under", str(os.getppid()))
        wait(folder)


def cling(folder):
    """Train and hear nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(folder, "training", str(os.getpid()))
    time.sleep(60)


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(folder, *resume):
    """Find the folder locked, the first time."""
    if not resume:
        note(folder, "refused")
        print(f"leaf: error: --out {folder}: another process is training there", file=sys.stderr)
        sys.exit(2)


SCENES = {"fail": fail, "wait": wait, "pause": pause, "cling": cling, "die": die, "refuse": refuse}


def note(folder, *words):
    """Say what happens where the test can read it."""
    shutil.copy(folder / "cell.yaml", folder / "config.yaml")  # it has started
    numbers = [os.environ.get(n, "") for n in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
    line = json.dumps({"cell": folder.name, "did": " ".join(words), "numbers": numbers})
    with (folder.parents[1] / "notes.jsonl").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    sys.exit(run(rest) if what == "run" else act(Path(rest[0]), *rest[1:]))
