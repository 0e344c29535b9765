"""The script ``benchmarks/labeling.py``, on drawn faces in the layout of FERPlus."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.scripts import loaded

from leaf_fer.bench import grid
from leaf_fer.data import ferplus, synthetic
from leaf_fer.data.saved import read_chosen
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.labeling import network as networks
from leaf_fer.labeling.features import Encoder

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "labeling.py"


@pytest.fixture(scope="module")
def votes(tmp_path_factory):
    """40 training faces of 8 classes; every tenth vote is for unknown."""
    root = tmp_path_factory.mktemp("ferplus")
    for part, folder in enumerate(ferplus.FOLDERS):
        (root / folder).mkdir()
        rows = []
        for row, face in enumerate(synthetic.render(part, range(40), 32)):
            Image.fromarray(face).save(root / folder / f"{row}.png")
            counts = [7 if column == row % 8 else 0 for column in range(8)] + [2, 1]
            rows.append([f"{row}.png", "(0, 0, 32, 32)", *counts])
        with (root / folder / "label.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return root


@pytest.fixture(scope="module")
def script():
    with loaded(SCRIPT) as module:
        yield module


@pytest.fixture
def run(script, votes, tmp_path, monkeypatch):
    """Runs the script: the folder that it wrote, and its records."""

    def call(*words):
        out = tmp_path / "out"
        given = [votes, "--out", out, "--seeds", 0, 1, "--budgets", 16, 8, *words]
        monkeypatch.setattr(sys, "argv", ["labeling.py", *map(str, given)])
        script.main()
        lines = (out / "selection.jsonl").read_text().splitlines()
        return out, [json.loads(line) for line in lines]

    return call


def test_leaf_train_reads_the_lists_and_the_larger_one_has_the_smaller(run, votes):
    out, records = run()
    table = ferplus.read(votes)
    hashes = np.zeros((len(table), 16), np.uint8)
    found = {}
    for record in records:
        seed, order, count = record["seed"], record["order"], record["labels"]
        file = out / f"seed{seed}" / f"{order}-{count}.csv"
        rows, targets = read_chosen(file, table, hashes)
        assert len(rows) == count == sum(record["counts"].values())
        assert targets.tolist() == table.targets[rows].tolist()
        found[seed, order, count] = set(rows.tolist())
    assert len(found) == 8
    for seed, order, _ in found:
        assert found[seed, order, 8] < found[seed, order, 16]
    assert len({frozenset(rows) for rows in found.values()}) == 8


def test_what_the_labels_are_worth_is_measured_on_the_other_faces(run, script, monkeypatch):
    summarize = script.summarize
    asked = []

    def note(p, truth, classes):
        asked.append(len(truth))
        return summarize(p, truth, classes)

    monkeypatch.setattr(script, "summarize", note)
    _, records = run()
    assert asked == [records[0]["faces"] - record["labels"] for record in records]
    for record in records:
        assert set(record["probe"]) == {"balanced", "overall"}
        assert all(0 <= value <= 100 for value in record["probe"].values())


def test_labels_that_say_all_are_worth_all_and_wrong_ones_nothing(script, tmp_path):
    names = tuple(f"{row}.png" for row in range(80))
    targets = np.arange(80) % 8
    table = SimpleNamespace(names=names, targets=targets)
    seen = np.eye(8, dtype=np.float32)[targets]
    for shift, worth in ((0, 100.0), (1, 0.0)):
        said = [f"{names[row]},{EXPRESSIONS[(row + shift) % 8]}" for row in range(8)]
        file = tmp_path / "labels.csv"
        file.write_text("\n".join(["path,label", *said]) + "\n")
        found = script.probe(file, SimpleNamespace(table=table), seen, np.arange(80))
        assert found == {"balanced": worth, "overall": worth}


def test_faces_can_be_chosen_by_pixels_and_judged_by_a_network(run, monkeypatch, tmp_path):
    def lists(*words):
        out, records = run(*words)
        texts = {file.name: file.read_text() for file in (out / "seed0").glob("*.csv")}
        return texts, {record["chosen by"] for record in records}, records[0]["probe"]

    def encode(pixels):
        return pixels[:, ::8, ::8, 0].reshape(len(pixels), -1).astype(np.float32)[:, ::-1] ** 2

    monkeypatch.setattr(networks, "network", lambda path: Encoder(32, "squares", encode))
    plain, by_model, by_pixels = lists(), lists("--model", "x"), lists("--model", "x", "--pixels")
    assert (plain[1], by_model[1], by_pixels[1]) == ({"pixels"}, {"model"}, {"pixels"})
    assert by_pixels[0] == plain[0] != by_model[0]
    assert by_pixels[2] != plain[2]


def test_the_recipe_has_a_run_for_every_list_of_a_seed(run, monkeypatch):
    out, _ = run()
    monkeypatch.chdir(out / "seed1")
    cells = grid.expand(grid.read_recipe("../recipe.yaml"), [1])
    lists = sorted(f"{order}-{count}.csv" for order in ("useful", "random") for count in (8, 16))
    assert sorted(cell.config.settings.labels for cell in cells) == lists
    assert {cell.config.settings.seed for cell in cells} == {1}


def test_an_annotator_may_not_know(run):
    _, records = run("--person", "annotator")
    answers = [record["answers"] for record in records if record["labels"] == 16]
    assert all(found["label"] == 16 for found in answers)
    assert sum(found.get("skip", 0) for found in answers) > 0
    assert sum(found.get("reject", 0) for found in answers) > 0


def test_too_few_faces_are_said(run):
    with pytest.raises(SystemExit, match="10 labels, and no face is left; expected 16"):
        run("--faces", 10)


def test_the_classes_are_those_of_the_votes(run):
    _, records = run("--faces", 30)
    assert {tuple(record["counts"]) for record in records} == {EXPRESSIONS}
    assert {record["faces"] for record in records} == {30}
