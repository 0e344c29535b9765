"""One or two processes: the same steps, one writer, and no process left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.conftest import PATIENCE

from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.build import accelerate
from leaf_fer.config import configure, read_yaml, write_yaml
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError

from . import steps


@pytest.fixture(scope="module")
def configuration(faces, cache, tmp_path_factory):
    """What all methods have in common, as a file."""
    values = {
        "data": str(faces),
        "labels": 16,
        "image_size": 32,
        "backbone": "test_resnet",
        "batch_size": 8,
        "precision": "float32",
        "device": "cpu",
        "cache": str(cache),
    }
    file = tmp_path_factory.mktemp("given") / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="module")
def shared_steps(configuration, tmp_path_factory):
    """A folder with what each of two processes saw of the steps of every method."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    words = [*torchrun, "--standalone", steps.__file__, str(configuration), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("method", ALGORITHMS)
def test_two_processes_make_the_steps_of_one(method, configuration, shared_steps):
    config = steps.settings_of(configuration, method)
    alone = steps.trained(config, accelerate(config.settings))
    first, second = (load_file(shared_steps / f"{method}.{n}.safetensors") for n in range(2))
    assert alone.keys() == first.keys() == second.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(
            first[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_the_steps_move_tables_and_queues(shared_steps):
    found = {m: load_file(shared_steps / f"{m}.0.safetensors") for m in ("flexmatch", "comatch")}
    assert (found["flexmatch"]["algorithm.table.label"] >= 0).sum() >= 8
    assert found["comatch"]["algorithm.memory.count"] == steps.STEPS * 16


def words(config, out, tmp_path, *more):
    file = tmp_path / "given.yaml"
    file.write_text(write_yaml(config))
    return [sys.executable, "-m", "leaf_fer", "train", "--config", str(file), *more, "--out", out]


def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def trainers(pid):
    """Processes below one that train, too."""
    named = {n: Path(f"/proc/{n}/cmdline").read_bytes() for n in children(pid)}
    return [n for n, command in named.items() if b"leaf_fer" in command]


def begin(command, log):
    """Start a long run and wait until it has made some steps."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if log.exists() and log.read_text():
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[1][-3000:])


@pytest.fixture(scope="module")
def whole(configuration, tmp_path_factory):
    """A finished run of two processes."""
    folder = tmp_path_factory.mktemp("whole")
    command = words(short(configuration), str(folder / "run"), folder)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run", done


def short(configuration, **options):
    given = {"devices": 2, "steps": 6, "epoch_steps": 2, "final": "validation"}
    given |= {"watch_unlabeled": 7, **options}
    return configure({**read_yaml(str(configuration)), **given})


def test_the_first_process_speaks_and_writes_for_all(whole):
    out, done = whole
    assert done.stdout.count("run folder:") == 1
    assert done.stderr.count("computing on 2 x cpu in float32") == 1
    assert done.stderr.count("validation balanced accuracy") == 3
    lines = RunFolder(out).lines()
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 7))
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6]
    assert [line["unlabeled"]["count"] for line in lines if "unlabeled" in line] == [7, 7, 7]
    assert len(list((out / "events").glob("events*"))) == 1
    result = json.loads((out / "metrics.json").read_text())
    assert sum(map(sum, result["confusion_matrix"])) == 32


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_all_stop_when_one_is_asked_to_and_go_on_with_equal_bits(configuration, whole, tmp_path):
    finished, _ = whole
    out = tmp_path / "run"
    script = (
        "import os, signal, sys\n"
        "from leaf_fer import cli\n"
        "from leaf_fer.engine import loop\n"
        "from leaf_fer.processes import rank\n"
        "before = loop.Training.step\n"
        "def step(self, batch, clock):\n"
        "    if clock.step == 3 and rank() == 0: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return before(self, batch, clock)\n"
        "loop.Training.step = step\n"
        "sys.exit(cli.main())\n"
    )
    (tmp_path / "stopping.py").write_text(script)
    command = words(short(configuration), str(out), tmp_path)
    first = [sys.executable, str(tmp_path / "stopping.py"), *command[3:]]
    done = subprocess.run(first, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 130, done.stderr[-3000:]
    assert done.stderr.count("go on with: leaf train --resume") == 1
    again = [*command, "--resume"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "at step 4 of 6" in done.stderr
    for name in ("model/model.safetensors", "checkpoint/state.safetensors"):
        expected, found = load_file(finished / name), load_file(out / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[k], found[k]) for k in expected), name


@pytest.mark.parametrize("victim", ["first", "other"])
def test_a_dead_process_ends_the_run_with_an_error(victim, configuration, tmp_path):
    out = tmp_path / "run"
    config = short(configuration, steps=2_000, epoch_steps=2_000)
    process = begin(words(config, str(out), tmp_path), out / "metrics.jsonl")
    others = trainers(process.pid)
    os.kill(process.pid if victim == "first" else others[0], signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "another process of this run has ended" in said
    end = time.monotonic() + 60
    while any(map(alive, others)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, others))


def test_a_batch_must_be_shared_evenly(configuration):
    settings = short(configuration, devices=3).settings
    with pytest.raises(UserError, match="--batch-size 8: expected a multiple of 3"):
        accelerate(settings)


def test_torchrun_decides_how_many_processes_there_are(configuration, monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "LOCAL_WORLD_SIZE": "3",
        "WORLD_SIZE": "6",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="expected a multiple of 6"):
        accelerate(short(configuration).settings)
