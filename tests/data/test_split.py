from dataclasses import replace

import numpy as np
import pytest

from leaf_fer.data.table import UNKNOWN
from leaf_fer.errors import UserError


def names(table, rows):
    return {table.names[row] for row in rows}


def per_class(split, classes=3):
    return np.bincount(split.targets, minlength=classes).tolist()


def copy_content(table, hashes, source, target):
    hashes[table.names.index(target)] = hashes[table.names.index(source)]


@pytest.mark.parametrize(
    ("classes", "labels", "each", "total"),
    [
        (7, 100, 14, 98),
        (7, 200, 28, 196),
        (7, 300, 42, 294),
        (7, 400, 57, 399),
        (7, 500, 71, 497),
        (7, 1000, 142, 994),
        (7, 2000, 285, 1995),
        (8, 100, 12, 96),
        (8, 200, 25, 200),
        (8, 300, 37, 296),
        (8, 400, 50, 400),
        (8, 500, 62, 496),
        (8, 1000, 125, 1000),
        (8, 2000, 250, 2000),
    ],
)
def test_equal_labels_are_the_floor_per_class(split_of, make_faces, classes, labels, each, total):
    split = split_of(*make_faces({"train": 300}, classes=classes), labels=labels)
    assert per_class(split, classes) == [each] * classes
    assert split.notes["labels"] == total


def test_a_budget_larger_than_a_class_names_option_value_and_bound(split_of, make_faces):
    counts = [8733, 7284, 3136, 3022, 2098, 116 + 384, 536, 120]
    with pytest.raises(UserError) as caught:
        split_of(*make_faces({"train": counts}, classes=8), labels=2000)
    assert str(caught.value) == (
        "--labels 2000: 250 per class, but contempt has 120 training images; at most 960"
    )


def test_the_largest_allowed_budget_is_allowed(split_of, make_faces):
    split = split_of(*make_faces({"train": [9, 5, 7]}), labels=15)
    assert per_class(split) == [5, 5, 5]


@pytest.mark.parametrize("balance", ["equal", "natural"])
def test_less_than_one_label_per_class_is_refused(split_of, data, balance):
    with pytest.raises(UserError, match=r"^--labels 2: expected "):
        split_of(*data, labels=2, balance=balance)


def test_natural_labels_follow_the_shares_of_the_classes(split_of, make_faces):
    split = split_of(*make_faces({"train": [60, 30, 10]}), labels=20, balance="natural")
    assert per_class(split) == [12, 6, 2]


def test_a_natural_budget_beyond_all_images_is_refused(split_of, data):
    with pytest.raises(UserError, match="--labels 121: expected 3 to 120 training images"):
        split_of(*data, labels=121, balance="natural")


def test_a_class_without_images_cannot_be_drawn_naturally(split_of, make_faces):
    with pytest.raises(UserError, match="--labels 5: happiness has 0 training images"):
        split_of(*make_faces({"train": [9, 0, 7]}), labels=5, balance="natural")


def test_no_number_keeps_all_labels(split_of, data):
    split = split_of(*data)
    assert split.notes["labels"] == 120
    assert split.unlabeled.size == 7


def test_data_without_labels_is_refused(split_of, make_faces):
    with pytest.raises(UserError, match="expected labeled training images in the data, found none"):
        split_of(*make_faces({"test": 5}, unlabeled=9), labels=3)


def test_targets_are_those_of_the_table(split_of, data):
    split = split_of(*data, labels=30)
    np.testing.assert_array_equal(split.targets, data[0].targets[split.labeled])


def test_labeled_images_are_not_in_the_pool(split_of, data):
    split = split_of(*data, labels=30)
    assert not np.intersect1d(split.labeled, split.unlabeled).size
    assert split.unlabeled.size == 120 + 7 - 30


def test_labeled_images_stay_in_the_pool_on_demand(split_of, data):
    split = split_of(*data, labels=30, keep_labeled_in_pool=True)
    assert split.unlabeled.size == 120 + 7
    assert np.isin(split.labeled, split.unlabeled).all()


