import numpy as np
import pytest

from leaf_fer.data.names import SEVEN
from leaf_fer.data.rafdb import read
from leaf_fer.errors import UserError

LINES = [
    "train_00001.jpg 5",
    "train_00002.jpg 1",
    "train_00003.jpg 2",
    "train_00004.jpg 3",
    "train_00005.jpg 4",
    "train_00006.jpg 6",
    "train_00007.jpg 7",
    "test_0001.jpg 7",
    "test_0002.jpg 1",
]


@pytest.fixture
def rafdb(tmp_path):
    """The published layout, with empty files for images."""
    (tmp_path / "basic/EmoLabel").mkdir(parents=True)
    for kind, ending in (("aligned", "_aligned.jpg"), ("original", ".jpg")):
        (tmp_path / "basic/Image" / kind).mkdir(parents=True)
        for line in LINES:
            stem = line.split(".")[0]
            (tmp_path / "basic/Image" / kind / f"{stem}{ending}").touch()
    listing = tmp_path / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text("\n".join(LINES) + "\n")
    return tmp_path


def test_labels_1_to_7_become_the_canonical_classes(rafdb):
    table = read(rafdb)
    names = [table.classes[target] for target in table.targets]
    assert names == [
        "sadness",
        "surprise",
        "fear",
        "disgust",
        "happiness",
        "anger",
        "neutral",
        "neutral",
        "surprise",
    ]


def test_contempt_is_no_class_of_rafdb(rafdb):
    assert read(rafdb).classes == SEVEN


def test_the_prefix_of_the_name_tells_the_part(rafdb):
    table = read(rafdb)
    np.testing.assert_array_equal(table.rows("train"), range(7))
    np.testing.assert_array_equal(table.rows("test"), [7, 8])


def test_aligned_images_are_preferred(rafdb):
    assert read(rafdb).names[0] == "Image/aligned/train_00001_aligned.jpg"


def test_original_images_are_read_where_there_are_no_aligned_ones(rafdb):
    (rafdb / "basic/Image/aligned").rename(rafdb / "elsewhere")
    assert read(rafdb).names[-1] == "Image/original/test_0002.jpg"


def test_names_are_the_same_for_the_folder_basic_and_its_parent(rafdb):
    assert read(rafdb / "basic").names == read(rafdb).names


def test_every_named_image_is_a_file(rafdb):
    table = read(rafdb)
    assert all((table.root / name).is_file() for name in table.names)


def test_a_missing_image_stays_in_the_table(rafdb):
    (rafdb / "basic/Image/aligned/train_00001_aligned.jpg").unlink()
    assert len(read(rafdb)) == len(LINES)


def test_a_wrong_folder_is_told_what_was_expected_and_found(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "readme.md").touch()
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    problem, _, picture = str(caught.value).partition("\n")
    listing = "basic/EmoLabel/list_patition_label.txt"
    assert problem == f"rafdb:{tmp_path}: expected {listing}, found photos/, readme.md"
    assert "Image/aligned/train_00001_aligned.jpg" in picture


def test_a_folder_without_any_listed_image_is_refused(rafdb):
    for file in (rafdb / "basic/Image/aligned").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"such as Image/aligned/train_00001_aligned\.jpg"):
        read(rafdb)


@pytest.mark.parametrize("line", ["train_00008.jpg", "train_00008.jpg 8", "valid_00008.jpg 1"])
def test_a_bad_line_is_named(rafdb, line):
    with (rafdb / "basic/EmoLabel/list_patition_label.txt").open("a") as listing:
        listing.write(line + "\n")
    with pytest.raises(UserError, match=r"list_patition_label\.txt, line 10: expected"):
        read(rafdb)


def test_a_repeated_name_is_refused(rafdb):
    with (rafdb / "basic/EmoLabel/list_patition_label.txt").open("a") as listing:
        listing.write(LINES[0] + "\n")
    with pytest.raises(UserError, match=r"line 10: train_00001\.jpg is listed twice"):
        read(rafdb)
