"""The script ``benchmarks/inside.py``, on small runs with drawn faces."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.scripts import loaded

from leaf_fer import cli
from leaf_fer.models import EAF, load_model, save_model

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "inside.py"
DATA = "synthetic:200"
WORDS = ["--labels", "16", "--image-size", "32", "--backbone", "conv4", "--batch-size", "4",
         "--steps", "6", "--validation", "0.3", "--device", "cpu", "--precision", "float32",
         "--no-report", "--top-k", "4", "--lr", "0.01", "--ema", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def script():
    with loaded(SCRIPT) as module:
        yield module


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAF_CACHE", str(root / "cache"))
        for method in ("supervised", "leaf", "leaf_release"):
            out = ["--method", method, "--out", str(root / method)]
            assert cli.main(["train", DATA, *WORDS, *out]) == 0
        yield root


@pytest.fixture
def look(script, monkeypatch, tmp_path):
    def call(*folders, data=DATA):
        out = tmp_path / "inside.json"
        words = [*map(str, folders), "--data", data, "--pool", "60", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["inside.py", *words])
        script.main()
        return json.loads(out.read_text())

    return call


def test_several_runs_make_one_table(look, runs, capsys):
    found = look(runs / "supervised", runs / "leaf")
    rows = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert rows[0] == "|  | in the pool | supervised | leaf |"
    assert [row.split(" | ")[0][2:] for row in rows[2:-1]] == list(
        found["leaf"]["pseudo_labels"]["classes"]
    )
    sure = found["leaf"]["pseudo_labels"]["sure"]
    assert rows[-1].endswith(f", {100 * sure['right']:.1f} |" if sure["share"] else "0.0, - |")


def edited(run, folder, change):
    """A copy of a run whose network was changed by hand."""
    shutil.copytree(run, folder)
    network, card = load_model(folder / "model")
    for eaf in (network.semantic, network.instance):
        change(eaf)
    shutil.rmtree(folder / "model")
    save_model(folder / "model", network, card)
    return folder


def test_pseudo_labels_are_counted_by_class(look, runs):
    found = look(runs / "supervised")["supervised"]
    assert found["experts"] == {}
    labels = found["pseudo_labels"]
    matrix = np.array(labels["confusion_matrix"])
    assert matrix.sum() == found["count"]["pool"] == 60
    said = matrix.sum(axis=0)
    for c, precision in enumerate(labels["precision"].values()):
        assert precision == (pytest.approx(matrix[c, c] / said[c]) if said[c] else None)
    sure = labels["sure"]
    assert 0 <= sure["share"] <= 1
    if sure["share"]:
        parts = [
            share * precision
            for share, precision in zip(
                sure["shares"].values(), sure["precision"].values(), strict=True
            )
            if share
        ]
        assert sum(parts) == pytest.approx(sure["right"])


def test_experts_that_answer_otherwise_matter(look, runs):
    lines = (runs / "leaf" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])["validation"]
    found = look(runs / "leaf")["leaf"]["experts"]
    unchanged = found["unchanged"]
    assert unchanged["other_class"] == 0
    assert unchanged["balanced_accuracy"] == pytest.approx(last["balanced_accuracy"])
    for place in ("semantic", "instance"):
        facts = found["places"][place]
        assert facts["added"] > 0
        assert facts["apart"] > 0
        assert sum(facts["usage"]) == pytest.approx(1, abs=1e-5)
        assert 1 / 4 < facts["largest"] <= 1
        assert 0 <= facts["between_classes"] <= 1
        logged = [json.loads(line) for line in lines if "experts" in line]
        trained = found["training"][place]
        assert trained[str(logged[0]["step"])] == logged[0]["experts"][place][0]
        assert trained["6"] == logged[-1]["experts"][place][0]
    assert set(found["changed"]["left out"]) == {"semantic", "instance", "both"}


def test_a_gate_that_weighs_alike_is_not_missed(look, runs, tmp_path):
    run = edited(runs / "leaf", tmp_path / "alike", lambda eaf: eaf.gate.weight.data.zero_())
    found = look(run)["alike"]["experts"]
    assert found["places"]["semantic"]["largest"] == pytest.approx(0.25)
    assert found["places"]["semantic"]["between_classes"] is None
    for name in ("weighed alike", "weighed for another image"):
        for facts in found["changed"][name].values():
            assert facts == found["unchanged"]


def test_experts_that_add_nothing_are_not_missed(look, runs, tmp_path):
    def silence(eaf):
        eaf.experts.outer_weight.data.zero_()
        eaf.experts.outer_bias.data.zero_()

    found = look(edited(runs / "leaf", tmp_path / "silent", silence))["silent"]["experts"]
    assert found["places"]["instance"]["added"] == pytest.approx(0, abs=1e-6)
    for facts in found["changed"]["left out"].values():
        assert facts["other_class"] == 0


def test_what_is_done_to_an_eaf_is_really_done(script):
    torch.manual_seed(0)
    eaf, x = EAF(4, 3, top_k=1, expert="linear"), torch.randn(6, 4)
    answers = eaf.experts(x)
    alike = script.Reweighed(eaf, script.WEIGHTS["weighed alike"])(x)
    torch.testing.assert_close(alike, answers.mean(dim=1))
    weights = torch.arange(18.0).view(6, 3)
    other = script.other_image(weights)
    assert not torch.equal(other, weights)
    torch.testing.assert_close(other.sort(dim=0).values, weights)


def test_an_eaf_that_decides_is_missed(look, runs, tmp_path):
    def decide(eaf):
        if eaf.experts.outer_bias.shape[1] == 8:  # class scores, not features
            eaf.experts.outer_bias.data[:, 3] = 1000

    found = look(edited(runs / "leaf", tmp_path / "decided", decide))["decided"]["experts"]
    assert found["unchanged"]["balanced_accuracy"] == pytest.approx(1 / 8)
    without = found["changed"]["left out"]
    assert without["instance"]["other_class"] > 0.2
    assert without["semantic"]["other_class"] == 0
    assert without["both"]["other_class"] > 0.2


def test_a_pool_of_nothing_is_told(script, monkeypatch, tmp_path, capsys):
    words = ["inside.py", "nothing", "--data", DATA, "--pool", "0", "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert "--pool 0: expected a number >= 1" in capsys.readouterr().err


def test_experts_that_are_shared_are_told(look, runs, capsys):
    with pytest.raises(SystemExit, match="2"):
        look(runs / "leaf_release")
    assert "shared or mixed otherwise" in capsys.readouterr().err


def test_a_folder_without_a_run_is_told(look, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        look(tmp_path)
    assert "not a run folder" in capsys.readouterr().err
