import json
from dataclasses import fields, replace

import numpy as np
import pytest

from leaf_fer.data import rest
from leaf_fer.data.split import load, save
from leaf_fer.data.table import UNKNOWN
from leaf_fer.errors import UserError


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Groups of more than 20 images are large."""
    monkeypatch.setattr(rest, "LISTED", 20)


@pytest.fixture
def saved(data, tmp_path):
    """A function that saves a split of the data, and returns the file and what it says."""

    def save_it(split):
        save(split, *data, tmp_path / "split.json")
        return tmp_path / "split.json", json.loads((tmp_path / "split.json").read_text())

    return save_it


def assert_equal(first, second):
    for field in fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def shuffled(table, hashes):
    order = np.random.default_rng(1).permutation(len(table))
    names = [table.names[row] for row in order]
    table = replace(table, names=names, targets=table.targets[order], parts=table.parts[order])
    return table, hashes[order]


@pytest.mark.parametrize(
    "options",
    [
        {"labels": 15},
        {"labels": 60},
        {"labels": None},
        {"labels": 15, "keep_labeled_in_pool": True},
        {"labels": None, "keep_labeled_in_pool": True},
        {"labels": 15, "keep_test_duplicates": True},
        {"labels": None, "keep_test_duplicates": True},
    ],
)
def test_a_split_with_large_groups_is_loaded_as_it_was(split_of, data, saved, options):
    table, hashes = data
    hashes[[3, 50, 125]] = hashes[table.rows("test")[0]]
    split = split_of(table, hashes, **options)
    file, content = saved(split)
    assert set(content["unlabeled"]) == {"but", "count", "digest"} or len(content["unlabeled"]) <= 7
    assert_equal(load(file, table, hashes), split)


def test_held_out_images_are_no_part_of_a_large_group(split_of, make_faces, tmp_path):
    data = make_faces({"train": 40})
    split = split_of(*data, labels=15, validation_fraction=0.1)
    save(split, *data, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["unlabeled"]["but"] == ["labeled", "validation", "duplicates"]
    assert_equal(load(tmp_path / "split.json", *data), split)


def test_large_groups_are_saved_in_short(split_of, data, saved):
    _, content = saved(split_of(*data, labels=15))
    assert content["unlabeled"].pop("digest").isalnum()
    assert content["unlabeled"] == {"but": ["labeled", "validation", "duplicates"], "count": 112}
    assert len(content["labels"]) == len(content["labeled"]) == 15
    assert (len(content["validation"]), len(content["test"])) == (12, 15)


def test_many_labeled_images_that_were_drawn_are_listed(split_of, data, saved):
    _, content = saved(split_of(*data, labels=60))
    assert len(content["labels"]) == len(content["labeled"]) == 60
    assert content["unlabeled"]["count"] == 67


def test_all_labeled_images_are_saved_in_short(split_of, data, saved):
    _, content = saved(split_of(*data))
    assert content["labeled"]["count"] == 120
    assert content["labels"] == {}


def test_labels_that_differ_from_those_of_the_data_are_listed(split_of, data, tmp_path):
    table, hashes = data
    rows = [f"{name},neutral" for name in table.names if name.startswith("train")]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    split = split_of(table, hashes, labels=tmp_path / "labels.csv")
    save(split, table, hashes, tmp_path / "split.json")
    assert len(json.loads((tmp_path / "split.json").read_text())["labels"]) == 120
    assert_equal(load(tmp_path / "split.json", table, hashes), split)


def test_a_large_group_without_a_rule_is_listed(split_of, data, saved):
    split = split_of(*data, labels=15)
    split = replace(split, unlabeled=split.unlabeled[::2])
    file, content = saved(split)
    assert len(content["unlabeled"]) == 56
    assert_equal(load(file, *data), split)


def test_large_groups_fit_the_same_images_in_another_order(split_of, data, saved):
    split = split_of(*data, labels=15)
    file, _ = saved(split)
    table, hashes = shuffled(*data)
    loaded = load(file, table, hashes)
    for group in ("labeled", "unlabeled"):
        expected = {data[0].names[row] for row in getattr(split, group)}
        assert {table.names[row] for row in getattr(loaded, group)} == expected


def test_the_same_split_of_another_order_is_the_same_file(split_of, data, saved, tmp_path):
    file, _ = saved(split_of(*data, labels=15))
    other = shuffled(*data)
    save(split_of(*other, labels=15), *other, tmp_path / "other.json")
    assert file.read_bytes() == (tmp_path / "other.json").read_bytes()


@pytest.mark.parametrize("labels", [15, None])
def test_changed_content_in_a_large_group_is_noticed(split_of, data, saved, labels):
    table, hashes = data
    split = split_of(table, hashes, labels=labels)
    file, _ = saved(split)
    use = "unlabeled" if labels else "labeled"
    hashes[getattr(split, use)[4], 15] ^= 1
    with pytest.raises(UserError, match=rf"content .*of one of the 1\d\d {use} images has changed"):
        load(file, table, hashes)


def test_a_changed_name_in_a_large_group_is_noticed(split_of, data, saved):
    table, hashes = data
    split = split_of(table, hashes, labels=15)
    file, _ = saved(split)
    table.names[split.unlabeled[4]] += "x"
    with pytest.raises(UserError, match="name or content of one of the 112 unlabeled images"):
        load(file, table, hashes)


def test_a_changed_label_in_a_large_group_is_noticed(split_of, data, saved):
    table, hashes = data
    file, _ = saved(split_of(table, hashes))
    table.targets[table.rows("train")[4]] = 2
    with pytest.raises(UserError, match="name, content or label of one of the 120 labeled images"):
        load(file, table, hashes)


def test_an_image_that_is_gone_from_a_large_group_is_noticed(split_of, data, saved):
    table, hashes = data
    split = split_of(table, hashes, labels=15)
    file, _ = saved(split)
    hashes[split.unlabeled[4]] = 0  # as of an image that can no longer be read
    with pytest.raises(UserError, match="expected 112 unlabeled images, the data has 111"):
        load(file, table, hashes)


def test_only_the_labeled_images_must_be_the_same_for_a_new_draw(split_of, data, saved):
    table, hashes = data
    first = split_of(table, hashes, labels=15)
    file, _ = saved(first)
    hashes[first.unlabeled[4], 15] ^= 1
    np.testing.assert_array_equal(split_of(table, hashes, labels=file).labeled, first.labeled)


def test_all_labeled_images_of_a_saved_split_are_taken_for_a_new_draw(split_of, data, saved):
    first = split_of(*data)
    file, _ = saved(first)
    assert_equal(split_of(*data, labels=file), first)


def test_unlabeled_training_images_are_not_labeled_ones(split_of, data, saved):
    table, hashes = data
    table.targets[table.rows("train")[::3]] = UNKNOWN
    split = split_of(table, hashes)
    file, content = saved(split)
    assert (content["labeled"]["count"], content["unlabeled"]["count"]) == (80, 47)
    assert_equal(load(file, table, hashes), split)


@pytest.mark.parametrize("group", [{"but": []}, {"but": [], "count": "x", "digest": ""}])
def test_a_broken_description_is_told(split_of, data, saved, group):
    file, content = saved(split_of(*data, labels=15))
    file.write_text(json.dumps({**content, "unlabeled": group}))
    with pytest.raises(UserError, match=r"split\.json: expected a split saved by leaf"):
        load(file, *data)


def test_a_file_that_lists_large_groups_is_still_read(split_of, data, saved, monkeypatch):
    split = split_of(*data, labels=15)
    monkeypatch.setattr(rest, "LISTED", 1000)
    file, content = saved(split)
    monkeypatch.setattr(rest, "LISTED", 20)
    assert len(content["unlabeled"]) == 112
    assert_equal(load(file, *data), split)
