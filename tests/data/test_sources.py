import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from leaf_fer.data import synthetic
from leaf_fer.data.sources import READERS, read_faces
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.errors import UserError


@pytest.fixture
def faces(tmp_path):
    (tmp_path / "photos/happy").mkdir(parents=True)
    (tmp_path / "photos/happy/a.jpg").touch()
    (tmp_path / "faces.csv").write_text("path,label\nb.jpg,happy\n")
    return tmp_path


@pytest.mark.parametrize("spec", ["folder:{}/photos", "{}/photos"])
def test_a_folder_is_read_with_and_without_its_kind(faces, spec):
    assert read_faces(spec.format(faces)).names == ["happy/a.jpg"]


@pytest.mark.parametrize("spec", ["csv:{}/faces.csv", "{}/faces.csv"])
def test_a_table_is_read_with_and_without_its_kind(faces, spec):
    assert read_faces(spec.format(faces)).names == ["b.jpg"]


def test_the_path_may_hold_a_colon(faces):
    (faces / "photos").rename(faces / "a:b")
    assert read_faces(f"folder:{faces}/a:b").names == ["happy/a.jpg"]


def test_a_tilde_is_the_home_folder(faces, monkeypatch):
    monkeypatch.setenv("HOME", str(faces))
    assert read_faces("folder:~/photos").names == ["happy/a.jpg"]


@pytest.mark.parametrize("kind", READERS)
def test_a_path_with_nothing_there_is_told_for_every_kind(kind, tmp_path):
    with pytest.raises(UserError, match=rf"^{kind}:.*missing: expected .*, found nothing there"):
        read_faces(f"{kind}:{tmp_path}/missing")


@pytest.mark.parametrize("kind", READERS)
def test_a_kind_without_a_path_is_told(kind):
    with pytest.raises(UserError, match=f"data '{kind}:?' needs a path: expected {kind}:PATH"):
        read_faces(kind)


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(UserError) as caught:
        read_faces("rafbd:/data")
    message = str(caught.value)
    assert message.startswith("data 'rafbd:/data' is unknown: expected")
    assert all(f"{kind}:PATH" in message for kind in READERS)
    assert "synthetic[:N]" in message
    assert "\n" not in message


def test_an_empty_name_is_unknown():
    with pytest.raises(UserError, match="data '' is unknown: expected synthetic"):
        read_faces("")


def test_a_file_that_is_no_table_is_refused(faces):
    with pytest.raises(UserError, match="is neither a folder nor a table"):
        read_faces(str(faces / "photos/happy/a.jpg"))


@pytest.mark.parametrize("spec", ["synthetic:", "synthetic:0", "synthetic:-1", "synthetic:many"])
def test_a_bad_number_of_synthetic_faces_is_refused(spec):
    with pytest.raises(UserError, match=f"data '{spec}': expected 1 to 1000000 training images"):
        read_faces(spec)


@pytest.mark.parametrize(("spec", "count"), [("synthetic", 4000), ("synthetic:100", 100)])
def test_synthetic_has_three_parts(spec, count):
    table = read_faces(spec)
    sizes = [table.rows(part).size for part in ("train", "validation", "test")]
    assert sizes == [count, 800, 1600]


def test_synthetic_shows_every_expression_in_every_part():
    table = read_faces("synthetic")
    assert table.classes == EXPRESSIONS
    for part in ("train", "validation", "test"):
        assert np.bincount(table.targets[table.rows(part)], minlength=8).min() > 0


def test_synthetic_test_faces_are_the_same_for_every_number_of_training_faces():
    small, large = read_faces("synthetic:10"), read_faces("synthetic:500")
    rows = small.rows("test")
    np.testing.assert_array_equal(rows, large.rows("test"))
    np.testing.assert_array_equal(small.render(rows[:2], 32), large.render(rows[:2], 32))


def test_synthetic_faces_are_drawn_as_bytes():
    images = read_faces("synthetic:10").render(np.array([5, 2]), 48)
    assert images.shape == (2, 48, 48, 3)
    assert images.dtype == np.uint8


def test_synthetic_faces_do_not_depend_on_the_other_rows():
    table = read_faces("synthetic:10")
    both = table.render(np.array([5, 2]), 32)
    np.testing.assert_array_equal(table.render(np.array([2]), 32)[0], both[1])


def test_synthetic_names_are_made_when_they_are_asked_for():
    names = read_faces("synthetic:5").names
    assert (names[0], names[-1], names[np.int64(7)]) == (
        "face-0000000",
        "face-0002404",
        "face-0000007",
    )
    assert names[2:4] == ["face-0000002", "face-0000003"]
    assert list(names) == [names[row] for row in range(len(names))]
    with pytest.raises(IndexError):
        names[2405]


def test_rows_of_synthetic_faces_are_in_the_order_of_their_names():
    table = read_faces("synthetic:5")
    rows = np.array([2000, 3, 999])
    listed = replace(table, names=list(table.names))
    np.testing.assert_array_equal(table.by_name(rows), listed.by_name(rows))


def test_the_key_of_synthetic_faces_tells_their_number():
    assert read_faces("synthetic:0010").key == f"synthetic-{synthetic.VERSION}-seed0-10"


def test_data_of_files_has_no_key(faces):
    assert read_faces(str(faces / "photos")).key == ""


def test_reading_names_needs_no_torch():
    code = "import sys, leaf_fer.data.sources, leaf_fer.data.split; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert result.stdout.strip() == "False"
