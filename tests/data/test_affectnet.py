import csv

import numpy as np
import pytest

from leaf_fer.data.affectnet import COLUMNS, read
from leaf_fer.data.names import SEVEN
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.errors import UserError

OFFICIAL = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"]
HEADER = [*COLUMNS, "valence", "arousal"]
MARKS = np.arange(136, dtype=np.float64).reshape(68, 2)


def row(name, label, marks=MARKS):
    """One row of a list of the original layout."""
    points = ";".join(f"{value:.2f}" for value in np.asarray(marks).ravel())
    return [name, "10", "20", "100", "120", points, str(label), "-0.1", "0.3"]


def write_list(root, name, rows, header=True):
    file = root / "Manually_Annotated_file_lists" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows] if header else rows)
    image = root / "Manually_Annotated_Images" / rows[0][0]
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()


@pytest.fixture
def original(tmp_path):
    """The published original layout: every label once for training, two for validation."""
    write_list(tmp_path, "training.csv", [row(f"{n}/{n}.jpg", n) for n in range(11)])
    rows = [row("9/a.JPG", 7), row("9/b.png", 6)]
    write_list(tmp_path, "validation.csv", rows, header=False)
    return tmp_path


def write_set(root, name, labels):
    """One set of the later layout."""
    for folder in ("images", "annotations"):
        (root / name / folder).mkdir(parents=True)
    for index, label in enumerate(labels):
        (root / name / "images" / f"{index}.jpg").touch()
        np.save(root / name / "annotations" / f"{index}_exp.npy", label)
        np.save(root / name / "annotations" / f"{index}_val.npy", np.array("0.5"))


@pytest.fixture
def later(tmp_path):
    """The published later layout, with labels saved as texts and as numbers."""
    write_set(tmp_path, "train_set", [np.array(str(n)) for n in range(8)])
    write_set(tmp_path, "val_set", [np.array(7), np.array(6.0)])
    return tmp_path


def names(table, part):
    return [table.classes[target] for target in table.targets[table.rows(part)]]


def test_labels_of_the_original_lists_become_the_canonical_classes(original):
    table = read(original)
    assert names(table, "train") == OFFICIAL
    assert table.classes == EXPRESSIONS


def test_labels_of_the_later_files_become_the_canonical_classes(later):
    table = read(later)
    assert names(table, "train") == OFFICIAL
    assert table.classes == EXPRESSIONS


@pytest.mark.parametrize("layout", ["original", "later"])
def test_seven_classes_leave_contempt_out(layout, request):
    table = read(request.getfixturevalue(layout), SEVEN)
    assert names(table, "train") == OFFICIAL[:7]
    assert table.classes == SEVEN


@pytest.mark.parametrize("layout", ["original", "later"])
def test_the_validation_set_is_the_test(layout, request):
    table = read(request.getfixturevalue(layout))
    assert names(table, "test") == ["contempt", "anger"]
    assert table.rows("validation").size == 0


def test_names_of_the_original_layout_lead_to_the_photos(original):
    table = read(original)
    assert table.names[0] == "Manually_Annotated_Images/0/0.jpg"
    assert (table.root / table.names[0]).is_file()


def test_names_of_the_later_layout_lead_to_the_faces(later):
    table = read(later)
    assert all((table.root / name).is_file() for name in table.names)


def test_boxes_are_corners(original):
    np.testing.assert_array_equal(read(original).boxes[3], [10, 20, 110, 140])


def test_points_are_those_of_the_landmarks(original):
    expected = [[77, 78], [89, 90], [60, 61], [96, 97], [108, 109]]
    np.testing.assert_array_equal(read(original).points[3], expected)


def test_boxes_and_points_have_one_row_per_face(original):
    table = read(original)
    assert table.boxes.shape == (10, 4)
    assert table.points.shape == (10, 5, 2)


def test_the_later_layout_needs_no_cutting(later):
    table = read(later)
    assert table.boxes is None
    assert table.points is None


def test_columns_are_found_by_name(tmp_path):
    write_list(tmp_path, "validation.csv", [row("1/b.jpg", 1)])
    write_list(tmp_path, "training.csv", [row("1/a.jpg", 3)])
    file = tmp_path / "Manually_Annotated_file_lists/training.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER[::-1], row("1/a.jpg", 3)[::-1]])
    table = read(tmp_path)
    assert names(table, "train") == ["surprise"]
    np.testing.assert_array_equal(table.boxes[0], [10, 20, 110, 140])


def test_the_first_row_of_a_repeated_photo_counts(original):
    write_list(original, "training.csv", [row("1/a.jpg", 3), row("1/a.jpg", 4)])
    table = read(original)
    assert names(table, "train") == ["surprise"]
    assert len(table.boxes) == len(table)


def test_a_face_that_is_left_out_needs_no_landmarks(original):
    no_face = ["1/b.jpg", *["NULL"] * 5, "10", "-2", "-2"]
    write_list(original, "training.csv", [row("1/a.jpg", 3), no_face])
    assert names(read(original), "train") == ["surprise"]


@pytest.mark.parametrize("marks", [MARKS[:67], np.full((68, 2), np.nan)])
def test_a_row_without_its_landmarks_is_named(original, marks):
    write_list(original, "training.csv", [row("1/a.jpg", 3), row("1/b.jpg", 3, marks)])
    with pytest.raises(UserError, match=r"training\.csv, line 3: expected a box and 68 landmarks"):
        read(original)


@pytest.mark.parametrize("label", ["11", "-1", "1.5", "happy", "nan"])
def test_an_unknown_label_is_named(original, label):
    write_list(original, "training.csv", [row("1/a.jpg", label)])
    with pytest.raises(UserError, match=rf"line 2: expected a label of 0-10, got '{label}'"):
        read(original)


def test_an_image_without_a_label_file_is_unlabeled(later):
    (later / "train_set/images/99.png").touch()
    table = read(later)
    assert table.targets[table.names.index("train_set/images/99.png")] == -1


def test_a_label_without_an_image_stays_in_the_table(later):
    (later / "train_set/images/3.jpg").unlink()
    assert "train_set/images/3.jpg" in read(later).names


def test_pickled_labels_are_refused(later):
    file = later / "train_set/annotations/0_exp.npy"
    np.save(file, np.array({"label": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"0_exp\.npy: expected a \.npy file .* no pickled object"):
        read(later)


def test_a_file_of_another_format_is_refused(later):
    (later / "train_set/annotations/0_exp.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"0_exp\.npy: expected a \.npy file"):
        read(later)


def test_several_labels_in_one_file_are_refused(later):
    np.save(later / "train_set/annotations/0_exp.npy", np.arange(3))
    with pytest.raises(UserError, match=r"expected one label, got an array of shape \(3,\)"):
        read(later)


def test_a_wrong_folder_is_told_what_was_expected_and_found(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, SEVEN)
    problem, _, picture = str(caught.value).partition("\n")
    expected = "Manually_Annotated_file_lists or train_set"
    assert problem == f"affectnet7:{tmp_path}: expected {expected}, found an empty folder"
    assert "train_set/annotations/0_exp.npy" in picture


def test_a_missing_list_is_told(original):
    (original / "Manually_Annotated_file_lists/validation.csv").unlink()
    with pytest.raises(UserError, match=r"expected validation\.csv, found training\.csv"):
        read(original)


def test_a_missing_set_is_told(later):
    (later / "val_set/annotations").rename(later / "elsewhere")
    with pytest.raises(UserError, match=r"expected val_set/annotations, found elsewhere/"):
        read(later)
