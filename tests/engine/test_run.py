import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import PATIENCE

from leaf_fer import build, registry
from leaf_fer.config import write_yaml
from leaf_fer.data import synthetic
from leaf_fer.data.views import Batches
from leaf_fer.engine.loop import Diverged, Interrupted
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError
from leaf_fer.models import load_model
from leaf_fer.training import execute


def start(config, out, tmp_path):
    """Start ``leaf train`` as a user would, in a process of its own."""
    file = tmp_path / "given.yaml"
    file.write_text(write_yaml(config))
    words = ["train", "--config", str(file), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "leaf_fer.cli", *words], stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process):
    end = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def weights(out):
    return load_file(out / "model" / "model.safetensors")


@pytest.fixture
def whole(tiny, tmp_path):
    """A finished run and its result."""
    out = tmp_path / "whole"
    return out, execute(tiny(), out)


def test_a_finished_run_has_all_that_it_promises(whole):
    out, result = whole
    for name in ("config.yaml", "split.json", "metrics.jsonl", "metrics.json", "curves.png"):
        assert (out / name).stat().st_size > 0
    assert (out / "model" / "config.json").exists()
    for folder, end in (("model", "the end of training"), ("best", "the best epoch")):
        card = (out / folder / "README.md").read_text()
        assert f"the weights are those of {end}" in card
        assert (
            f"Overall accuracy {100 * result['overall_accuracy']:.1f} %" in card or folder == "best"
        )
    assert (out / "checkpoint" / "state.safetensors").exists()
    assert list((out / "events").glob("events*"))
    assert json.loads((out / "metrics.json").read_text()) == result
    promised = {
        "overall_accuracy",
        "balanced_accuracy",
        "per_class_recall",
        "macro_f1",
        "ece",
        "confusion_matrix",
        "classes",
        "selection",
        "seconds",
        "images_per_second",
        "warnings",
    }
    assert promised <= set(result)
    assert result["selection"] == "last"
    assert [other["selection"] for other in result["others"]] == ["best-on-validation"]


def test_the_log_names_losses_shares_and_experts(whole):
    out, _ = whole
    lines = RunFolder(out).lines()
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == list(range(1, 7))
    assert set(training[0]["loss"]) == {"supervised", "category"}
    assert len(training[0]["watch"]["shares"]) == 8
    assert sum(training[0]["watch"]["shares"]) == pytest.approx(1)
    importance, frequency = training[0]["experts"]["semantic"]
    assert sum(importance) == pytest.approx(1, abs=1e-5)
    assert sum(frequency) == pytest.approx(2, abs=1e-5)
    assert [line["step"] for line in lines if "validation" in line] == [3, 6]


def test_metrics_are_those_of_the_saved_model(tiny, whole):
    from leaf_fer.build import open_data
    from leaf_fer.data.views import Images
    from leaf_fer.engine.evaluate import evaluate

    out, result = whole
    data = open_data(tiny().settings, out / "split.json")
    model, card = load_model(out / "model")
    assert card.classes == data.table.classes
    images = Images(data.store.images, torch.device("cpu"))
    rows = data.split.validation
    p = evaluate(model, images, rows, batch_size=100, autocast=False)
    right = p.argmax(1) == data.table.targets[rows]
    assert right.mean() == pytest.approx(result["overall_accuracy"])


def test_a_run_folder_is_never_overwritten(tiny, whole):
    out, _ = whole
    with pytest.raises(UserError, match=r"already holds a run; add --resume"):
        execute(tiny(), out)


def test_a_finished_run_says_so(tiny, whole, capsys):
    out, result = whole
    assert execute(tiny(), out, resume=True) == result
    assert "is finished: nothing to do" in capsys.readouterr().err


