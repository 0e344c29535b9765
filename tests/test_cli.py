import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from leaf_fer.cli import default_out, main
from leaf_fer.config import configure
from leaf_fer.data import synthetic
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.parser import build_parser
from leaf_fer.registry import methods


def leaf(*words):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "leaf_fer.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("train", "--help"),
        ("evaluate", "--help"),
        ("predict", "--help"),
        ("faces", "--help"),
        ("live", "--help"),
        ("live", "nowhere"),
        ("data", "--help"),
        ("bench", "--help"),
        ("bench", "run", "--help"),
        ("bench", "speed", "--help"),
        ("methods",),
        ("methods", "leaf"),
        ("methods", "fixmatch"),
        ("train", "synthetic", "--tresh", "1"),
        ("train", "synthetic", "--steps", "x"),
        ("train", "synthetic", "--print_config"),
        ("predict", "nowhere", "x.png"),
        ("train", "nowhere"),
        ("train", "synthetic", "--labels", "0"),
    ],
)
def test_help_and_usage_errors_do_not_wait_for_torch(words):
    done = leaf(*words)
    assert "argparse" in done.stderr  # the list of imports is there
    for heavy in ("torch", "matplotlib", "timm"):
        assert f" {heavy}\n" not in done.stderr, heavy


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "synthetic", "--tresh", "1"], "--tresh: unknown option; did you mean --thresh"),
        (["train", "synthetic", "--steps", "x"], "--steps x: expected a whole number >= 1"),
        (["train", "synthetic", "--mask", "x"], "--mask x: expected one of none, fixed, adaptive"),
        (["train", "synthetic", "--method", "leav"], "--method leav: unknown method; did you mean"),
        (["train", "synthetic", "--eaf", "x"], "--eaf x: expected semantic, instance, both, or"),
        (["train", "synthetic", "--top-k", "9"], "--top-k 9: expected at most --num-experts 4"),
        (["train", "synthetic", "--labels", "0"], "--labels 0: expected a whole number >= 1"),
        (["train", "synthetic", "--labels", "no.csv"], "--labels no.csv: expected a whole number"),
        (["train", "synthetic", "--device", "tpu"], "--device tpu: expected one of auto, cpu"),
        (
            ["train", "synthetic", "--config", "no.yaml"],
            "--config no.yaml: cannot be read: No such",
        ),
        (["train", "nowhere"], "data 'nowhere' is unknown: expected synthetic[:N], rafdb:PATH"),
        (["train", "--labels", "3"], "DATA is missing"),
        (["train", "x", "--resume"], "--resume: expected --out RUN"),
        (["train", "synthetic:20", "--labels", "800", "--image-size", "32"], "--labels 800: 100 "),
        (["train", "synthetic:20", "--backbone", "resnet19"], "--backbone resnet19: timm has no"),
        (["predict", "nowhere", "x.png"], "nowhere: not a model folder"),
        (["evaluate", "nowhere", "synthetic"], "nowhere: not a model folder"),
        (["data", "rafdb:nowhere"], "found nothing there"),
        (["data", "synthetic:20", "--image-size", "0"], "--image-size 0: expected a whole number"),
        (["train", "synthetic", "--method", "fixmatch", "--category", "x"], "expected one of none"),
        (["methods", "x"], "--method x: unknown method; known: "),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_with_status_2(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    try:
        status = main(words)
    except SystemExit as stop:  # argparse's own errors
        status = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]


def test_debug_shows_the_traceback():
    from leaf_fer.errors import UserError

    with pytest.raises(UserError):
        main(["train", "synthetic", "--steps", "x", "--debug"])


