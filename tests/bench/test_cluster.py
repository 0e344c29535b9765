import os
import signal
import subprocess
import sys
import warnings

import pytest
from tests.conftest import PATIENCE

from leaf_fer.bench import cluster
from leaf_fer.bench.cluster import ASKED_TO_STOP, Cluster
from leaf_fer.errors import UserError

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Ray's clusters want a Unix")


@pytest.fixture(scope="module")
def address():
    """Of a cluster of two machines, each with one core, that are both this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster as Machines

        arguments = {"num_cpus": 1, "object_store_memory": 80 << 20}
        machines = Machines(initialize_head=True, head_node_args=arguments)
        machines.add_node(**arguments)
        yield machines.address
        machines.shutdown()


@pytest.fixture
def start(experiment, address):
    """Start a runner whose cells do something."""

    def begin(fake, *words):
        (experiment.folder / "fake").write_text(fake)
        return experiment.start("--engine", "ray", *words, RAY_ADDRESS=address)

    return begin


def test_cells_run_once_and_land_in_the_same_records(experiment, start):
    runner = start("leaf fail")
    out, err = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 1, err
    assert sorted(experiment.did()) == [
        ("fixmatch", "finished"),
        ("leaf", "failed"),
        ("supervised", "finished"),
    ]
    assert "2 of 3 cells finished, 1 failed, 0 to do: out" in out
    assert f"failed {experiment.cell('leaf').name}: no luck" in err
    assert len((experiment.out / "records.jsonl").read_text().splitlines()) == 2
    (experiment.folder / "fake").write_text("")
    assert experiment.run("--retry")[0] == 0  # the other engine goes on with it
    assert experiment.did()[3:] == [("leaf", "finished --resume")]


def test_cells_of_a_lost_worker_run_again(experiment, start):
    runner = start("leaf pause", "--only", "method=leaf,fixmatch")
    experiment.until("leaf", "training")
    (under,) = (did.split()[-1] for method, did in experiment.did() if "under" in did)
    os.kill(int(under), signal.SIGKILL)
    out, err = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 0, err
    did = [did for method, did in experiment.did() if method == "leaf"]
    assert did == [f"begun under {under}", "training", "saved", "finished --resume"]
    assert "2 of 2 cells finished" in out


def test_a_runner_that_is_stopped_lets_cells_save(experiment, start):
    runner = start("supervised wait fixmatch wait leaf wait")
    experiment.until("supervised", "training")
    experiment.until("fixmatch", "training")
    runner.send_signal(signal.SIGTERM)
    out, err = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 130, err
    assert sorted(experiment.did()[2:]) == [("fixmatch", "saved"), ("supervised", "saved")]
    assert "0 of 3 cells finished, 0 failed, 3 to do" in out


def test_a_cell_that_begins_while_its_task_is_cancelled_is_told(tmp_path, monkeypatch):
    """Ray interrupts the worker's main thread wherever it is, also between fork and assignment."""
    told = tmp_path / "told"
    program = f"""
import pathlib, signal, sys, time
def heed(*_):
    pathlib.Path({str(told)!r}).touch()
    sys.exit({ASKED_TO_STOP})
signal.signal(signal.SIGTERM, heed)
print("ready", flush=True)
time.sleep({PATIENCE})
"""
    begin = subprocess.Popen

    def interrupted(words, *, stdout, **more):
        process = begin(words, stdout=subprocess.PIPE, **more)
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(cluster.subprocess, "Popen", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with cluster._listening() as asked:
        words = [sys.executable, "-c", program]
        assert cluster._run(words, tmp_path, tmp_path / "log", asked) == ASKED_TO_STOP
    assert told.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="--engine ray: Ray is not installed; pip install"):
        Cluster([], lambda _: [], None, lambda: None)
