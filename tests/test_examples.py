"""The scripts in examples/ run, say what they should, and leave nothing behind."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.scripts import loaded

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script: str, *arguments: str, folder: Path) -> str:
    """Run a script in a folder, warnings being errors, and return what it prints."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def losses(printed: str) -> dict[str, list[float]]:
    """The values of every term, in the order in which they are printed."""
    found: dict[str, list[float]] = {}
    for line in printed.splitlines():
        if line.startswith("step"):
            for name, value in re.findall(r"  (\w+) ([^ %]+)(?= |$)", line):
                found.setdefault(name, []).append(float(value))
    return found


def accuracies(printed: str) -> tuple[float, float]:
    """Before and after, in percent, from the last line."""
    found = re.search(r"accuracy before ([\d.]+)%, after ([\d.]+)%$", printed.strip())
    assert found
    return float(found[1]), float(found[2])


def test_fixmatch_with_eaf_trains_all_three_levels(tmp_path):
    printed = run("fixmatch_with_eaf.py", "--steps", "12", folder=tmp_path)
    terms = losses(printed)
    assert len(terms["supervised"]) == len(terms["category"]) == 3
    assert all(math.isfinite(value) for values in terms.values() for value in values)
    assert any(value > 0 for value in terms["category"])
    for level in ("fc.semantic", "fc.instance"):
        kept = re.search(rf"experts of {level} kept for (.*)", printed)
        assert kept
        assert sum(float(share) for share in re.findall(r"\d+", kept[1])) == pytest.approx(
            200, abs=2
        )
    assert all(0 < value < 100 for value in accuracies(printed))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "terms"),
    [("mean_teacher", {"supervised", "consistency"}), ("leaf", {"supervised", "category"})],
)
def test_lightning_trains_any_method(method, terms, tmp_path):
    arguments = ("--method", method, "--epochs", "2", "--epoch-steps", "8")
    printed = run("lightning_module.py", *arguments, folder=tmp_path)
    found = losses(printed)
    assert terms <= set(found)
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert found["supervised"][1] < found["supervised"][0]
    before, after = accuracies(printed)
    assert after > before
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def lightning() -> Iterator[ModuleType]:
    """The script as a module."""
    with loaded(EXAMPLES / "lightning_module.py") as module:
        yield module


def test_lightning_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(lightning, tmp_path, capsys):
    saved = tmp_path / "run.ckpt"
    lightning.main("leaf", 2, 4, None)
    straight = capsys.readouterr().out
    lightning.main("leaf", 1, 4, saved)
    first = capsys.readouterr().out
    lightning.main("leaf", 2, 4, saved)
    second = capsys.readouterr().out
    steps = [line for line in (first + second).splitlines() if line.startswith("step")]
    assert steps == [line for line in straight.splitlines() if line.startswith("step")]


def test_lightning_saves_network_average_and_method(lightning, tmp_path):
    saved = tmp_path / "run.ckpt"
    lightning.main("leaf", 1, 2, saved)
    state = lightning.torch.load(saved, weights_only=True)["state_dict"]
    names = {"model.head.weight", "average.model.head.weight", "algorithm.thresholds.threshold"}
    assert names <= set(state)
    assert state["average._extra_state"] == 2
