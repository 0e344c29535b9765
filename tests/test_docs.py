"""Every command that README.md and docs/ show is run or understood, and the site is built.

Commands of a page run one after the other in one folder, as a reader would, with drawn faces in the
place of the data sets and with options behind them that make them small.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leaf_fer.cli import main
from leaf_fer.data import synthetic
from leaf_fer.labeling.journal import Journal
from leaf_fer.parser import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))]
NAMES = ("glad", "grim", "calm")

SMALL = [
    *("--image-size", "32", "--backbone", "conv4", "--batch-size", "16"),
    *("--steps", "2", "--epoch-steps", "1", "--unlabeled-ratio", "1"),
]
SMALLER = {
    ("train",): SMALL,
    ("pretrain",): SMALL[:-2],
    ("data",): ["--image-size", "32"],
    ("bench", "run"): ["--dry-run"],
}

ELSEWHERE = {
    r"^leaf bench speed": "times an idle machine: tests/bench/test_speed.py",
    r"^leaf bench plot": "wants trained runs: tests/bench/test_plot.py",
    r"^leaf label (?!.*--export)": "serves until it is stopped: tests/labeling",
    r"^leaf serve": "serves until it is stopped: tests/serving",
    r"^leaf (faces|live)|--detector|--annotate": "wants a detector's weights: tests/scenes",
    r"--devices": "starts processes of its own: tests/engine/test_processes.py",
    r"resnet18\.a1_in1k": "downloads weights: tests/models/test_starting_a_run.py",
    r"vggface2|faceres": "wants weights of others: tests/models/test_starting_a_run.py",
    r"bench run mine\.yaml|--engine ray": "a recipe of the reader's, a cluster: tests/bench",
    r"--watch-unlabeled": "2,000 drawn faces take too long: tests/engine/test_watch.py",
}
"""What is only understood, not run, and who runs it."""


def commands(page):
    """The lines of a page's shell blocks, without comments and the readers' blanks."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    bare = (re.sub(r"\s+#.*|\[.*?\]|\s\.\.\.(?= |$)", "", line).strip() for line in lines)
    return [re.sub(r" +", " ", line) for line in bare if line]


ALL = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize("line", sorted({line for _, line in ALL if "leaf " in line}))
def test_a_command_is_understood(line):
    words = shlex.split(line)
    words = words[words.index("leaf") + 1 :] if "leaf" in words else []
    if words:
        build_parser(words).parse_args(words)


@pytest.mark.parametrize("line", sorted({line for _, line in ALL if "leaf " not in line}))
def test_another_program_is_there(line):
    name, *rest = line.split()
    if name == "python":
        assert (ROOT / rest[0]).is_file()
    elif name == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif name == "pip":
        (extra,) = re.findall(r"leaf-fer\[(\w+)\]", line) or ["dev"]
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()
    else:
        assert name in ("ray", "curl")


def test_who_runs_it_elsewhere_exists():
    for pattern, reason in ELSEWHERE.items():
        assert any(re.search(pattern, line) for _, line in ALL), pattern
        for path in re.findall(r"tests/[\w/.]+", reason):
            assert (ROOT / path).exists(), path


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "cache"))
    faces = synthetic.render(0, np.arange(48), 32)
    for folder in ("my-faces", "folder-of-faces", "crops"):
        (tmp_path / folder).mkdir()
        for row, pixels in enumerate(faces):
            Image.fromarray(pixels).save(tmp_path / folder / f"{row:02}.png")
    for name in ("photo.png", "new.png"):
        Image.fromarray(faces[0]).save(tmp_path / name)
    lines = ["path,label,split"]
    for row in range(48):
        part = ("train", "train", "validation", "test")[row // 12]
        lines.append(f"my-faces/{row:02}.png,{NAMES[row % 3]},{part}")
    (tmp_path / "measured.csv").write_text("\n".join(lines))
    names = [f"{row:02}.png" for row in range(12)]
    for folder in ("my-faces", "crops"):
        journal = Journal(tmp_path / folder / ".leaf/labels.sqlite", NAMES)
        for row, number in enumerate(journal.numbers(names).values()):
            journal.answer("a" * 32, number, "label", NAMES[row % 3])
        journal.close()
    records = (ROOT / "results/settle.jsonl").read_text()
    records += records.replace('"labels": "400"', '"labels": "100"').replace("-400-", "-100-")
    for name in ("table1", "table2", "table3"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "records.jsonl").write_text(records)
    (tmp_path / "results/column.jsonl").symlink_to(ROOT / "results/column.jsonl")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_run_in_their_order(page, world, capsys):
    lines = commands(page)
    first = [line for line in lines if "runs/first" in line]
    if first and "leaf train" not in first[0]:  # a page for those who have a model
        lines.insert(0, "leaf train synthetic --labels 16 --out runs/first")
    for line in lines:
        if not line.startswith("leaf ") or any(re.search(one, line) for one in ELSEWHERE):
            continue
        assert main(small(line)) == 0, (line, capsys.readouterr().err)
        capsys.readouterr()


def small(line):
    """The words of a command, made small."""
    line = re.sub(r"(rafdb|ferplus|affectnet\d):PATH|synthetic(:\d+)?", "synthetic:160", line)
    line = re.sub(r"--labels \d\d+", "--labels 16", line.replace("=PATH", "=my-faces"))
    words = shlex.split(line)[1:]
    if "--resume" in words:
        return words
    for command, options in SMALLER.items():
        if tuple(words[: len(command)]) == command:
            return [*words, *options]
    return words


def test_the_site_is_built_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in PAGES[1:]:
        html = (tmp_path / Path(page).name).with_suffix(".html").read_text()
        for target in re.findall(r'(?:href|src)="([^"#:?]+)["#?]', html):
            assert (tmp_path / target).exists(), (page, target)
