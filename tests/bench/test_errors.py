"""The script ``benchmarks/errors.py``, on drawn faces in the layout of FERPlus."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.scripts import loaded

from leaf_fer.bench.plots.theme import DARK, LIGHT
from leaf_fer.data import synthetic
from leaf_fer.data.ferplus import FOLDERS
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.metrics import summarize
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.report.page import plain_style
from leaf_fer.types import MEAN, STD

from .test_plot import check_readable, texts, titled

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "errors.py"
COUNT = 24
WRITTEN = ("errors.json", "errors.png", "errors.svg", "errors-dark.png", "errors-dark.svg")


@pytest.fixture(scope="module")
def script():
    with loaded(SCRIPT) as module:
        yield module


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory):
    root = tmp_path_factory.mktemp("ferplus")
    generator = np.random.default_rng(0)
    for part, folder in enumerate(FOLDERS):
        (root / folder).mkdir()
        pixels = synthetic.render(part, range(COUNT), 32)
        with (root / folder / "label.csv").open("w", newline="") as stream:
            for row, face in enumerate(pixels):
                Image.fromarray(face).save(root / folder / f"{row}.png")
                votes = np.zeros(10, dtype=int)
                votes[row % 8] = 6
                votes += generator.multinomial(4, np.full(10, 0.1))
                csv.writer(stream).writerow([f"{row}.png", "(0, 0, 32, 32)", *votes])
    return root


def model(folder, classes=EXPRESSIONS):
    network = Architecture("conv4", num_classes=len(classes), image_size=32)
    save_model(folder, build_classifier(network), Card(network, classes, MEAN, STD))
    return folder


@pytest.fixture
def run(script, ferplus, tmp_path, monkeypatch, capsys):
    """Runs the script; what it printed, and the folder that it wrote."""
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))

    def call(*words):
        out = tmp_path / "out"
        common = ["--data", f"ferplus:{ferplus}", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["errors.py", *common, *map(str, words)])
        script.main()
        return capsys.readouterr().out, out

    return call


def test_two_models_are_compared_and_no_path_is_told(run, tmp_path):
    models = [model(tmp_path / "one"), model(tmp_path / "two" / "model")]
    printed, out = run(*models)
    assert printed.startswith("|  | one | two |\n")
    sheets = ("faces-one.png", "faces-two.png")
    assert sorted(path.name for path in out.iterdir()) == sorted(WRITTEN + sheets)
    for path in out.glob("*.[js]*"):
        assert str(tmp_path.parent) not in path.read_text()
    facts = json.loads((out / "errors.json").read_text())
    assert (facts["part"], facts["count"]) == ("validation", COUNT)
    assert list(facts["models"]) == ["one", "two"]
    for found in facts["models"].values():
        wrong = round(COUNT * (1 - found["overall_accuracy"]))
        assert found["errors"]["count"] == sum(p["count"] for p in found["confused"]) == wrong
        assert sum(each["count"] for each in found["agreement"]) == COUNT
        sizes = [each["size"] for each in found["masses"]]
        assert sizes == sorted(sizes)
        assert found["candidates"]["probability"] >= 0.9


def test_one_model_has_one_sheet_or_none(run, tmp_path):
    folder = model(tmp_path / "one")
    assert (run(folder)[1] / "faces.png").is_file()
    (tmp_path / "out" / "faces.png").unlink()
    assert not (run(folder, "--faces", 0)[1] / "faces.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mass", "1.5"], "--mass 1.5: expected a number in [0, 1]"),
        (["--faces", "-1"], "--faces -1: expected a number >= 0"),
        (["--data", "synthetic"], "--data synthetic: expected ferplus:PATH"),
    ],
)
def test_options_that_cannot_be_are_told_before_anything_is_read(run, capsys, words, told):
    with pytest.raises(SystemExit, match="2"):
        run("nothing", *words)
    assert capsys.readouterr().err.startswith(f"errors.py: error: {told}")


def test_a_model_of_other_classes_is_told(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(model(tmp_path / "other", ("fear", "joy")))
    told = capsys.readouterr().err
    assert "its classes are fear, joy; expected those of FERPlus: neutral, happiness" in told


def test_two_models_of_a_name_are_told(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(model(tmp_path / "a" / "one"), model(tmp_path / "b" / "one"))
    assert "two models are called one" in capsys.readouterr().err


def facts_of(script, names, count=3000):
    """As in errors.json, of models that are made up."""
    generator = np.random.default_rng(0)
    votes = generator.multinomial(10, generator.dirichlet(np.full(8, 0.2), count))
    part = script.Part(np.arange(count), votes.argmax(axis=1), np.pad(votes, ((0, 0), (0, 2))))
    belief = [generator.dirichlet(np.full(8, 0.3), count).astype(np.float32) for _ in names]
    models = {n: script.examine(p, part, 0.9) for n, p in zip(names, belief, strict=True)}
    return {"models": models}, part, belief


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_figure_is_readable(script, theme, count):
    names = [f"method{n}-ferplus-400-s{n}-0123abcd" for n in range(count)]
    with plain_style():
        figure = script.draw(facts_of(script, names)[0], theme)
        figure.draw_without_rendering()
        turned = [text for text in texts(figure) if text.get_rotation() not in (0, 90)]
        for text in turned:  # the boxes of slanted words are larger than they are
            text.set_visible(False)
        check_readable(figure)
    assert len(turned) == 8 * count
    assert len(figure.axes) == count + 4


def test_the_figure_shows_the_numbers(script):
    facts, part, (belief,) = facts_of(script, ["one"])
    with plain_style():
        figure = script.draw(facts, LIGHT)
    sizes, smallest = titled(figure, "classes in candidate sets").lines
    np.testing.assert_allclose(sizes.get_xdata(), 100 * np.array(script.MASSES))
    assert sizes.get_ydata()[-3] == facts["models"]["one"]["candidates"]["size"]
    assert sizes.get_ydata()[-3] > smallest.get_ydata()[-3]
    held, itself = titled(figure, "share of the votes in candidate sets").lines
    np.testing.assert_allclose(itself.get_ydata(), itself.get_xdata())
    shares = [100 * each["vote_share"] for each in facts["models"]["one"]["masses"]]
    np.testing.assert_allclose(held.get_ydata(), shares)
    numbers = [text.get_text() for text in figure.axes[0].texts]
    matrix = np.array(summarize(belief, part.targets, EXPRESSIONS)["confusion_matrix"])
    percents = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    assert numbers == [f"{value:.0f}" for value in percents.flat]
