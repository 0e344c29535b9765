"""Train: begin a run or go on with one, alone in its folder, on one process or several."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from leaf_fer import processes
from leaf_fer.build import accelerate
from leaf_fer.config import Config, configure, read_yaml
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError, say
from leaf_fer.run import Run


def train(data: str | Path, *, out: str | Path, **options: Any) -> dict[str, Any]:
    """Train a classifier: ``leaf train`` for Python.

    Args:
        data: as on the command line, such as ``synthetic``, ``ferplus:PATH`` or a folder.
        out: the run folder; its ``model`` can be given to :func:`leaf_fer.load`.
        options: any option of ``leaf train`` with underscores: method, labels, steps, ...

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: an option or the data is not usable, or the folder holds another run.
    """
    return execute(configure({"data": str(data), **options}), Path(out))


def execute(
    config: Config, out: Path, *, resume: bool = False, kind: type[Run] | None = None
) -> dict[str, Any]:
    """Train, evaluate and write a run folder.

    Args:
        config: what to do; ignored when ``resume`` continues a run that has one of its own.
        out: the run folder, made if it is not there.
        resume: go on with the run in ``out``.
        kind: what is trained, and what comes of it; by default a classifier.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: an option or the data is not usable, or the folder holds another run.
        Interrupted: the process was asked to stop (SIGINT, SIGTERM); the run can be resumed.
        Diverged: a loss is not finite.
    """
    kind = kind or Run
    folder = RunFolder(out)
    if folder.finished and resume:
        say(f"{out} is finished: nothing to do")
        return dict(json.loads(folder.metrics.read_text()))
    if folder.started and not resume:
        raise UserError(f"--out {out}: already holds a run; add --resume, or choose another folder")
    if resume and not folder.started:
        raise UserError(f"--resume: {out} holds no run")
    if resume:
        config = kind.configured(read_yaml(str(folder.config)))
    fabric = accelerate(config.settings)
    try:
        with _alone(folder), _quiet():
            return kind(config, folder, fabric).go()
    except RuntimeError as error:
        if processes.world() == 1 or not any(word in str(error) for word in ("gloo", "NCCL")):
            raise
        raise Abandoned(
            "another process of this run has ended, perhaps with a message of its own; "
            f"go on with: leaf train --resume --out {out}"
        ) from error
    finally:
        processes.part()


class Abandoned(ArithmeticError):  # noqa: N818  # it names what happened, as Diverged does
    """Another process of the run is gone."""


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder; the first process does it for all."""
    error: UserError | None = None
    if processes.rank() == 0:
        try:
            folder.lock()
        except UserError as found:
            error = found
    error = processes.told(error)
    if error is not None:
        raise error
    try:
        yield
    finally:
        folder.unlock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the first of several processes speak for all."""
    if processes.rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # noqa: PTH123
        yield
