"""``leaf pretrain``: from faces to starting weights."""

import json
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from leaf_fer import run
from leaf_fer.cli import main
from leaf_fer.config import configure, configure_pretraining
from leaf_fer.data import synthetic
from leaf_fer.engine.loop import Interrupted
from leaf_fer.errors import UserError
from leaf_fer.pretrain import Pretraining, pretrain
from leaf_fer.training import execute

pytest.importorskip("lightly")
SMALL = {"backbone": "conv4", "image_size": 16, "batch_size": 8, "steps": 6, "epoch_steps": 3}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def faces(tmp_path):
    """A folder of labeled, unlabeled and test faces; one face is in two parts."""
    pixels = synthetic.render(0, range(30), 32)
    places = ["train/calm"] * 9 + ["train/grim"] * 3 + ["train/unlabeled"] * 12
    places += ["test/calm", "test/grim"] * 3
    for row, place in enumerate(places):
        (tmp_path / "faces" / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(tmp_path / "faces" / place / f"{row:02}.png")
    Image.fromarray(pixels[-1]).save(tmp_path / "faces" / "train/unlabeled" / "twin.png")
    return tmp_path / "faces"


def weights(out):
    return load_file(out / "weights.safetensors")


def test_it_writes_weights_that_a_run_starts_from(faces, tmp_path):
    out = tmp_path / "out"
    result = pretrain(faces, out=out, **SMALL)
    assert json.loads((out / "metrics.json").read_text()) == result
    assert (result["step"], list(result["loss"])) == (6, ["agreement"])
    about = json.loads((out / "weights.json").read_text())
    assert about["backbone"] == "conv4"
    assert about["origin"].startswith("simclr on 24 unlabeled images, 6 steps of 8, from random")
    options = {**SMALL, "data": str(faces), "method": "supervised", "init": str(out)}
    config = configure({**options, "steps": 1, "lr": 1e-30})
    execute(config, tmp_path / "run")
    model = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, value in weights(out).items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(model[f"backbone.{name}"], value), name


def test_images_of_the_test_part_take_no_part(faces, tmp_path, monkeypatch):
    seen = set()
    fit = run.fit

    def watched(fabric, state, batches, *more, **options):
        rows = {int(row) for step in range(6) for row in batches.rows(step)[0]}
        seen.update(rows)
        return fit(fabric, state, batches, *more, **options)

    monkeypatch.setattr(run, "fit", watched)
    config = configure_pretraining({"data": str(faces), **SMALL})
    execute(config, tmp_path / "out", kind=Pretraining)
    saved = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(seen) == 24
    assert len(saved["duplicates"]) == 1


def test_labels_change_nothing(faces, tmp_path):
    files = sorted(str(file) for file in faces.glob("train/*/*.png"))
    found = []
    for turn, names in enumerate((["calm", "grim"], ["grim", "calm"], ["grim", ""])):
        rows = [f"{file},{names[row % 3 % 2]}" for row, file in enumerate(files)]
        table = tmp_path / f"{turn}.csv"
        table.write_text("\n".join(["path,label", *rows]) + "\n")
        pretrain(table, out=tmp_path / str(turn), **SMALL)
        found.append(weights(tmp_path / str(turn)))
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(faces, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = configure_pretraining({"data": str(faces), **SMALL})
    execute(config, whole, kind=Pretraining)
    steps = iter(range(6))

    @contextmanager
    def stopping_in_the_fourth_step():
        yield lambda: next(steps) == 3

    with monkeypatch.context() as patch:
        patch.setattr(run, "stopping", stopping_in_the_fourth_step)
        with pytest.raises(Interrupted):
            execute(config, cut, kind=Pretraining)
    assert not (cut / "weights.json").exists()
    execute(config, cut, resume=True, kind=Pretraining)
    expected, got = weights(whole), weights(cut)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_more_images_than_there_are_cannot_be_compared(faces, tmp_path):
    with pytest.raises(UserError, match="--batch-size 64: expected at most the 24 images"):
        pretrain(faces, out=tmp_path / "out", **{**SMALL, "batch_size": 64})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method", "leaf"],
            "--method leaf: unknown method; known: simclr, barlow_twins, vicreg, distill",
        ),
        (["--labels", "40"], "--labels: unknown option"),
        (["--off-diagonal", "1"], "--off-diagonal: unknown option"),
    ],
)
def test_what_it_does_not_take_is_refused(faces, capsys, words, message):
    try:
        status = main(["pretrain", str(faces), *words])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_the_command_says_how_to_go_on(faces, tmp_path, capsys):
    out = str(tmp_path / "out")
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["pretrain", str(faces), "--out", out, "--method", "vicreg", *words]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: start from it with --backbone conv4 --init {out}\n"
    assert "24 images, without labels; 6 steps" in said.err
