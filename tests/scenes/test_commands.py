"""leaf faces, leaf predict and leaf live on real photos, and on a video written from one."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import leaf_fer
from leaf_fer.cli import main
from leaf_fer.data.decode import decode
from leaf_fer.faces.film import Film
from leaf_fer.faces.footage import frames
from leaf_fer.recipe import Recipe, read
from leaf_fer.recipe import write as write_recipe
from leaf_fer.scenes import choice, command

from .conftest import CLASSES, Bright, made, shot

pytest.importorskip("cv2")
pytest.importorskip("av")


@pytest.fixture(scope="module")
def world(tmp_path_factory, hopper):
    """Photos in class folders, one without a face, one that is none, and a video."""
    top = tmp_path_factory.mktemp("world")
    (top / "photos" / "glad").mkdir(parents=True)
    shutil.copy(hopper, top / "photos" / "glad" / "hopper.jpg")
    Image.new("RGB", (80, 60), (110, 90, 70)).save(top / "photos" / "plain.png")
    (top / "photos" / "bad.jpg").write_bytes(b"no image")
    shot(top / "clip.mp4", hopper)
    return top


@pytest.fixture(scope="module")
def crops(world, found_by):
    """What ``leaf faces`` makes of the photo and the video."""
    out = world / "crops"
    words = [str(world / "photos" / "glad"), str(world / "clip.mp4"), "--out", str(out)]
    assert main(["faces", *words, "--every", "0.2s", "--margin", "0.1", *found_by]) == 0
    return out


def run(*words, capsys):
    capsys.readouterr()
    status = main(list(map(str, words)))
    return status, *capsys.readouterr()


class TestFaces:
    def test_every_face_is_a_file_and_a_row(self, crops, world):
        with (crops / "faces.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = [
            "hopper-0.png",
            "clip-f000000-t0.png",
            "clip-f000005-t0.png",
            "clip-f000010-t0.png",
        ]
        assert [row["path"] for row in rows] == names
        assert sorted(path.name for path in crops.glob("*.png")) == sorted(names)
        assert [row["seconds"] for row in rows] == ["", "0.0", "0.2", "0.4"]
        assert rows[0]["file"] == str(world / "photos" / "glad" / "hopper.jpg")
        left, top, right, bottom = (float(rows[0][n]) for n in ("left", "top", "right", "bottom"))
        assert left < 235 < 290 < right
        assert top < 190 < 270 < bottom
        assert all(decode(crops / name).shape == (112, 112, 3) for name in names)

    def test_the_recipe_lies_beside_the_crops(self, crops, found_by):
        assert read(crops) == Recipe("points", 0.1, 112, found_by[1])

    def test_folders_are_classes_still_and_bad_files_are_named(
        self, world, found_by, tmp_path, capsys
    ):
        words = ["faces", world / "photos", "--out", tmp_path / "out", "--format", "jsonl"]
        status, _, said = run(*words, *found_by, capsys=capsys)
        assert status == 1
        assert f"leaf: {world / 'photos' / 'bad.jpg'}: is neither a picture nor a whole vid" in said
        assert f"leaf: {world / 'photos' / 'plain.png'}: no face found" in said
        assert "1 faces of 3 files" in said
        assert (tmp_path / "out" / "glad" / "hopper-0.png").is_file()
        (line,) = (tmp_path / "out" / "faces.jsonl").read_text().splitlines()
        assert json.loads(line)["path"] == "glad/hopper-0.png"

    def test_crops_are_a_data_set(self, crops):
        from leaf_fer.data.aligned import recipe_of
        from leaf_fer.data.sources import read_faces

        table = read_faces(str(crops))
        assert len(table) == 4
        assert recipe_of(table) == read(crops)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--margin", "2"], "--margin 2: expected a number in [0, 1]"),
            (["--size", "0"], "--size 0: expected a whole number >= 1"),
            (["--size", "9999"], "--size 9999: expected at most 4096 pixels"),
            (["--every", "x"], "--every x: expected a number of frames, or seconds"),
            (["--detector-weights", "no.onnx"], "no.onnx: cannot be read"),
        ],
    )
    def test_mistakes_are_one_line(self, world, tmp_path, capsys, words, message):
        status, _, said = run(
            "faces", world / "photos", "--out", tmp_path / "out", *words, capsys=capsys
        )
        assert (status, said.count("\n")) == (2, 1)
        assert message in said
        assert not (tmp_path / "out").exists()

    def test_a_folder_that_holds_something_is_refused(self, crops, world, capsys):
        status, _, said = run("faces", world / "photos", "--out", crops, capsys=capsys)
        assert status == 2
        assert "expected a new or empty folder" in said

    def test_no_face_at_all_is_a_failure(self, world, found_by, tmp_path, capsys):
        words = ["faces", world / "photos" / "plain.png", "--out", tmp_path / "out", *found_by]
        assert run(*words, capsys=capsys)[0] == 1

    def test_finding_faces_does_not_wait_for_torch(self, world, found_by, tmp_path):
        words = ["faces", str(world / "photos" / "plain.png"), "--out", str(tmp_path / "out")]
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "leaf_fer", *words, *found_by],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "no face found" in done.stderr
        assert " torch\n" not in done.stderr


@pytest.fixture(scope="module")
def trained(world, crops, found_by):
    """A run on the crops, in class folders of which only the uppermost says the recipe."""
    data = world / "data"
    for number, name in enumerate(("calm", "glad")):
        (data / name).mkdir(parents=True)
        for path in sorted(crops.glob("*.png"))[number::2]:
            shutil.copy(path, data / name)
    shutil.copy(crops / "alignment.json", data)
    options = {"method": "supervised", "backbone": "conv4", "image_size": 48, "steps": 2}
    more = {"batch_size": 2, "device": "cpu", "workers": 1, "cache": str(world / "cache")}
    leaf_fer.train(data, out=world / "run", **options, **more)
    return world / "run"


class TestRecipe:
    def test_a_model_knows_how_its_faces_were_cut(self, trained, crops):
        assert leaf_fer.load(trained).card.alignment == read(crops)

    def test_photos_are_cut_as_the_model_has_learned(
        self, trained, crops, hopper, found_by, capsys
    ):
        words = ["predict", trained, hopper, "--format", "json", *found_by, "--device", "cpu"]
        status, printed, said = run(*words, capsys=capsys)
        assert (status, said) == (0, "")
        (photo,) = json.loads(printed)
        words = ["predict", trained, crops / "hopper-0.png", "--format", "json", "--device", "cpu"]
        status, printed, said = run(*words, capsys=capsys)
        assert (status, said) == (0, "")
        (crop,) = json.loads(printed)
        for name, score in crop["scores"].items():
            assert photo["scores"][name] == pytest.approx(score, abs=1e-5)

    @pytest.mark.parametrize("words", [["--margin", "0.3"], ["--align", "box"]])
    def test_another_way_is_warned_of(self, trained, hopper, found_by, capsys, words):
        status, _, said = run("predict", trained, hopper, *found_by, *words, capsys=capsys)
        assert status == 0
        assert "leaf: warning: --detector " in said
        assert f"has learned from faces cut by points of {found_by[1]}, margin 0.1" in said

    def test_another_detector_is_warned_of(self, model, capsys, monkeypatch):
        monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
        learned = Recipe(detector="centerface")
        _, recipe = choice.settle(choice.Wish("yunet"), learned)
        assert recipe.detector == "yunet"
        assert "faces cut by points of yunet, margin 0; the model" in capsys.readouterr().err

    def test_a_model_that_knows_no_recipe_says_what_is_taken(self, model, hopper, found_by, capsys):
        _, _, said = run("predict", model, hopper, *found_by, capsys=capsys)
        assert "the model does not say how the faces were cut" in said
        assert f"taking points of {found_by[1]}, margin 0 (" in said

    def test_photos_taken_whole_are_warned_of(self, trained, hopper, capsys):
        status, _, said = run("predict", trained, hopper, capsys=capsys)
        assert status == 0
        assert "taken as they are; --detector auto finds faces" in said

    def test_crops_cut_otherwise_are_warned_of_in_evaluation(
        self, trained, world, tmp_path, capsys
    ):
        shutil.copytree(world / "data", tmp_path / "data")
        write_recipe(tmp_path / "data", Recipe("box"))
        words = ["evaluate", trained, tmp_path / "data", "--part", "train", "--cache", tmp_path]
        assert "faces cut by box, margin 0; the model" in run(*words, capsys=capsys)[2]
        words[2] = world / "data"
        assert "warning" not in run(*words, capsys=capsys)[2]

    def test_an_exported_model_knows_it_too(self, trained, tmp_path, hopper):
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
        assert main(["export", str(trained), "--out", str(tmp_path / "m.onnx")]) == 0
        alignment = leaf_fer.load(tmp_path / "m.onnx").card.alignment
        assert alignment == leaf_fer.load(trained).card.alignment


class TestPredict:
    @pytest.mark.parametrize("style", ["table", "json", "jsonl", "csv"])
    def test_a_row_for_every_face_and_every_loss(self, model, world, found_by, capsys, style):
        words = ["predict", model, world / "photos", world / "clip.mp4", "--every", "6"]
        status, printed, said = run(*words, "--format", style, *found_by, capsys=capsys)
        assert status == 1
        assert "bad.jpg: is neither a picture nor a whole video" in said
        assert "plain.png: no face found" in said
        if style == "json":
            rows = json.loads(printed)
        elif style == "jsonl":
            rows = [json.loads(line) for line in printed.splitlines()]
        else:
            assert len(printed.splitlines()) == 4 + (style == "csv")
            assert printed.count("clip.mp4") == 2
            return
        assert [row["error"] is None for row in rows] == [False, True, True, True]
        assert [row["frame"] for row in rows] == [None, None, 0, 6]
        assert [row["track"] for row in rows] == [None, None, 0, 0]
        assert all(sum(row["scores"].values()) == pytest.approx(1, abs=1e-5) for row in rows[1:])

    def test_pictures_and_videos_are_drawn(self, model, world, found_by, tmp_path, capsys):
        words = ["predict", model, world / "photos", world / "clip.mp4", *found_by]
        out = tmp_path / "drawn"
        assert run(*words, "--annotate", out, capsys=capsys)[0] == 1
        drawn = decode(out / "glad" / "hopper.jpg").astype(int)
        before = decode(world / "photos" / "glad" / "hopper.jpg")
        changed = np.abs(drawn - before).max(axis=2) > 60
        columns = np.flatnonzero(changed.any(axis=0))
        assert drawn.shape == before.shape
        assert 0.005 < changed.mean() < 0.1
        assert columns.min() < 190 < 340 < columns.max()
        assert (out / "plain.jpg").is_file()
        film = list(frames(out / "clip.mp4"))
        assert [frame.seconds for frame in film] == pytest.approx(np.arange(12) / 25, abs=1e-3)
        assert film[0].image.shape == (360, 480, 3)
        assert not list(out.glob(".*"))

    def test_annotate_alone_finds_faces(self, model, world, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
        words = ["predict", model, world / "photos" / "plain.png", "--annotate", tmp_path / "out"]
        assert "no face found" in run(*words, capsys=capsys)[2]

    def test_what_is_left_of_a_damaged_video_counts(self, model, world, found_by, tmp_path, capsys):
        with Film(tmp_path / "long.mp4") as film:
            image = decode(world / "photos" / "glad" / "hopper.jpg")[40:400, 60:420]
            rng = np.random.default_rng(0)
            for number in range(60):  # noise, so that every picture takes some of the file
                image[-40:] = rng.integers(0, 256, (40, 360, 3))
                film.add(image, number / 25)
        whole = (tmp_path / "long.mp4").read_bytes()
        (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
        words = ["predict", model, tmp_path / "cut.mp4", "--annotate", tmp_path / "out"]
        rows = tmp_path / "rows.csv"
        status, _, said = run(*words, "--out", rows, *found_by, capsys=capsys)
        assert status == 1
        assert "cut.mp4: is damaged or not whole" in said
        with rows.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert len(found) > 10
        assert [bool(row["error"]) for row in found] == [False] * (len(found) - 1) + [True]
        assert len(list(frames(tmp_path / "out" / "cut.mp4"))) >= len(found) - 1

    def test_parquet_goes_to_a_file(self, model, world, found_by, tmp_path, capsys):
        parquet = pytest.importorskip("pyarrow.parquet")
        out = tmp_path / "rows.parquet"
        words = ["predict", model, world / "clip.mp4", *found_by, "--out", out]
        status, printed, _ = run(*words, capsys=capsys)
        assert (status, printed) == (0, "")
        table = parquet.read_table(out)
        assert table.column("frame").to_pylist() == list(range(12))
        assert set(CLASSES) < set(table.column_names)

    def test_crops_go_to_a_file_too(self, model, crops, tmp_path, capsys):
        out = tmp_path / "rows.jsonl"
        assert run("predict", model, crops, "--out", out, capsys=capsys)[:2] == (0, "")
        assert len(out.read_text().splitlines()) == 4

    def test_smoothing_is_a_switch(self, model, world, found_by, capsys):
        def scores(*words):
            asked = ["predict", model, world / "clip.mp4", "--format", "json", *found_by, *words]
            rows = json.loads(run(*asked, capsys=capsys)[1])
            return np.array([list(row["scores"].values()) for row in rows])

        plain, smooth = scores("--smooth", "0"), scores("--smooth", "2")
        np.testing.assert_allclose(plain[0], smooth[0], atol=1e-5)
        assert np.abs(np.diff(smooth, axis=0)).max() < 0.5 * np.abs(np.diff(plain, axis=0)).max()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--margin", "0.1"], "--margin: expected --detector auto as well"),
            (["--detector", "none", "--annotate", "x"], "--annotate: expected --detector auto"),
            (["--detector", "auto", "--smooth", "x"], "--smooth x: expected seconds >= 0"),
            (["--format", "parquet"], "--format parquet: expected --out FILE.parquet"),
            (["--detector", "auto", "--out", "a.txt"], "--out a.txt: expected a name that ends"),
        ],
    )
    def test_mistakes_are_one_line(self, model, hopper, capsys, words, message):
        status, _, said = run("predict", model, hopper, *words, capsys=capsys)
        assert (status, said.count("\n")) == (2, 1)
        assert message in said

    def test_a_photo_is_never_replaced_by_its_picture(
        self, model, hopper, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
        shutil.copy(hopper, tmp_path / "a.jpg")
        words = ["predict", model, tmp_path / "a.jpg", "--annotate", tmp_path]
        status, _, said = run(*words, capsys=capsys)
        assert status == 2
        assert "would be replaced by its own picture; choose another folder" in said
        assert (tmp_path / "a.jpg").read_bytes() == hopper.read_bytes()

    def test_a_missing_package_is_named_with_its_option(self, model, hopper, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "cv2", None)
        status, _, said = run("predict", model, hopper, "--detector", "yunet", capsys=capsys)
        assert status == 2
        assert "pip install 'leaf-fer[faces]'" in said

    def test_candidates_of_faces_are_named(self, tmp_path, hopper, found_by, capsys):
        from leaf_fer.conformal import Calibration
        from leaf_fer.predict import write_calibration

        folder = made(tmp_path / "model")
        rng = np.random.default_rng(0)
        scores = rng.dirichlet([1, 1, 1], 300).astype(np.float32)
        write_calibration(folder, Calibration.of(scores, rng.integers(0, 3, 300), "noise"))
        words = ["predict", folder, hopper, "--coverage", "0.9", "--abstain", "--format", "json"]
        status, printed, _ = run(*words, *found_by, capsys=capsys)
        (row,) = json.loads(printed)
        assert status == 0
        assert len(row["candidates"]) > 1
        assert row["label"] is None


def peak():
    """MiB that this process had at most since its peak was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def test_memory_does_not_grow_with_the_length_of_a_video(model, tmp_path, monkeypatch, capsys):
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("needs a Linux that forgets the peak of memory")
    monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
    peaks = []
    for count in (40, 400):  # 0.9 MiB a picture
        image = np.full((480, 640, 3), 110, np.uint8)
        image[100:200, 100:200] = 255
        with Film(tmp_path / "video.mp4") as film:
            for number in range(count):
                film.add(np.roll(image, number % 100, axis=1), number / 25)
        Path("/proc/self/clear_refs").write_text("5")
        words = ["predict", model, tmp_path / "video.mp4", "--annotate", tmp_path / str(count)]
        assert run(*words, "--out", tmp_path / "rows.csv", capsys=capsys)[0] == 0
        peaks.append(peak())
        assert (tmp_path / "rows.csv").read_text().count("\n") == count + 1
    assert peaks[1] - peaks[0] < 60, peaks


