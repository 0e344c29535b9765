import os

import pytest

from leaf_fer.data.table import EXPRESSIONS, UNKNOWN
from leaf_fer.errors import UserError
from leaf_fer.labeling.faces import read, split

from .conftest import draw


def names(faces):
    return [faces.table.names[row] for row in faces.rows]


def test_all_images_of_a_plain_folder_are_asked_about(folder):
    faces = read(folder, None)
    assert names(faces) == [f"{row:02}.png" for row in range(12)]
    assert faces.classes == EXPRESSIONS
    assert (faces.targets == UNKNOWN).all()


def test_classes_keep_their_words_and_their_order(folder):
    assert read(folder, ["sad", "happy"]).classes == ("sad", "happy")


@pytest.mark.parametrize("words", [["sad,happy"], ["sad", "happy"], ["sad,", "happy ,"]])
def test_commas_between_classes_may_be_there_or_not(words):
    assert split(words) == ["sad", "happy"]


def test_class_folders_are_labels_and_the_rest_is_asked_about(folder):
    draw(folder / "Happy", 2)
    draw(folder / "angry", 1)
    draw(folder / "unlabeled", 1)
    faces = read(folder, ["mad", "angry", "joy"][1:])
    assert faces.classes == ("angry", "joy")
    found = dict(zip(faces.table.names, faces.targets.tolist(), strict=True))
    assert found["Happy/00.png"] == 1
    assert found["angry/00.png"] == 0
    assert names(faces) == [*(f"{row:02}.png" for row in range(12)), "unlabeled/00.png"]


def test_class_folders_of_expressions_are_the_classes_if_nobody_says(folder):
    draw(folder / "sad", 1)
    draw(folder / "happy", 1)
    assert read(folder, None).classes == ("happiness", "sadness")


def test_validation_and_test_images_are_not_asked_about(folder):
    draw(folder / "val" / "sad", 1)
    draw(folder / "test" / "happy", 2)
    faces = read(folder, ["sad", "happy"])
    assert names(faces) == [f"{row:02}.png" for row in range(12)]


def test_names_that_no_table_can_hold_are_left_out_and_said(folder, capsys):
    (folder / "00.png").rename(folder / " 00.png")
    (folder / "01.png").rename(folder / os.fsdecode(b"\xff.png"))
    assert names(read(folder, None)) == [f"{row:02}.png" for row in range(2, 12)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("leaf: 2 of 12 files are left out: their names begin or end with a")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sad"], "--classes sad: expected at least two different names, got 1"),
        ([], "--classes : expected at least two different names, got 0"),
        (["sad", "happy", "joy"], "at least two different names, happy and joy are the same"),
        (["sad", "wink", "sad"], "at least two different names, sad and sad are the same"),
    ],
)
def test_classes_that_cannot_be_are_refused(folder, words, message):
    with pytest.raises(UserError, match=message):
        read(folder, words)


def test_other_classes_than_the_folders_are_refused_with_both_lists(folder):
    draw(folder / "2021", 1)
    draw(folder / "2022", 1)
    with pytest.raises(UserError, match=r"--classes sad, glad: the folders .*: 2021, 2022; exp"):
        read(folder, ["sad", "glad"])
    with pytest.raises(UserError, match="the folders 2021, 2022 would be classes, and not all are"):
        read(folder, None)
    assert read(folder, ["2022", "2021"]).classes == ("2022", "2021")


def test_a_folder_without_a_face_to_ask_about_is_refused(tmp_path):
    draw(tmp_path / "faces" / "sad", 1)
    draw(tmp_path / "faces" / "happy", 1)
    with pytest.raises(UserError, match="no face without a label there"):
        read(tmp_path / "faces", None)