@pytest.mark.parametrize("options", [{}, {"keep_labeled_in_pool": True}])
def test_training_images_never_reach_validation_or_test(split_of, data, options):
    split = split_of(*data, labels=30, **options)
    used = np.union1d(split.labeled, split.unlabeled)
    assert np.isin(used, data[0].rows("train")).all()
    np.testing.assert_array_equal(split.test, data[0].rows("test"))
    np.testing.assert_array_equal(split.validation, data[0].rows("validation"))


def test_images_without_a_label_are_no_test(split_of, data):
    table, hashes = data
    table.targets[table.rows("test")[:2]] = UNKNOWN
    assert split_of(table, hashes).test.size == 13


def test_the_same_seed_draws_the_same_images(split_of, data):
    first, second = split_of(*data, labels=30), split_of(*data, labels=30)
    np.testing.assert_array_equal(first.labeled, second.labeled)


def test_what_a_seed_draws_never_changes(split_of, make_faces):
    # If this fails, results with the same options are no longer of the same images.
    table, hashes = make_faces({"train": [40, 30, 20], "test": 5})
    split = split_of(table, hashes, labels=9, seed=3, validation_fraction=0.1)
    drawn = {target: [] for target in "012"}
    for name in sorted(names(table, split.labeled)):
        drawn[name[6]].append(int(name[8:13]))
    assert drawn == {"0": [9, 28, 32], "1": [16, 22, 29], "2": [4, 7, 19]}
    assert names(table, split.validation) == {
        *(f"train/0/{index:05d}.jpg" for index in (2, 13, 25, 36)),
        *(f"train/1/{index:05d}.jpg" for index in (8, 9, 24)),
        *(f"train/2/{index:05d}.jpg" for index in (13, 17)),
    }


def test_another_seed_draws_other_images(split_of, data):
    first, second = split_of(*data, labels=30), split_of(*data, labels=30, seed=1)
    assert first.labeled.tolist() != second.labeled.tolist()


@pytest.mark.parametrize("options", [{}, {"balance": "natural"}, {"validation_fraction": 0.25}])
def test_the_order_of_the_table_does_not_matter(split_of, make_faces, options):
    table, hashes = make_faces({"train": [40, 30, 20], "test": 5})
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = replace(
        table,
        names=[table.names[row] for row in order],
        targets=table.targets[order],
        parts=table.parts[order],
    )
    first = split_of(table, hashes, labels=30, **options)
    second = split_of(shuffled, hashes[order], labels=30, **options)
    assert names(table, first.labeled) == names(shuffled, second.labeled)
    assert names(table, first.validation) == names(shuffled, second.validation)


def test_a_larger_budget_contains_the_smaller_one(split_of, data):
    small, large = split_of(*data, labels=12), split_of(*data, labels=60)
    assert np.isin(small.labeled, large.labeled).all()


def test_every_image_can_be_drawn(split_of, make_faces):
    data = make_faces({"train": 6})
    drawn = {row for seed in range(40) for row in split_of(*data, labels=3, seed=seed).labeled}
    assert len(drawn) == 18


