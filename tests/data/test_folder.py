import numpy as np
import pytest

from leaf_fer.data.folder import read
from leaf_fer.data.table import UNKNOWN
from leaf_fer.errors import UserError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labels(table):
    """Class name (None without a label) by name."""
    known = zip(table.names, table.targets, strict=True)
    return {name: None if t == UNKNOWN else table.classes[t] for name, t in known}


def parts(table):
    return {part: [table.names[row] for row in table.rows(part)] for part in ("train", "test")} | {
        "validation": [table.names[row] for row in table.rows("validation")]
    }


def test_class_folders_hold_labeled_training_images(tmp_path):
    table = read(write(tmp_path, "happy/a.jpg", "sad/b.png"))
    assert labels(table) == {"happy/a.jpg": "happiness", "sad/b.png": "sadness"}
    assert table.rows("train").size == 2


def test_files_at_the_top_and_in_unlabeled_have_no_label(tmp_path):
    write(tmp_path, "happy/a.jpg", "b.jpg", "unlabeled/c.jpg", "Unlabelled/deep/d.jpg")
    table = read(tmp_path)
    assert [name for name, label in labels(table).items() if label is None] == [
        "Unlabelled/deep/d.jpg",
        "b.jpg",
        "unlabeled/c.jpg",
    ]
    assert table.rows("train").size == 4


def test_files_may_be_nested_in_class_folders(tmp_path):
    table = read(write(tmp_path, "happy/one/two/a.jpg"))
    assert labels(table) == {"happy/one/two/a.jpg": "happiness"}


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_part_folders_are_the_parts(tmp_path, name):
    write(tmp_path, "train/happy/a.jpg", "train/b.jpg", f"{name}/happy/c.jpg", "test/sad/d.jpg")
    table = read(tmp_path)
    assert parts(table) == {
        "train": ["train/b.jpg", "train/happy/a.jpg"],
        "validation": [f"{name}/happy/c.jpg"],
        "test": ["test/sad/d.jpg"],
    }
    assert table.classes == ("happiness", "sadness")


def test_class_folders_may_stand_beside_test(tmp_path):
    write(tmp_path, "happy/a.jpg", "test/happy/b.jpg", "test/c.jpg")
    table = read(tmp_path)
    assert parts(table)["train"] == ["happy/a.jpg"]
    assert labels(table)["test/c.jpg"] is None


def test_class_folders_beside_train_are_refused(tmp_path):
    write(tmp_path, "train/happy/a.jpg", "sad/b.jpg")
    with pytest.raises(UserError, match="expected all class folders in train, found sad beside it"):
        read(tmp_path)


def test_names_of_the_users_own_are_kept(tmp_path):
    table = read(write(tmp_path, "wink/a.jpg", "Happy/b.jpg"))
    assert table.classes == ("Happy", "wink")


def test_rows_are_in_the_order_of_the_names(tmp_path):
    table = read(write(tmp_path, "sad/b.jpg", "happy/c.jpg", "sad/a.jpg", "b.jpg"))
    assert table.names == ["b.jpg", "happy/c.jpg", "sad/a.jpg", "sad/b.jpg"]


def test_hidden_files_and_notes_are_passed_over(tmp_path):
    write(tmp_path, "happy/a.jpg", "happy/.b.jpg", ".git/c", "happy/Thumbs.db", "notes.TXT")
    assert read(tmp_path).names == ["happy/a.jpg"]


def test_any_other_file_is_listed(tmp_path):
    table = read(write(tmp_path, "happy/a.jpg", "happy/film.mp4"))
    assert "happy/film.mp4" in table.names


def test_links_that_lead_nowhere_are_listed(tmp_path):
    write(tmp_path, "happy/a.jpg")
    (tmp_path / "happy/b.jpg").symlink_to("missing.jpg")
    assert "happy/b.jpg" in read(tmp_path).names


def test_a_link_back_to_the_top_does_not_go_round_in_circles(tmp_path):
    write(tmp_path, "happy/a.jpg")
    (tmp_path / "happy/again").symlink_to(tmp_path)
    assert read(tmp_path).names == ["happy/a.jpg"]


def test_images_without_any_class_are_a_table_without_classes(tmp_path):
    table = read(write(tmp_path, "a.jpg", "b.jpg"))
    assert table.classes == ()
    np.testing.assert_array_equal(table.targets, [UNKNOWN, UNKNOWN])


def test_an_empty_class_folder_is_named(tmp_path):
    write(tmp_path, "happy/a.jpg", "sad/readme.md")
    with pytest.raises(UserError, match="the class folder sad has no images"):
        read(tmp_path)


def test_an_empty_folder_is_told_what_was_expected(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    problem, _, picture = str(caught.value).partition("\n")
    expected = "images in one folder per class"
    assert problem == f"folder:{tmp_path}: expected {expected}, found an empty folder"
    assert "happy/a.jpg" in picture
