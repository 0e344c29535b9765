import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from tests.conftest import PATIENCE

from leaf_fer.bench.folder import CellFolder
from leaf_fer.bench.run import train
from leaf_fer.cli import main


def read_records(out):
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_cells_run_once_and_their_records_say_everything_but_where_the_data_is(experiment):
    status, out, err = experiment.run("--seeds", "2")
    assert (status, err.count("started"), err.count("finished")) == (0, 3, 3)
    assert "test, balanced accuracy 50.00 %" in err
    assert out == "3 of 3 cells finished, 0 failed, 0 to do: out\n"
    (experiment.out / "records.jsonl").unlink()
    assert experiment.run("--seeds", "2")[0] == 0
    assert experiment.did() == [(m, "finished") for m in ("supervised", "fixmatch", "leaf")]
    records = read_records(experiment.out)
    assert [record["config"]["method"] for record in records] == ["fixmatch", "leaf", "supervised"]
    for record in records:
        config = record["config"]
        assert (config["data"], config["seed"], config["split_seed"]) == ("here", 2, 2)
        assert record["metrics"] == {"part": "test", "balanced_accuracy": 0.5}
        assert record["cell"] == experiment.cell(config["method"]).name
        asked = yaml.safe_load((experiment.cell(config["method"]) / "cell.yaml").read_text())
        assert asked == {**config, "data": "faces", "cache": None}
        assert {"commit", "version"} <= set(record)


def test_a_failure_is_written_down_and_stops_no_other_cell(experiment):
    status, out, err = experiment.run(fake="supervised fail fixmatch die")
    assert status == 1
    assert experiment.did() == [("supervised", "failed"), ("leaf", "finished")]
    failed = json.loads((experiment.cell("supervised") / "failed.json").read_text())
    assert (failed["status"], failed["reason"]) == (1, "no luck")
    assert failed["log"] == ["leaf: error: no luck"]
    assert f"failed {experiment.cell('supervised').name}: no luck" in err
    assert f"failed: {experiment.cell('fixmatch').name}: killed by SIGKILL" in out


def test_a_failed_cell_is_tried_again_only_if_asked_for_and_goes_on(experiment):
    experiment.run(fake="supervised fail")
    status, out, _ = experiment.run()
    assert (status, out.count("no luck")) == (1, 1)
    assert len(experiment.notes()) == 3
    assert experiment.run("--retry")[0] == 0
    assert experiment.did()[3:] == [("supervised", "finished --resume")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_cells_save_and_the_next_call_goes_on(experiment, number):
    runner = experiment.start("--jobs", "2", fake="fixmatch wait")
    experiment.until("fixmatch", "training")
    experiment.until("leaf", "finished")
    os.killpg(runner.pid, number)  # as Ctrl-C in a terminal does
    out, err = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 130
    assert experiment.did()[-1] == ("fixmatch", "saved")
    assert f"stopped {experiment.cell('fixmatch').name}" in err
    assert "2 of 3 cells finished, 0 failed, 1 to do" in out
    assert not list(experiment.out.glob("*/*/failed.json"))
    assert experiment.run()[0] == 0
    assert experiment.did()[-1] == ("fixmatch", "finished --resume")


def test_a_second_signal_ends_cells_that_do_not_listen(experiment):
    runner = experiment.start("--only", "method=leaf", fake="leaf cling")
    while not experiment.notes():
        time.sleep(0.01)
    runner.send_signal(signal.SIGINT)
    while "stopping" not in (runner.stderr.readline()):
        pass
    assert runner.poll() is None
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=PATIENCE)
    pid = int(experiment.notes()[0][1].split()[1])
    assert runner.returncode != 0
    assert not runs(pid)


