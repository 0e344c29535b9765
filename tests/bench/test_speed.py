import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import torch
from PIL import Image

from leaf_fer.bench import figures, pillow, speed, steps, usb
from leaf_fer.bench.contestant import Times, contestant
from leaf_fer.cli import main
from leaf_fer.data import augment
from leaf_fer.errors import UserError
from leaf_fer.parser import build_parser
from leaf_fer.types import Batch, Labeled, Unlabeled

PEER = """
import json, pathlib, sys
log = pathlib.Path(__file__).with_suffix(".log").open("w", buffering=1)
print(sys.stdin.readline(), end="", file=log)
found = {"first": 3, "second": 2, "memory": 2**20, "precision": "float32"}
print(json.dumps({**found, "versions": {"semilearn": "0.3"}}), flush=True)
for line in sys.stdin:
    print(line, end="", file=log)
    print(1000, flush=True)
"""
SPEED = ("bench", "speed", "--size", "32:4", "--steps", "2", "--backbone", "test_resnet")
MACHINE = ("--device", "cpu", "--precision", "float32", "--threads", "1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What is printed, what is written, and what a peer is asked for, by two methods and a peer."""
    folder = tmp_path_factory.mktemp("speed")
    peer, written, printed = folder / "peer.py", folder / "speed.json", io.StringIO()
    peer.write_text(PEER)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(speed, "DATA", {"data": "synthetic:40", "labels": 8})
        patch.setattr(speed, "SCRIPT", peer)
        patch.setenv("LEAF_CACHE", str(folder))
        words = [*SPEED, *MACHINE, "--method", "leaf", "fixmatch", "--peer-python", sys.executable]
        assert main([*words, "--json", str(written)]) == 0
    return printed.getvalue(), json.loads(written.read_text()), peer.with_suffix(".log").read_text()


def test_every_contestant_has_a_row_and_the_peer_the_last(measured):
    _, facts, _ = measured
    assert [row["name"] for row in facts["rows"]] == ["leaf", "fixmatch", "semilearn"]
    assert {(row["size"], row["batch"]) for row in facts["rows"]} == {(32, 4)}


def test_a_row_says_what_a_step_takes(measured):
    _, facts, _ = measured
    for row in facts["rows"][:2]:
        times = [row[f"{work}_ms"] for work in ("data", "step", "computing", "first_step")]
        assert all(0 < milliseconds < 100_000 for milliseconds in times)
        assert all(len(found) == 2 for found in row["rounds_ms"].values())
        assert row["memory_mib"] > 50
        assert row["precision"] == "float32"
        assert "compiling_ms" not in row


def test_ratios_are_to_the_first_method_and_of_the_peer(measured):
    leaf, fixmatch, peer = measured[1]["rows"]
    assert leaf["step_over_first"] == 1
    assert fixmatch["step_over_first"] != 1
    assert peer["step_ms"] == peer["computing_ms"] == 1e6  # it says: a thousand seconds
    for row in (leaf, fixmatch):
        ratios = [1e6 / found for found in row["rounds_ms"]["step"]]
        assert row["peer_step_over_step"] == pytest.approx(sum(ratios) / 2)
        assert min(ratios) <= row["peer_step_over_step"] <= max(ratios)
    assert "peer_step_over_step" not in peer


def test_views_are_compared_with_pillow_and_with_the_peer(measured):
    (row,) = measured[1]["views"]
    assert row["pairs_per_second"] > 0
    assert row["pillow_pairs_per_second"] > 0
    assert row["over_pillow"] > 0
    assert row["peer_pairs_per_second"] == 4 / 1000
    assert row["over_peer"] > 1


def test_the_file_says_how_and_where_it_was_measured(measured):
    facts = measured[1]
    assert facts["command"]["method"] == ["leaf", "fixmatch"]
    assert facts["command"]["steps"] == 2
    assert "median of 2" in facts["method"]
    assert facts["hardware"]["threads"] == 1
    assert facts["hardware"]["device"] == "cpu"
    assert facts["hardware"]["cpu"]
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["versions"]["semilearn"] == {"semilearn": "0.3"}
    assert facts["settings"][0]["fixmatch"]["backbone"] == "test_resnet"


def test_both_tables_are_printed_under_how_it_was_measured(measured):
    printed, facts, _ = measured
    lines = printed.splitlines()
    assert lines[0] == facts["method"]
    views = next(line for line in lines if "leaf / Pillow" in line)
    steps = next(line for line in lines if "step / computing" in line)
    assert "leaf / semilearn" in views
    assert "step / leaf's  semilearn's / step  semilearn's / computing" in steps
    assert "compiling" not in steps  # nothing was
    assert [line.split()[2] for line in lines[-3:]] == ["leaf", "fixmatch", "semilearn"]


def test_the_peer_gets_the_same_images_and_works_in_turns(measured):
    first, *works = measured[2].splitlines()
    asked = json.loads(first)
    assert asked["images"].endswith("images.npy")
    assert (asked["batch_size"], asked["image_size"], asked["workers"]) == (4, 32, 0)
    assert (len(asked["labeled"]), len(asked["targets"])) == (8, 8)
    assert not set(asked["labeled"]) & set(asked["unlabeled"])
    forth = ["data", "step", "computing", "pairs"]
    assert works == forth + forth[::-1]


class Recording:
    """A contestant that only writes down when it is its turn."""

    def __init__(self, name, log, seconds):
        self.name, self.log, self.answers = name, log, iter(seconds)

    def seconds(self, work):
        self.log.append(self.name + work)
        return next(self.answers)


def test_turns_go_forth_and_back():
    log = []
    contestants = {name: Recording(name, log, [1.0] * 9) for name in "ab"}
    Times(contestants, [("a", "1"), ("b", "1"), ("a", "2")], 3)
    assert log == ["a1", "b1", "a2", "a2", "b1", "a1", "a1", "b1", "a2"]


def timed(**seconds):
    """Times of contestants with one piece of work, a step."""
    contestants = {name: Recording(name, [], values) for name, values in seconds.items()}
    return Times(contestants, [(name, "step") for name in seconds], 3)


def test_a_ratio_is_taken_within_a_round():
    times = timed(a=[1.0, 2.0, 9.0], b=[6.0, 2.0, 9.0])
    assert times.median(("a", "step")) == 2
    assert times.ratio(("b", "step"), ("a", "step")) == 1


def test_compiling_is_what_the_first_steps_take_longer():
    works = dict.fromkeys(figures.WORK)
    times = timed(a=[1.0, 1.0, 1.0])
    times.seconds |= {("a", work): [1.0] for work in works}
    found = {"first": 30, "second": 5, "memory": None, "precision": "float32", "compiled": True}
    row = figures.steps_row("a", "a", times, found)
    assert row["compiling_ms"] == 33_000
    assert row["memory_mib"] is None


def test_help_and_mistakes_do_not_wait_for_torch():
    for words in (["--help"], ["--method", "leav"]):
        code = "import sys, leaf_fer.cli as cli\ntry: cli.main(sys.argv[1:])\n"
        code += "except SystemExit: pass\nassert 'leaf_fer.bench' in sys.modules\n"
        code += "assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code, "bench", "speed", *words], check=True)


def command(*words):
    return build_parser(words).parse_args(["bench", "speed", *words])


def test_switches_turn_single_settings_round():
    words = command("--method", "leaf", "fixmatch", "--compile", "--switch", "fused", "compile")
    plan = speed.variants(words, 48, 16)
    assert list(plan) == [
        "leaf",
        "leaf, fused off",
        "leaf, compile off",
        "fixmatch",
        "fixmatch, fused off",
        "fixmatch, compile off",
    ]
    assert plan["leaf, fused off"] == {**plan["leaf"], "fused": False}
    assert plan["leaf"]["image_size"] == 48
    assert plan["leaf"]["batch_size"] == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0"], "--size: 0: expected a whole number >= 1"),
        (["--size", "48:x"], "--size: x: expected a whole number >= 1"),
        (["--steps", "0"], "--steps: 0: expected a whole number >= 1"),
        (["--peer-workers", "-1"], "--peer-workers: "),
        (["--switch", "warp"], "--switch: invalid choice: 'warp'"),
        (["--method", "leav"], "--method leav: unknown method"),
        (["--precision", "int8"], "--precision int8: expected one of auto, float32"),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: expected a file in a folder"),
        (["--peer-python", "nowhere"], "--peer-python nowhere: expected a Python interpreter"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, capsys):
    try:
        status = main(["bench", "speed", *words])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_peer_that_dies_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    script = tmp_path / "peer.py"
    script.write_text("raise ModuleNotFoundError('no semilearn here')\n")
    monkeypatch.setattr(speed, "DATA", {"data": "synthetic:40", "labels": 8})
    monkeypatch.setattr(speed, "SCRIPT", script)
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path))
    assert main([*SPEED, *MACHINE, "--peer-python", sys.executable]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"leaf: error: --peer-python {sys.executable}: ModuleNotFoundError: no semilearn here"
    )


