"""Starting weights in a run: what begins from them, and where it is written down."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from leaf_fer.bench import grid
from leaf_fer.build import accelerate, build_state, find_start, open_data
from leaf_fer.cli import main
from leaf_fer.config import configure
from leaf_fer.engine.hooks import Recorder
from leaf_fer.errors import UserError
from leaf_fer.models import load_model
from leaf_fer.models.backbone import create_backbone
from leaf_fer.training import execute


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A file of weights, and a configuration of a run that begins from it."""
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(9)
    path = tmp_path / "somewhere" / "faces.pth"
    path.parent.mkdir()
    torch.save({"state_dict": create_backbone("test_resnet", 32)[0].state_dict()}, path)
    options = {"data": "synthetic:200", "labels": 16, "image_size": 32, "backbone": "test_resnet"}
    options |= {"batch_size": 4, "steps": 4, "epoch_steps": 2, "device": "cpu", "init": str(path)}
    return path, {**options, "precision": "float32", "method": "mean_teacher"}


def test_network_teacher_and_average_begin_from_the_weights_and_the_rest_does_not(given):
    path, options = given
    weights = torch.load(path, weights_only=True)["state_dict"]
    states = {}
    for init in (str(path), "none"):
        config = configure({**options, "init": init, "eaf": "semantic"})
        data, device = open_data(config.settings), accelerate(config.settings).device
        states[init] = build_state(config, data, device, start=find_start(config.settings))
    begun, drawn = states[str(path)], states["none"]
    for network in (begun.model, begun.averaged, begun.algorithm):
        found = {k: v for k, v in network.state_dict().items() if "backbone." in k}
        assert len(found) == len(weights)
        for name, value in found.items():
            assert torch.equal(value, weights[name.partition("backbone.")[2]]), name
    for name, value in drawn.model.state_dict().items():
        if not name.startswith("backbone."):
            assert torch.equal(value, begun.model.state_dict()[name]), name
    assert not torch.equal(drawn.model.backbone.conv1[0].weight, weights["conv1.0.weight"])


def test_a_run_says_what_it_began_from_and_nobody_needs_the_path(given, tmp_path, capsys):
    path, options = given
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    out = tmp_path / "run"
    result = execute(configure(options), out)
    assert result["init"] == {"origin": "faces.pth", "sha256": sha}
    assert json.loads((out / "init.json").read_text()) == result["init"]
    assert load_model(out / "model")[1].facts["init"] == result["init"]
    assert "starting from faces.pth: " in capsys.readouterr().err


def test_a_run_from_random_weights_says_so(given, tmp_path):
    result = execute(configure({**given[1], "init": "none"}), tmp_path / "run")
    assert result["init"] is None
    assert not (tmp_path / "run" / "init.json").exists()


def test_a_resumed_run_does_not_need_the_file_and_ends_with_equal_bits(
    given, tmp_path, monkeypatch
):
    path, options = given
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = execute(configure(options), whole)
    stop_at_the_first(monkeypatch, "save", after=True)
    with pytest.raises(KeyboardInterrupt):
        execute(configure(options), parts)
    monkeypatch.undo()
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    path.unlink()
    assert execute(configure(), parts, resume=True)["init"] == result["init"]
    found, expected = (load_file(out / "model" / "model.safetensors") for out in (parts, whole))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_run_without_a_checkpoint_goes_on_with_the_same_weights_only(
    given, tmp_path, monkeypatch
):
    path, options = given
    stop_at_the_first(monkeypatch, "step", after=False)
    with pytest.raises(KeyboardInterrupt):
        execute(configure(options), tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    content = path.read_bytes()
    torch.save(create_backbone("test_resnet", 32)[0].state_dict(), path)
    with pytest.raises(UserError, match="holds other weights than when the run was started"):
        execute(configure(), tmp_path / "run", resume=True)
    path.write_bytes(content)
    assert execute(configure(), tmp_path / "run", resume=True)["init"]["origin"] == "faces.pth"


def stop_at_the_first(monkeypatch, call, *, after):
    """Let a run break off at a call of its recorder."""
    original = getattr(Recorder, call)

    def stop(self, *arguments):
        if after:
            original(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, call, stop)


def test_the_name_of_a_cell_depends_on_the_weights(tmp_path):
    assert "init" not in grid.MACHINE
    recipe = tmp_path / "r.yaml"
    recipe.write_text("common: {data: synthetic, steps: 3}\ngrid: {init: [none, a.pth, b.pth]}\n")
    cells = grid.expand(grid.read_recipe(str(recipe)), [0])
    assert len({cell.name for cell in cells}) == 3


def test_a_missing_file_is_refused_before_torch_is_imported():
    words = ["-X", "importtime", "-m", "leaf_fer.cli", "train", "synthetic", "--init", "no.pth"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--init no.pth: no such file" in done.stderr
    assert " torch\n" not in done.stderr


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("no/where", "--init no/where: no such file or folder"),
        ("no.pth", "--init no.pth: no such file or folder"),
        ("resnet_of_mine", "--init resnet_of_mine: expected none, a file, a folder, or a model"),
    ],
)
def test_a_mistake_is_one_line(given, tmp_path, capsys, init, message):
    words = [f"--{k.replace('_', '-')}={v}" for k, v in given[1].items() if k != "data"]
    words = ["train", "synthetic:200", *words, "--init", init, "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "config.yaml").exists()