def runs(pid):
    """Whether a process is there that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell the cells")
def test_cells_save_and_end_when_their_runner_is_killed(experiment):
    runner = experiment.start(fake="fixmatch wait")
    experiment.until("fixmatch", "training")
    runner.kill()
    runner.communicate()
    experiment.until("fixmatch", "saved")
    assert experiment.run()[0] == 0
    assert experiment.did()[-2:] == [("fixmatch", "finished --resume"), ("leaf", "finished")]


def test_two_runners_share_the_cells(experiment):
    words = ("--seeds", *map(str, range(5)), "--jobs", "2")
    runners = [experiment.start(*words) for _ in range(2)]
    for runner in runners:
        _, err = runner.communicate(timeout=PATIENCE)
        assert runner.returncode == 0, err
    assert len(experiment.did()) == 15
    assert len(read_records(experiment.out)) == 15


def test_a_runner_waits_for_another_and_takes_over_what_that_leaves(experiment):
    first = experiment.start("--only", "method=leaf", fake="leaf wait")
    experiment.until("leaf", "training")
    second = experiment.start()
    experiment.until("fixmatch", "finished")
    assert "running" in experiment.run("--dry-run", "--only", "method=leaf")[1]
    time.sleep(0.2)  # the second one finds the claim a few times
    assert second.poll() is None
    first.terminate()
    first.communicate(timeout=PATIENCE)
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert [what for method, what in experiment.did() if method == "leaf"] == [
        "training",
        "saved",
        "finished --resume",
    ]


def test_a_cell_that_a_process_without_a_runner_computes_is_left_alone(experiment):
    only = ("--only", "method=leaf")
    experiment.run(*only, fake="leaf fail")
    with FileLock(experiment.cell("leaf") / ".lock"):
        runner = experiment.start(*only, "--retry")
        time.sleep(1)
        assert runner.poll() is None
        assert len(experiment.notes()) == 1
    runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 0


def test_a_cell_whose_folder_proves_to_be_locked_has_not_failed(experiment):
    status, _, err = experiment.run("--only", "method=leaf", fake="leaf refuse")
    assert status == 0
    assert "failed" not in err
    assert experiment.did() == [("leaf", "refused"), ("leaf", "finished --resume")]


def test_a_cell_goes_on_if_it_has_started(tmp_path):
    folder = CellFolder(tmp_path)
    words = ["train", "--config", str(tmp_path / "cell.yaml"), "--out", str(tmp_path)]
    assert train(folder)[-5:] == words
    folder.config.touch()
    assert train(folder)[-6:] == [*words, "--resume"]


def test_only_runs_the_cells_asked_for(experiment):
    assert experiment.run("--only", "method=leaf,fixmatch", "labels=16")[0] == 0
    assert experiment.did() == [("fixmatch", "finished"), ("leaf", "finished")]


def test_a_dry_run_lists_cells_and_runs_nothing(experiment):
    experiment.run("--only", "method=leaf,fixmatch", fake="leaf fail")
    status, out, _ = experiment.run("--dry-run")
    assert status == 0
    assert [line.split("-")[0].split() for line in out.splitlines()] == [
        ["waiting", "supervised"],
        ["finished", "fixmatch"],
        ["failed", "leaf"],
    ]
    assert len(experiment.notes()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "nothing: no such recipe"),
        (["r.yaml"], "--data here=PATH is missing"),
        (["r.yaml", "--data", "here=nowhere"], "data 'nowhere' is unknown"),
        (["quick", "--seeds", "x"], "--seeds x: expected a whole number >= 0"),
        (["quick", "--jobs", "0"], "--jobs: 0: expected a whole number >= 1"),
        (["quick", "--jobs", "2", "--jobs-per-device", "2"], "not allowed with"),
        (["quick", "--only", "method=x"], "--only method=x: its values here"),
        (["quick", "--jobs", "1", "--engine", "ray"], "error: --jobs 1 --engine ray: Ray runs as"),
        (["quick", "--cores-per-cell", "1"], "error: --cores-per-cell 1 --engine local: here"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(experiment, monkeypatch, capsys, words, message):
    monkeypatch.chdir(experiment.folder)
    try:
        status = main(["bench", "run", *words])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not experiment.out.exists()


def test_cells_get_their_share_of_the_machine(experiment):
    environment = {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "5,6"}
    experiment.run("--jobs-per-device", "2", **environment)
    given = sorted(numbers for *_, numbers in experiment.notes())
    assert given == [["3", "5"], ["3", "5"], ["3", "6"]]


def test_the_runner_imports_no_torch():
    code = "import leaf_fer.bench.run, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_leaf_train_computes_a_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    words = ["quick", "--only", "method=supervised", "labels=40", "--out", str(out)]
    assert main(["bench", "run", *words]) == 0
    (record,) = read_records(out)
    assert record["metrics"]["step"] == 20
    assert 0 <= record["metrics"]["balanced_accuracy"] <= 1
    assert "computing on" in (out / "cells" / record["cell"] / "log.txt").read_text()
    assert "1 of 1 cells finished" in capsys.readouterr().out


def test_records_name_starting_weights_but_not_where_they_are(experiment):
    with (experiment.folder / "r.yaml").open("a") as recipe:
        recipe.write("rows: [{init: /somewhere/weights.pth}]\n")
    assert experiment.run("--only", "method=leaf")[0] == 0
    (record,) = read_records(experiment.out)
    assert record["config"]["init"] == "weights.pth"