def test_there_must_be_a_run_to_resume(tiny, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        execute(tiny(), tmp_path / "nothing", resume=True)


def test_a_run_killed_and_resumed_equals_one_that_was_not(tiny, tmp_path):
    config = tiny(steps=60, epoch_steps=10, method="leaf", threshold=0.0, partition_by="average")
    whole, cut = tmp_path / "one", tmp_path / "two"
    execute(config, whole)

    process = start(config, cut, tmp_path)
    log = RunFolder(cut).log
    wait_for(lambda: log.exists() and '"step": 33' in log.read_text(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (cut / "metrics.json").exists(), "it ended before it could be killed"
    assert (cut / "checkpoint" / "state.safetensors").exists()

    execute(config, cut, resume=True)
    expected, got = weights(whole), weights(cut)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    losses = [
        {line["step"]: line["loss"] for line in RunFolder(out).lines() if "loss" in line}
        for out in (whole, cut)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("method", ["flexmatch", "simmatch", "lion", "comatch", "remixmatch"])
def test_what_a_method_remembers_of_every_image_survives_a_stop(
    tiny, cache, tmp_path, monkeypatch, method
):
    # 16 labeled and 48 unlabeled images in batches of 5: passes end within batches.
    config = tiny(method=method, batch_size=5, steps=12, epoch_steps=4)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    execute(config, whole)
    steps = iter(range(12))

    @contextmanager
    def stopping_in_the_seventh_step():
        yield lambda: next(steps) == 6

    monkeypatch.setattr("leaf_fer.run.stopping", stopping_in_the_seventh_step)
    with pytest.raises(Interrupted):
        execute(config, cut)
    monkeypatch.undo()
    monkeypatch.setenv("LEAF_CACHE", str(cache))
    execute(config, cut, resume=True)
    expected, got = (load_file(RunFolder(out).checkpoint) for out in (whole, cut))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_all_methods_get_the_same_labels_for_a_seed(tiny, tmp_path):
    for method in ("supervised", "flexmatch", "lion"):
        execute(tiny(method=method, steps=1), tmp_path / method)
    splits = {
        (tmp_path / m / "split.json").read_bytes() for m in ("supervised", "flexmatch", "lion")
    }
    assert len(splits) == 1


def test_a_termination_signal_saves_and_can_be_resumed(tiny, tmp_path):
    config = tiny(steps=400, epoch_steps=200)
    out = tmp_path / "run"
    process = start(config, out, tmp_path)
    log = RunFolder(out).log
    wait_for(lambda: log.exists() and '"step": 8' in log.read_text(), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"go on with: leaf train --resume --out {out}" in err
    assert (out / "checkpoint" / "state.safetensors").exists()
    assert not (out / "metrics.json").exists()


def test_two_processes_cannot_train_in_one_folder(tiny, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    try:
        with pytest.raises(UserError, match="another process is training there"):
            execute(tiny(), tmp_path / "run")
    finally:
        folder.unlock()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tiny, tmp_path):
    with pytest.raises(Diverged, match=r"not finite at step \d+: supervised .*train/") as caught:
        execute(tiny(lr=1e30, steps=6), tmp_path / "run")
    listed = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert listed["step"] == caught.value.args[1]
    assert len(listed["batch"]) == 8


def test_the_seed_of_the_split_is_apart_from_that_of_training(tiny, tmp_path):
    names = {}
    for seed, split_seed in ((0, 0), (1, 0), (0, 1)):
        out = tmp_path / f"{seed}{split_seed}"
        execute(tiny(method="supervised", seed=seed, split_seed=split_seed, steps=1), out)
        names[seed, split_seed] = set(json.loads((out / "split.json").read_text())["labels"])
    assert names[0, 0] == names[1, 0] != names[0, 1]


def test_labels_can_come_from_the_split_of_another_run(tiny, tmp_path):
    execute(tiny(method="supervised", steps=1), tmp_path / "a")
    again = tiny(method="supervised", steps=1, split_seed=9, labels=str(tmp_path / "a/split.json"))
    execute(again, tmp_path / "b")
    first, second = (json.loads((tmp_path / n / "split.json").read_text()) for n in "ab")
    assert first["labels"] == second["labels"]


def test_all_labels_leave_a_semi_supervised_method_without_a_pool(tiny, tmp_path):
    with pytest.raises(UserError, match="needs unlabeled images"):
        execute(tiny(labels=None), tmp_path / "run")


def test_a_collapse_is_a_visible_warning(tiny, tmp_path, capsys):
    # A step of this size makes one class win everywhere without leaving the finite numbers.
    execute(tiny(method="supervised", lr=0.3, steps=2, epoch_steps=1, ema=0.0), tmp_path / "run")
    assert "the run has collapsed" in capsys.readouterr().err
    assert any("warning" in line for line in RunFolder(tmp_path / "run").lines())


def test_a_mask_that_keeps_nothing_out_is_a_visible_warning(tiny, tmp_path, capsys):
    config = tiny(method="fixmatch", threshold=0, steps=6, epoch_steps=2)
    found = execute(config, tmp_path / "run")
    warning = "every pseudo-label of the first 4 steps has counted, doubtful ones too"
    assert f"warning: step 4: {warning}" in capsys.readouterr().err
    assert {"step": 4, "warning": warning} in found["warnings"]


@pytest.mark.parametrize("method", sorted(registry.methods()))
def test_every_method_trains_in_bfloat16_with_eaf(tiny, tmp_path, method):
    config = tiny(
        method=method, eaf="semantic,instance", precision="bfloat16", steps=4, epoch_steps=2
    )
    result = execute(config, tmp_path / "run")
    assert 0 <= result["balanced_accuracy"] <= 1
    losses = [line["loss"] for line in RunFolder(tmp_path / "run").lines() if "loss" in line]
    assert bool(registry.method(method).views[1]) == any(len(terms) > 1 for terms in losses)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_the_precision_that_was_computed_in_is_recorded(tiny, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(build, "computes_bfloat16", lambda device: device == "cpu")
    found = execute(tiny(method="supervised", precision=precision, steps=2), tmp_path / "run")
    computed = "bfloat16" if precision == "auto" else precision
    assert found["device"].endswith(f"threads, {computed}")


@pytest.mark.parametrize(("strong", "views"), [(True, 1), (False, 0)])
def test_views_that_an_option_takes_away_are_not_made(tiny, tmp_path, monkeypatch, strong, views):
    made = []
    at = Batches.at

    def spied(batches, step):
        made.append(len(at(batches, step).labeled.strong))
        return at(batches, step)

    monkeypatch.setattr(Batches, "at", spied)
    execute(tiny(method="adamatch", strong_labeled=strong, steps=2), tmp_path / "run")
    assert made == [views, views]


def test_interrupting_twice_stops_at_once():
    from leaf_fer.engine.signals import stopping

    with pytest.raises(KeyboardInterrupt), stopping() as asked:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        os.kill(os.getpid(), signal.SIGINT)
    assert issubclass(Interrupted, Exception)


@pytest.fixture
def flat(tmp_path):
    """Twelve faces in one folder, and a list that names the expression of eight of them."""
    folder, rows = tmp_path / "flat", range(200, 212)
    folder.mkdir()
    lines = ["path,label"]
    for row, pixels in zip(rows, synthetic.render(0, rows, 32), strict=True):
        Image.fromarray(pixels).save(folder / f"{row}.png")
        lines += [f"{row}.png,{'glad' if row % 2 else 'grim'}"] if row < 208 else []
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return folder, tmp_path / "labels.csv"


def test_a_folder_without_labels_is_trained_on_with_a_list_of_them(tiny, flat, tmp_path):
    import leaf_fer

    folder, labels = flat
    config = tiny(data=str(folder), labels=str(labels), steps=2)
    result = execute(config, tmp_path / "run")
    assert "overall_accuracy" not in result  # there is nothing to measure it on
    model = leaf_fer.load(tmp_path / "run")
    assert model.classes == ("glad", "grim")
    assert next(model.predict([folder / "211.png"])).label in model.classes
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (len(split["labels"]), len(split["unlabeled"])) == (8, 4)


def test_a_run_goes_on_without_the_list_of_labels_it_was_started_with(tiny, flat, tmp_path):
    folder, labels = flat
    execute(tiny(data=str(folder), labels=str(labels), steps=2), tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    labels.unlink()
    execute(tiny(), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.json").exists()


def test_the_best_epoch_needs_a_validation_part(tiny, flat, tmp_path):
    folder, labels = flat
    config = tiny(data=str(folder), labels=str(labels), select="best-on-validation")
    with pytest.raises(UserError, match="there are no labeled validation images"):
        execute(config, tmp_path / "run")


def test_the_best_epoch_can_be_what_a_run_ships(tiny, tmp_path):
    result = execute(tiny(select="best-on-validation"), tmp_path / "run")
    assert result["selection"] == "best-on-validation"
    assert [other["selection"] for other in result["others"]] == ["last"]
    for name, value in load_file(tmp_path / "run" / "best" / "model.safetensors").items():
        assert torch.equal(value, weights(tmp_path / "run")[name])


def test_a_list_of_labels_needs_two_classes(tiny, flat, tmp_path):
    folder, labels = flat
    labels.write_text("path,label\n200.png,glad\n")
    with pytest.raises(UserError, match="at least two classes, got 1"):
        execute(tiny(data=str(folder), labels=str(labels)), tmp_path / "run")
