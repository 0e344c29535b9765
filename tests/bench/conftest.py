"""Grids whose cells are actors."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import PATIENCE

RUNNER = Path(__file__).with_name("runner.py")
RECIPE = """\
common: {data: here, labels: 16, image_size: 32}
grid: {method: [supervised, fixmatch, leaf]}
"""


class Grid:
    """A recipe with a folder, and runners whose cells are actors."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        (folder / "r.yaml").write_text(RECIPE)
        (folder / "faces").mkdir()

    def start(self, *words, fake="", **environment):
        """Start a runner."""
        given = ["r.yaml", "--data", "here=faces", "--out", "out", *words]
        return subprocess.Popen(
            [sys.executable, RUNNER, "run", *given],
            cwd=self.folder,
            env={**os.environ, "FAKE": fake, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words, **more):
        """Run a runner to its end: exit status, standard output, standard error."""
        runner = self.start(*words, **more)
        out, err = runner.communicate(timeout=PATIENCE)
        return runner.returncode, out, err

    def notes(self):
        """What cells did, in order: method, what, numbers."""
        file = self.out / "notes.jsonl"
        lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
        return [(line["cell"].split("-")[0], line["did"], line["numbers"]) for line in lines]

    def did(self):
        return [note[:2] for note in self.notes()]

    def cell(self, method):
        (folder,) = (self.out / "cells").glob(f"{method}-*")
        return folder

    def until(self, *note):
        """Wait for a cell to have done something."""
        end = time.monotonic() + PATIENCE
        while note not in self.did():
            assert time.monotonic() < end, self.did()
            time.sleep(0.01)


@pytest.fixture
def experiment(tmp_path):
    return Grid(tmp_path)