def test_the_command_line_wins_over_the_file_and_the_file_over_the_recipe(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text("method: leaf_release\nnum-experts: 3\nlr: 0.1\nthreshold: 0.7\n")
    main(["train", "synthetic", "--config", str(file), "--lr", "0.2", "--print_config"])
    got = yaml.safe_load(capsys.readouterr().out)
    assert (got["lr"], got["num_experts"], got["top_k"], got["threshold"]) == (0.2, 3, 1, 0.7)


def test_a_printed_configuration_can_be_read_back(tmp_path, capsys):
    words = ["train", "synthetic", "--method", "leaf", "--align", "--ramp", "0.4"]
    main([*words, "--print_config"])
    text = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(text)
    main(["train", "--config", str(tmp_path / "c.yaml"), "--print_config"])
    assert capsys.readouterr().out == text


def test_an_unknown_name_in_a_file_is_a_clear_error(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("treshold: 0.7\n")
    assert main(["train", "synthetic", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "did you mean threshold" in capsys.readouterr().err


def test_help_of_train_has_the_options_of_the_chosen_method():
    text = build_parser(["train", "--method", "leaf"])._subparsers._group_actions[0].choices
    assert "--partition-view" in text["train"].format_help()
    text = build_parser(["train", "--method", "supervised"])._subparsers._group_actions[0].choices
    assert "--partition-view" not in text["train"].format_help()


def test_methods_explains_equation_options_and_ranges(capsys):
    assert main(["methods", "leaf"]) == 0
    text = capsys.readouterr().out
    assert "sum_P e^-z_i" in text
    assert "--mass: a number in [0, 1]; default 0.9" in text


def test_methods_lists_paper_year_views_cost_and_memory_of_each(capsys):
    assert main(["methods"]) == 0
    head, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.split() == ["method", "paper", "year", "views", "cost", "remembers"]
    assert [row.split()[0] for row in rows] == list(methods())
    (row,) = (row for row in rows if row.startswith("flexmatch"))
    assert "Zhang et al." in row
    assert "  2021  w + ws   2.3   last confident label of every unlabeled image" in row


def test_a_method_without_pseudo_labels_has_no_ambiguous_loss_to_put_in(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "synthetic", "--method", "vat", "--category", "add"])
    assert "--category: unknown option" in capsys.readouterr().err


def test_an_option_of_a_method_is_set_by_a_recipe(tmp_path, capsys):
    recipe = tmp_path / "fig7.yaml"
    recipe.write_text("method: flexmatch\neaf: semantic,instance\ncategory: replace\nmass: 0.8\n")
    assert main(["train", "synthetic", "--config", str(recipe), "--print_config"]) == 0
    got = yaml.safe_load(capsys.readouterr().out)
    assert (got["category"], got["mass"], got["eaf"]) == ("replace", 0.8, "semantic,instance")


def test_a_run_is_named_after_what_it_does():
    config = configure({"data": "ferplus:/x/y", "method": "leaf", "labels": 100, "seed": 2})
    assert default_out(config).as_posix() == "runs/leaf-ferplus-100-s2"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of faces and a run trained on it by the command line."""
    root = tmp_path_factory.mktemp("world")
    for part, rows in {"train": range(48), "test": range(48, 72)}.items():
        drawn = zip(rows, synthetic.labels(0, rows), synthetic.render(0, rows, 32), strict=True)
        for row, label, pixels in drawn:
            folder = root / "faces" / part / EXPRESSIONS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{row}.png")
    words = "--labels 8 --image-size 32 --backbone test_resnet --batch-size 4 --steps 2"
    out = str(root / "run")
    where = ["--cache", str(root / "cache"), "--out", out, "--device", "cpu"]
    assert main(["train", str(root / "faces"), *words.split(), *where]) == 0
    return root


def test_evaluate_repeats_what_training_measured(world, capsys):
    faces, cache = str(world / "faces"), ["--cache", str(world / "cache")]
    assert main(["evaluate", str(world / "run"), faces, "--format", "json", *cache]) == 0
    got = json.loads(capsys.readouterr().out)
    expected = json.loads((world / "run" / "metrics.json").read_text())
    for name in ("overall_accuracy", "balanced_accuracy", "confusion_matrix", "classes"):
        assert got[name] == expected[name]


def test_evaluate_says_which_parts_there_are(world, capsys):
    words = ["evaluate", str(world / "run"), str(world / "faces"), "--part", "validation"]
    assert main([*words, "--cache", str(world / "cache")]) == 2
    assert "parts with labels: train (48), test (24)" in capsys.readouterr().err


def test_evaluate_refuses_classes_that_the_model_does_not_know(world, tmp_path, capsys):
    for name in ("neutral", "boredom"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "x.png")
    words = ["evaluate", str(world / "run"), str(tmp_path), "--part", "train"]
    assert main([*words, "--cache", str(world / "cache")]) == 2
    assert "does not know the classes boredom" in capsys.readouterr().err


@pytest.fixture
def files(tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(synthetic.render(0, [5], 64)[0]).save(good)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_predict_goes_on_after_a_file_that_cannot_be_read(world, files, style, capsys):
    names = [str(files / name) for name in ("good.png", "bad.jpg", "missing.png", "good.png")]
    assert main(["predict", str(world / "run"), *names, "--format", style]) == 1
    text = capsys.readouterr()
    assert "bad.jpg: is not an image" in text.err
    assert "missing.png: does not exist" in text.err
    if style == "json":
        found = json.loads(text.out)
        assert [one["error"] for one in found] == [None, "is not an image", "does not exist", None]
        assert sum(found[0]["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert found[0] == found[3]
    else:
        assert len(text.out.splitlines()) == (4 if style == "table" else 5)
        assert "is not an image" in text.out


def test_predict_takes_folders_and_succeeds_when_all_is_well(world, capsys):
    assert main(["predict", str(world / "run"), str(world / "faces" / "test")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 24


def test_predictions_are_the_same_in_any_batch(world, files):
    import leaf_fer

    model = leaf_fer.load(world / "run")
    paths = sorted((world / "faces" / "test").rglob("*.png"))[:5]
    together = list(model.predict(paths))
    apart = [next(iter(model.predict([path]))) for path in paths]
    for one, other in zip(together, apart, strict=True):
        assert np.allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-5)


def test_a_model_folder_works_without_its_run(world, files, tmp_path, capsys):
    import shutil

    shutil.copytree(world / "run" / "model", tmp_path / "elsewhere")
    assert main(["predict", str(tmp_path / "elsewhere"), str(files / "good.png")]) == 0


def test_resuming_with_another_option_is_refused(world, capsys):
    words = ["train", "--resume", "--out", str(world / "run"), "--method", "leaf", "--lr", "0.3"]
    assert main(words) == 2
    assert "--lr 0.3: the run was started with 0.0005" in capsys.readouterr().err


def test_resuming_a_finished_run_says_so(world, capsys):
    assert main(["train", "--resume", "--out", str(world / "run")]) == 0
    assert "is finished" in capsys.readouterr().err


def test_training_into_a_used_folder_is_refused(world, capsys):
    assert main(["train", str(world / "faces"), "--out", str(world / "run")]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_data_counts_images_and_draws_a_sheet(world, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    words = ["data", str(world / "faces"), "--image-size", "32", "--sheet", str(sheet)]
    assert main([*words, "--cache", str(world / "cache")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["train", "validation", "test"]
    assert next(line for line in lines if line.startswith("all")).split() == [
        "all",
        "48",
        "0",
        "24",
    ]
    with Image.open(sheet) as picture:
        assert picture.width > 100


def test_env_names_versions_and_device(capsys):
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert "torch " in text
    assert "decoded images: " in text


@pytest.fixture
def calibrated(world, tmp_path, capsys):
    """A copy of the model that knows the test faces, and what was said."""
    import shutil

    model, faces = tmp_path / "calibrated", str(world / "faces")
    shutil.copytree(world / "run" / "model", model)
    where = ["--part", "test", "--cache", str(world / "cache")]
    assert main(["calibrate", str(model), faces, *where]) == 0
    return str(model), capsys.readouterr()


def test_candidates_hold_the_true_class_as_often_as_promised(world, calibrated, capsys):
    model, said = calibrated
    assert "candidate sets learned from 24 faces (test part of " in said.out
    assert "--coverage 0.9: " in said.out
    where = [str(world / "faces"), "--cache", str(world / "cache")]
    words = ["evaluate", model, *where, "--coverage", "0.8"]
    assert main([*words, "--format", "json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert 0.8 <= sets["coverage"] <= 1  # of the same faces: (n + 1) 0.8 / n, and ties
    assert 1 <= sets["size"] <= 8
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "candidate sets and the true class:"
    assert lines[3].startswith("all faces ")
    assert len(lines) == 4 + 8


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_predict_names_candidates_and_may_abstain(world, files, calibrated, style, capsys):
    model, _ = calibrated
    names = [str(files / "good.png"), str(files / "bad.jpg")]
    asked = ["--coverage", "0.9", "--abstain", "--format", style]
    assert main(["predict", model, *names, *asked]) == 1
    text = capsys.readouterr().out
    if style == "json":
        good, bad = json.loads(text)
        ranked = sorted(good["scores"], key=lambda name: -good["scores"][name])
        assert good["candidates"] == ranked[: len(good["candidates"])]
        assert len(good["candidates"]) > 1  # two steps of training leave it very unsure
        assert good["label"] is None
        assert bad["candidates"] is None
    elif style == "csv":
        row = text.splitlines()[1].split(",")
        assert row[1] == ""
        assert ";" in row[-2]
    else:
        assert text.startswith("not sure ")
        assert "; candidates: " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coverage", "0.9"], "--coverage 0.9: the model has not been calibrated; leaf calib"),
        (["--coverage", "90"], "--coverage 90: expected a number in (0, 1)"),
        (["--coverage", "most"], "--coverage most: expected a number in (0, 1)"),
        (["--abstain"], "--abstain: expected --coverage as well"),
        (["--per-class"], "--per-class: expected --coverage as well"),
    ],
)
def test_sets_that_cannot_be_are_refused(world, files, words, message, capsys):
    assert main(["predict", str(world / "run"), str(files / "good.png"), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_calibration_is_said(calibrated, files, capsys):
    model, _ = calibrated
    (Path(model) / "calibration.json").write_text('{"format": 1, "scores": [1]}')
    assert main(["predict", model, str(files / "good.png")]) == 2
    assert "calibration.json: damaged: " in capsys.readouterr().err