def script(code):
    return [sys.executable, "-c", f"import sys, os\n{code}"]


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("print('noise', file=sys.stderr)\nsys.exit('out of luck')", "out of luck"),
        ("os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_a_contestant_that_dies_at_work_says_why(ending, words):
    code = f"sys.stdin.readline()\nprint(dict(), flush=True)\nsys.stdin.readline()\n{ending}"
    with (
        pytest.raises(UserError, match=f"--peer-python x: .*{words}"),
        contestant("--peer-python x", script(code), {}) as one,
    ):
        one.seconds("step")


def test_a_program_that_cannot_be_started_is_told():
    with (
        pytest.raises(UserError, match=r"--peer-python no: cannot be started: No such file"),
        contestant("--peer-python no", ["./no"], {}),
    ):
        pass


def test_whatever_a_contestant_has_started_ends_with_it():
    code = "if not os.fork(): os.read(0, 0) or __import__('time').sleep(600)\n"
    code += "sys.stdin.readline()\nprint('{}', flush=True)\nsys.stdin.readline()"
    with contestant("x", script(code), {}) as one:
        group = one._process.pid
    for _ in range(1000):  # an orphan is gone once its new parent has noticed
        if not alive(group):
            return
        signal.sigtimedwait([], 0.01)
    pytest.fail("something is left")


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def changed(process, flag):
    """Whether a child is stopped or goes on, as the flag asks, before long."""
    for _ in range(500):
        if os.waitpid(process.pid, flag | os.WNOHANG) != (0, 0):
            return True
        signal.sigtimedwait([], 0.01)
    return False


def test_processes_that_load_images_rest_while_other_work_is_timed(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as loader:
        monkeypatch.setattr(usb.multiprocessing, "active_children", lambda: [loader])
        seen = []
        work = {"step": lambda: seen.append(changed(loader, os.WCONTINUED)), "computing": list}
        work = usb.awake_only_in(("step",), work)
        os.kill(loader.pid, signal.SIGSTOP)
        assert changed(loader, os.WUNTRACED)
        work["computing"]()
        rested = os.waitpid(loader.pid, os.WCONTINUED | os.WNOHANG) == (0, 0)
        work["step"]()
        stopped = changed(loader, os.WUNTRACED)
        loader.kill()
    assert rested
    assert seen == [True]
    assert stopped


def test_the_usual_views_have_the_same_pixels_for_the_same_draws():
    count, size = 40, 23
    images = torch.randint(256, (count, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    views = augment.strong(images, torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(0)  # in the order of augment.strong
    operation = torch.randint(len(pillow.OPERATIONS), (count, 3), generator=draw).tolist()
    level = torch.rand(count, 3, generator=draw, dtype=torch.float64).tolist()
    square = torch.rand(count, 3, generator=draw, dtype=torch.float64)
    square[:, 0] *= augment.LARGEST_CUTOUT
    crops = augment._draw_crops(count, size, None, draw).tolist()
    for row, view in enumerate(views):
        image = Image.fromarray(images[row].permute(1, 2, 0).numpy())
        steps = list(zip(operation[row], level[row], strict=True))[::-1]
        usual = pillow.strong(image, steps, square[row].tolist(), crops[row])
        assert pillow.to.pil_to_tensor(usual).equal(view), row


def test_computing_is_timed_on_random_numbers_in_the_places_of_the_images():
    image = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    rows = torch.arange(2)
    batch = Batch(Labeled(rows, rows, weak=(image,)), Unlabeled(rows, (image,), (image, image)))
    made = steps.noise(batch)
    assert (len(made.unlabeled.weak), len(made.unlabeled.strong)) == (1, 2)
    assert made.labeled.target is rows
    for view in (*made.labeled.weak, *made.unlabeled.weak, *made.unlabeled.strong):
        assert view.stride() == image.stride()
        assert 0.5 < view.std() < 1.5
