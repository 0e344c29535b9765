"""``leaf report`` and the page that a run writes, from a run to a browser."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.browser import CHROMIUM, LOADED, Browser

from leaf_fer import cli, evidence, reports
from leaf_fer.config import write_yaml
from leaf_fer.errors import UserError
from leaf_fer.report.facts import RunFacts

from .report.pages import check_page

WORDS = ["synthetic:160", "--labels", "16", "--image-size", "32", "--backbone", "conv4",
         "--batch-size", "4", "--steps", "4", "--epoch-steps", "2", "--validation", "0.2",
         "--device", "cpu", "--precision", "float32"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of LEAF with experts and, made before it, a supervised one."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAF_CACHE", str(root / "cache"))
        more = ["--method", "supervised", "--no-report", "--out", str(root / "base")]
        assert cli.main(["train", *WORDS, *more]) == 0
        more = ["--method", "leaf", "--eaf", "semantic,instance", "--watch-unlabeled", "8"]
        assert cli.main(["train", *WORDS, *more, "--out", str(root / "leaf")]) == 0
        yield root


@pytest.fixture(scope="module")
def page(runs):
    return (runs / "leaf" / "report.html").read_text()


def test_a_run_writes_a_page_with_all_sections(page, runs):
    outline = check_page(page)
    keys = {section["id"] for section in outline.all("section")}
    assert {"beside", "training", "confusion", "classes", "confidence", "experts", "features",
            "errors", "ambiguous", "pseudo", "made"} <= keys  # fmt: skip
    found = json.loads((runs / "leaf" / "metrics.json").read_text())
    assert f"{100 * found['balanced_accuracy']:.1f} %" in outline.words
    assert "The supervised run, in base, has 16 labels too" in outline.words
    assert len(page) < 3 << 20


def test_it_can_be_switched_off(runs):
    assert not (runs / "base" / "report.html").exists()
    assert (runs / "base" / "metrics.json").exists()


def test_the_page_can_be_made_anew_from_the_folder(runs, page, capsys):
    other = runs / "again.html"
    assert cli.main(["report", str(runs / "leaf"), "--out", str(other), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == str(other)
    again = check_page(other.read_text())
    first = check_page(page)
    assert again.words == first.words
    assert [i["title"] for i in again.all("img")] == [i["title"] for i in first.all("img")]


def test_several_runs_are_compared(runs, capsys):
    out = runs / "both.html"
    words = ["report", str(runs / "leaf"), str(runs / "base"), "--out", str(out)]
    assert cli.main(words) == 0
    outline = check_page(out.read_text())
    assert "compared with leaf" in outline.words
    assert outline.all("img") == []


def test_a_failure_costs_no_run(runs, monkeypatch, capsys):
    def fail(*_, **__):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(evidence, "gather", fail)
    out = runs / "unlucky"
    assert cli.main(["train", *WORDS, "--method", "supervised", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "no report.html: no such luck; the run is complete" in shown.err
    assert f"run folder: {out}" in shown.out
    assert (out / "metrics.json").exists()
    assert not (out / "report.html").exists()
    shutil.rmtree(out)


def test_without_its_data_a_run_has_a_page_without_faces(runs, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(runs / "base", moved)
    (moved / "model" / "config.json").unlink()
    assert cli.main(["report", str(moved)]) == 0
    outline = check_page((moved / "report.html").read_text())
    assert "Model or data are not at hand" in outline.words
    assert "a report without faces" in capsys.readouterr().err


def test_a_supervised_run_is_found_only_with_the_same_data_and_labels(runs, tmp_path):
    run = evidence.read_run(runs / "leaf")
    assert evidence.find_supervised(run).name == "base"
    assert evidence.find_supervised(evidence.read_run(runs / "base")) is None
    for name, other in {"labels": "24", "split_seed": 1, "backbone": "resnet18"}.items():
        changed = RunFacts(run.path, {**run.config, name: other}, run.metrics, run.lines,
                           run.counts, run.measured_on)  # fmt: skip
        assert evidence.find_supervised(changed) is None


def test_the_command_for_a_supervised_run_makes_one_that_is_found(runs, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(runs / "leaf", alone)
    run = evidence.read_run(alone)
    assert evidence.find_supervised(run) is None
    first, second = evidence.supervised_command(run).splitlines()
    assert cli.main([*first.split()[1:], "--no-report", "--device", "cpu"]) == 0
    assert evidence.find_supervised(run).name == "alone-supervised"
    assert second == f"leaf report {alone} --beside {alone}-supervised"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "nothing: not a run folder"),
        (["{leaf}", "--faces", "x"], "--faces x: expected a whole number from 0 to 120"),
        (["{leaf}", "--beside", "nothing"], "nothing: not a run folder"),
        (["{leaf}", "{base}", "--beside", "{base}"], "expected one run, got 2"),
        (["{leaf}", "--device", "abacus"], "--device abacus"),
    ],
)
def test_mistakes_are_told_in_a_line(runs, words, told, capsys):
    words = [word.format(leaf=runs / "leaf", base=runs / "base") for word in words]
    assert cli.main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_an_unfinished_run_is_told(tiny_config, tmp_path):
    (tmp_path / "config.yaml").write_text(tiny_config)
    with pytest.raises(UserError, match="the run is not finished; go on with: leaf train --resume"):
        reports.write(tmp_path)


@pytest.fixture
def tiny_config():
    from leaf_fer.config import configure

    return write_yaml(configure({"data": "synthetic"}))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def files(runs):
    """A page of a run and one of two."""
    both = runs / "compared.html"
    words = ["report", str(runs / "leaf"), str(runs / "base"), "--out", str(both)]
    assert cli.main(words) == 0
    return [runs / "leaf" / "report.html", both]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
class TestBrowser:
    @pytest.mark.parametrize("dark", [False, True])
    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    def test_nothing_is_wider_than_the_screen(self, browser, files, width, dark):
        for file in files:
            tab = browser.open(file.as_uri(), LOADED, width=width, height=844, dark=dark)
            assert tab.js("document.documentElement.scrollWidth <= innerWidth")
            ground = tab.js("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(16, 21, 19)" if dark else "rgb(243, 245, 244)")
            assert tab.problems == []

    def test_the_tables_of_a_run_fit_a_phone(self, browser, files):
        tab = browser.open(files[0].as_uri(), LOADED, width=390, height=844)
        wide = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)"
        assert tab.js(f"{wide}.map(e => e.getAttribute('aria-label'))") == []
        assert tab.js("[...document.images].every(image => image.naturalWidth > 0)")
