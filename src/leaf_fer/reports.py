"""``leaf report``, and the report at the end of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from leaf_fer import evidence
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_atomically
from leaf_fer.report.comparison import MOST_RUNS, comparison_page
from leaf_fer.report.run_page import FACES, MOST_FACES, run_page

FILE = "report.html"
"""In a run folder."""


def main(command: argparse.Namespace) -> int:
    """``leaf report``."""
    runs = list(dict.fromkeys(map(Path, command.runs)))
    faces = _faces(command.faces)
    out = Path(command.out) if command.out else None
    if len(runs) > 1:
        if command.beside:
            raise UserError(f"--beside {command.beside}: expected one run, got {len(runs)}")
        print(compare(runs, out or Path("comparison.html")))
        return 0
    beside = Path(command.beside) if command.beside else None
    source = {"device": command.device, "cache": command.cache}
    print(write(runs[0], out=out, beside=beside, faces=faces, **source))
    return 0


def _faces(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_FACES:
        raise UserError(f"--faces {text}: expected a whole number from 0 to {MOST_FACES}")
    return int(text)


def write(
    path: Path,
    *,
    out: Path | None = None,
    beside: Path | None = None,
    faces: int = FACES,
    **source: Any,
) -> Path:
    """Write the report of a finished run.

    Args:
        path: its folder.
        out: the file; ``report.html`` in the folder if None.
        beside: a supervised run to compare with; one among the neighbors of the folder if None.
        faces: on a sheet, at most.
        source: see :func:`leaf_fer.evidence.gather`.

    Returns:
        The file.

    Raises:
        UserError: there is no finished run, or the file cannot be written.
    """
    run = evidence.read_run(path)
    rival = evidence.read_run(beside) if beside else evidence.find_supervised(run)
    if rival is not None:
        rival = rival.as_selected(str(run.metrics.get("selection")))
        if beside and not rival.measured:
            raise UserError(f"--beside {beside}: was not measured on any labeled faces")
        if beside and run.measured and rival.classes != run.classes:
            raise UserError(
                f"--beside {beside}: its classes are {', '.join(rival.classes)}; "
                f"expected {', '.join(run.classes)}"
            )
    seen, missing = None, ""
    try:
        seen = evidence.gather(path, **source)
    except UserError as error:
        missing = f"Model or data are not at hand, so what needs them is left out: {error}."
        say(f"leaf: {path}: a report without faces: {error}")
    page = run_page(
        run,
        seen,
        rival,
        missing=missing,
        command=evidence.supervised_command(run) if rival is None else "",
        faces=faces,
    )
    file = out or path / FILE
    write_atomically(file, page.encode())
    return file


def write_at_end(path: Path, **source: Any) -> None:
    """Write the report of a run that has just finished; say it in a line where that fails.

    Nothing here may cost a run, so whatever goes wrong is only told.
    """
    try:
        write(path, **source)
    except (Exception, KeyboardInterrupt) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"leaf: no {FILE}: {reason}; the run is complete; try again with: leaf report {path}")


def compare(paths: list[Path], out: Path) -> Path:
    """Write a page that compares finished runs.

    Raises:
        UserError: one is not finished or was not measured, they have other classes, there are
            more than a page can show, or the file cannot be written.
    """
    if len(paths) > MOST_RUNS:
        raise UserError(
            f"leaf report: {len(paths)} runs: expected at most {MOST_RUNS}; "
            "leaf bench table and leaf bench plot show more"
        )
    runs = [evidence.read_run(path) for path in paths]
    for run in runs:
        if not run.measured:
            raise UserError(f"{run.path}: was not measured on any labeled faces")
        if run.classes != runs[0].classes:
            raise UserError(f"{run.path}: has other classes than {runs[0].path}")
    write_atomically(out, comparison_page(runs).encode())
    return out