class TestLive:
    def test_rows_come_from_a_camera(self, model, world, found_by, capsys):
        words = ["live", model, "--camera", world / "clip.mp4", "--no-window", "--format", "jsonl"]
        status, printed, _ = run(*words, "--frames", "3", *found_by, capsys=capsys)
        rows = [json.loads(line) for line in printed.splitlines()]
        assert status == 0
        assert [row["frame"] for row in rows] == [0, 1, 2]
        assert [row["track"] for row in rows] == [0, 0, 0]

    def test_a_video_ends(self, model, world, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
        out = tmp_path / "rows.csv"
        words = ["live", model, "--camera", world / "clip.mp4", "--no-window", "--out", out]
        assert run(*words, capsys=capsys)[:2] == (0, "")
        assert out.is_file()

    def test_ctrl_c_keeps_what_was_written(self, model, world, monkeypatch, tmp_path, capsys):
        class Stopped(Bright):
            def __init__(self):
                self.left = 3

            def detect(self, image):
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                return super().detect(np.full((50, 50, 3), 255, np.uint8))

        monkeypatch.setattr(choice, "find_detector", lambda *_: Stopped())
        out = tmp_path / "rows.json"
        words = ["live", model, "--camera", world / "clip.mp4", "--no-window", "--out", out]
        assert run(*words, capsys=capsys)[0] == 0
        assert len(json.loads(out.read_text())) == 3

    def test_pictures_are_shown_until_the_window_is_closed(
        self, model, world, monkeypatch, found_by, capsys
    ):
        from leaf_fer.scenes import window

        shown = []

        class Window:
            def __init__(self, title):
                pass

            def show(self, image):
                shown.append(image)
                return len(shown) < 4

            def __enter__(self):
                return self

            def __exit__(self, *_):
                shown.append("closed")

        monkeypatch.setattr(window, "Window", Window)
        words = ["live", model, "--camera", world / "clip.mp4", *found_by]
        status, printed, _ = run(*words, capsys=capsys)
        assert (status, printed) == (0, "")
        assert [one if isinstance(one, str) else one.shape for one in shown] == [
            *[(360, 480, 3)] * 4,
            "closed",
        ]
        first = next(frames(world / "clip.mp4")).image
        assert (np.abs(shown[0].astype(int) - first).max(axis=2) > 60).mean() > 0.005

    def test_without_a_screen_the_other_way_is_told(self, model, world, monkeypatch, capsys):
        pytest.importorskip("tkinter")
        if sys.platform != "linux":
            pytest.skip("other systems always have a screen")
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.setattr(choice, "find_detector", lambda *_: Bright())
        status, _, said = run("live", model, "--camera", world / "clip.mp4", capsys=capsys)
        assert status == 2
        assert "--no-window prints rows instead" in said

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--camera", "nowhere.mp4"], "--camera nowhere.mp4: expected a number, or the file"),
            (["--frames", "0"], "--frames 0: expected a whole number >= 1"),
            (["--abstain"], "--abstain: expected --coverage as well"),
        ],
    )
    def test_mistakes_are_one_line(self, model, capsys, words, message):
        status, _, said = run("live", model, *words, capsys=capsys)
        assert (status, said.count("\n")) == (2, 1)
        assert message in said


def test_reports_forget_files_that_are_done():
    from leaf_fer.faces.footage import Loss

    report = command._Report()
    for number in range(5):
        report.add(Loss(Path(str(number)), "is empty"))
    assert (report.files, report.lost, len(report._seen)) == (5, 5, 0)


def test_the_benchmark_measures_memory(found_by, tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "footage.py"
    words = ["--minutes", "0.02", "--size", "160", "120", "--json", str(tmp_path / "r.json")]
    if found_by[1] == "yunet":
        words += ["--weights", found_by[-1]]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r.json").read_text())["0.02 minutes"]
    assert found["faces"] == found["pictures"] == 30
    assert found["peak_mib"] > 100
    assert done.stdout.startswith("0.02 minutes: ")