def test_unreadable_images_are_used_nowhere(split_of, data):
    table, hashes = data
    valid = np.random.default_rng(0).random(len(table)) < 0.5
    split = split_of(table, hashes, valid=valid, labels=30)
    for rows in (split.labeled, split.unlabeled, split.validation, split.test):
        assert valid[rows].all()
    assert split.notes["unreadable"] == np.sum(~valid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed of the split: expected 0 or more, got -1"),
        ({"balance": "even"}, "balance: expected equal or natural, got 'even'"),
        ({"validation_fraction": 1.0}, "validation fraction: expected 0 <= f < 1, got 1.0"),
    ],
)
def test_options_out_of_range_are_refused(split_of, data, options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        split_of(*data, **options)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_training_images_with_the_content_of_the_test_are_dropped_and_counted(split_of, data, part):
    table, hashes = data
    copy_content(table, hashes, f"{part}/1/00000.jpg", "train/2/00003.jpg")
    copy_content(table, hashes, f"{part}/1/00000.jpg", "unlabeled/00002.jpg")
    split = split_of(table, hashes, labels=30)
    duplicates = {"train/2/00003.jpg", "unlabeled/00002.jpg"}
    assert names(table, split.duplicates) == duplicates
    assert not duplicates & names(table, split.unlabeled)
    assert (split.notes["duplicates"], split.notes["dropped"]) == (2, 2)


def test_duplicates_of_the_test_are_never_labeled(split_of, data):
    table, hashes = data
    hashes[table.rows("train")[:100]] = hashes[table.rows("test")[0]]
    with pytest.raises(UserError, match="but neutral has 0 training images"):
        split_of(table, hashes, labels=30)


def test_duplicates_of_the_test_are_kept_on_demand_but_counted(split_of, data):
    table, hashes = data
    copy_content(table, hashes, "test/1/00000.jpg", "train/2/00003.jpg")
    split = split_of(table, hashes, keep_test_duplicates=True)
    assert "train/2/00003.jpg" in names(table, split.labeled)
    assert (split.notes["duplicates"], split.notes["dropped"]) == (1, 0)


def test_duplicates_among_the_training_images_stay(split_of, data):
    table, hashes = data
    copy_content(table, hashes, "train/0/00000.jpg", "train/0/00001.jpg")
    split = split_of(table, hashes)
    assert split.notes["duplicates"] == 0
    assert split.notes["labels"] == 120


def test_contents_that_begin_alike_are_told_apart(split_of, make_faces):
    table, _ = make_faces({"train": 20, "test": 20})
    hashes = np.random.default_rng(0).integers(0, 2, (len(table), 16), dtype=np.uint8)
    hashes[:, 7:] = 0
    content = [bytes(row) for row in hashes]
    tested = {content[row] for row in table.rows("test")}
    expected = [row for row in table.rows("train") if content[row] in tested]
    assert 0 < len(expected) < 60
    split = split_of(table, hashes, keep_test_duplicates=True)
    assert split.duplicates.tolist() == expected


def test_hashes_that_end_in_zeros_are_told_apart(split_of, data):
    table, hashes = data
    hashes[table.rows("train")[0]] = [1] + [0] * 15
    hashes[table.rows("test")[0]] = [1, 0, 1] + [0] * 13
    assert split_of(table, hashes).notes["duplicates"] == 0


def test_a_fraction_of_each_class_is_held_out(split_of, make_faces):
    table, hashes = make_faces({"train": [40, 20, 10], "test": 5})
    split = split_of(table, hashes, validation_fraction=0.2)
    assert np.bincount(table.targets[split.validation]).tolist() == [8, 4, 2]
    assert per_class(split) == [32, 16, 8]


def test_held_out_images_are_used_for_nothing_else(split_of, make_faces):
    table, hashes = make_faces({"train": 40}, unlabeled=5)
    split = split_of(table, hashes, labels=30, validation_fraction=0.2, keep_labeled_in_pool=True)
    assert not np.intersect1d(split.validation, np.union1d(split.labeled, split.unlabeled)).size


def test_copies_of_held_out_images_are_dropped(split_of, make_faces):
    table, hashes = make_faces({"train": 10})
    hashes[:] = hashes[0]
    with pytest.raises(UserError, match="found none"):
        split_of(table, hashes, validation_fraction=0.2)


def test_the_held_out_images_are_the_same_for_every_budget(split_of, make_faces):
    data = make_faces({"train": 40})
    first = split_of(*data, labels=30, validation_fraction=0.2)
    second = split_of(*data, labels=60, validation_fraction=0.2)
    np.testing.assert_array_equal(first.validation, second.validation)


def test_validation_images_of_the_data_are_preferred_to_a_fraction(split_of, data):
    split = split_of(*data, validation_fraction=0.2)
    np.testing.assert_array_equal(split.validation, data[0].rows("validation"))
