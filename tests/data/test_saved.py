import json
from dataclasses import fields, replace

import numpy as np
import pytest

from leaf_fer.data.split import load, save
from leaf_fer.errors import UserError


def names(table, rows):
    return {table.names[row] for row in rows}


def listed(tmp_path, *rows, header="path,label"):
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_a_saved_split_is_loaded_as_it_was(split_of, data, tmp_path):
    split = split_of(*data, labels=30, seed=3)
    save(split, *data, tmp_path / "split.json")
    loaded = load(tmp_path / "split.json", *data)
    for field in fields(split):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(split, field.name))


def test_the_same_seed_gives_the_same_file(split_of, data, tmp_path):
    for name in ("a.json", "b.json"):
        save(split_of(*data, labels=30), *data, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_file_tells_classes_seed_balance_and_the_effective_count(split_of, data, tmp_path):
    save(split_of(*data, labels=31, seed=3), *data, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["classes"] == ["neutral", "happiness", "surprise"]
    assert (content["seed"], content["balance"]) == (3, "equal")
    assert content["notes"]["labels"] == len(content["labeled"]) == 30


def test_saving_replaces_a_file_and_leaves_no_other(split_of, data, tmp_path):
    (tmp_path / "split.json").write_text("old")
    save(split_of(*data), *data, tmp_path / "split.json")
    assert [file.name for file in tmp_path.iterdir()] == ["split.json"]
    assert load(tmp_path / "split.json", *data).notes["labels"] == 120


def test_a_saved_split_fits_the_same_images_in_another_order(split_of, data, tmp_path):
    table, hashes = data
    split = split_of(table, hashes, labels=30)
    save(split, table, hashes, tmp_path / "split.json")
    other = replace(
        table, names=table.names[::-1], targets=table.targets[::-1], parts=table.parts[::-1]
    )
    loaded = load(tmp_path / "split.json", other, hashes[::-1])
    assert names(other, loaded.labeled) == names(table, split.labeled)
    np.testing.assert_array_equal(loaded.targets, other.targets[loaded.labeled])


def test_a_saved_split_gives_its_labels_to_a_new_draw(split_of, data, tmp_path):
    first = split_of(*data, labels=30, seed=3)
    save(first, *data, tmp_path / "split.json")
    second = split_of(*data, labels=tmp_path / "split.json", seed=8)
    np.testing.assert_array_equal(second.labeled, first.labeled)
    np.testing.assert_array_equal(second.unlabeled, first.unlabeled)
    assert second.notes == first.notes


def test_a_new_draw_from_a_saved_split_holds_out_the_same_images(split_of, make_faces, tmp_path):
    data = make_faces({"train": 40})
    first = split_of(*data, labels=30, validation_fraction=0.2)
    save(first, *data, tmp_path / "split.json")
    second = split_of(*data, labels=tmp_path / "split.json", validation_fraction=0.2)
    np.testing.assert_array_equal(second.validation, first.validation)
    np.testing.assert_array_equal(second.labeled, first.labeled)


def test_changed_content_is_named_by_load(split_of, data, tmp_path):
    table, hashes = data
    split = split_of(table, hashes, labels=30)
    save(split, table, hashes, tmp_path / "split.json")
    row = split.labeled[4]
    hashes[row] += 1
    message = f"split.json: the content of {table.names[row]} has changed$"
    with pytest.raises(UserError, match=message):
        load(tmp_path / "split.json", table, hashes)


def test_changed_content_is_named_by_a_new_draw(split_of, data, tmp_path):
    table, hashes = data
    split = split_of(table, hashes, labels=30)
    save(split, table, hashes, tmp_path / "split.json")
    first = min(table.names[row] for row in split.labeled[[4, 9]])
    hashes[split.labeled[[4, 9]]] += 1
    with pytest.raises(UserError, match=f"the content of {first} has changed, and of 1 more"):
        split_of(table, hashes, labels=tmp_path / "split.json")


def test_an_image_that_is_gone_is_named(split_of, make_faces, data, tmp_path):
    save(split_of(*data, labels=30), *data, tmp_path / "split.json")
    table, hashes = make_faces({"train": 39, "validation": 4, "test": 5}, unlabeled=7)
    with pytest.raises(UserError, match=r"train/./00039\.jpg is not in the data"):
        load(tmp_path / "split.json", table, hashes)


def test_other_classes_are_refused(split_of, data, tmp_path):
    save(split_of(*data), *data, tmp_path / "split.json")
    other = replace(data[0], classes=("a", "b", "c"))
    with pytest.raises(UserError, match="expected the classes a, b, c, got neutral, happiness"):
        load(tmp_path / "split.json", other, data[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a split saved by leaf"),
        ("[]", "expected a split saved by leaf"),
        ('{"format": "other"}', "expected format 'leaf-fer split 1', got 'other'"),
        ('{"format": "leaf-fer split 1"}', "expected a split saved by leaf: 'classes'"),
    ],
)
def test_another_json_file_is_refused(data, tmp_path, text, message):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(UserError, match=f"split.json: {message}"):
        load(tmp_path / "split.json", *data)


def test_a_split_with_broken_hashes_is_refused(split_of, data, tmp_path):
    save(split_of(*data), *data, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    content["labeled"] = dict.fromkeys(content["labeled"], "abc")
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected 32 digits per image"):
        load(tmp_path / "split.json", *data)


def test_a_missing_split_is_told(data, tmp_path):
    with pytest.raises(UserError, match=r"split\.json: No such file"):
        load(tmp_path / "split.json", *data)


@pytest.mark.parametrize("header", ["path,label", "name,label"])
def test_a_list_chooses_the_labeled_images(split_of, data, tmp_path, header):
    rows = ["train/1/00003.jpg,happiness", "train/0/00001.jpg,neutral"]
    split = split_of(*data, labels=listed(tmp_path, *rows, header=header))
    assert [data[0].names[row] for row in split.labeled] == [
        "train/0/00001.jpg",
        "train/1/00003.jpg",
    ]
    assert split.targets.tolist() == [0, 1]


def test_a_list_may_label_what_the_data_does_not(split_of, data, tmp_path):
    split = split_of(*data, labels=listed(tmp_path, "unlabeled/00001.jpg,Happy"))
    assert split.targets.tolist() == [1]
    assert split.notes["relabeled"] == 0
    assert "unlabeled/00001.jpg" not in names(data[0], split.unlabeled)


def test_a_label_of_the_list_that_differs_is_counted(split_of, data, tmp_path):
    split = split_of(*data, labels=listed(tmp_path, "train/0/00001.jpg,surprise"))
    assert split.targets.tolist() == [2]
    assert split.notes["relabeled"] == 1


def test_listed_images_are_not_held_out(split_of, make_faces, tmp_path):
    data = make_faces({"train": 10})
    rows = [f"train/0/{index:05d}.jpg,neutral" for index in range(10)]
    split = split_of(*data, labels=listed(tmp_path, *rows), validation_fraction=0.5)
    assert split.notes["labels"] == 10
    assert not np.intersect1d(split.labeled, split.validation).size


def test_listed_duplicates_of_the_test_are_dropped(split_of, data, tmp_path):
    table, hashes = data
    hashes[table.names.index("train/0/00001.jpg")] = hashes[table.rows("test")[0]]
    rows = ["train/0/00001.jpg,neutral", "train/1/00003.jpg,happiness"]
    split = split_of(table, hashes, labels=listed(tmp_path, *rows))
    assert names(table, split.labeled) == {"train/1/00003.jpg"}
    assert split.targets.tolist() == [1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("train/0/99999.jpg,neutral", r"labels\.csv: train/0/99999\.jpg is not in the data"),
        ("test/0/00000.jpg,neutral", r"test/0/00000\.jpg is a test image: expected training"),
        ("train/0/00000.jpg,wink", r"line 2: unknown label 'wink', the classes are neutral, happi"),
        ("train/0/00000.jpg,", r"line 2: unknown label '', the classes are"),
        ("train/0/00000.jpg,neutral\ntrain/0/00000.jpg,neutral", r"line 3: .* is listed twice"),
    ],
)
def test_a_bad_list_is_told_where(split_of, data, tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        split_of(*data, labels=listed(tmp_path, row))
