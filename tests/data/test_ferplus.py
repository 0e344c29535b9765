import csv

import numpy as np
import pytest

from leaf_fer.data.ferplus import FOLDERS, VOTED, majority, read, read_votes
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.errors import UserError

VOTES = ["neutral", "happiness", "surprise", "sadness", "anger"]
VOTES += ["disgust", "fear", "contempt", "unknown", "NF"]


def sure(column):
    """Ten votes for one column."""
    return [10 * (index == column) for index in range(10)]


def write_labels(folder, rows):
    """One folder of the published layout, with an empty file for the first image."""
    folder.mkdir(parents=True)
    with (folder / "label.csv").open("w", newline="") as stream:
        for name, votes in rows:
            csv.writer(stream).writerow([name, "(0, 0, 48, 48)", *votes])
    (folder / rows[0][0]).touch()


@pytest.fixture
def ferplus(tmp_path):
    train = [(f"fer{column:07d}.png", sure(column)) for column in range(10)]
    write_labels(tmp_path / "FER2013Train", train)
    write_labels(tmp_path / "FER2013Valid", [("fer0028638.png", sure(3))])
    write_labels(tmp_path / "FER2013Test", [("fer0032298.png", sure(6)), ("f.png", sure(1))])
    return tmp_path


@pytest.fixture(scope="module")
def votes_of_all_faces(shared):
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(shared / "data/ferplus.parquet", columns=["folder", "image", *VOTES])


@pytest.fixture(scope="module")
def all_faces(votes_of_all_faces, tmp_path_factory):
    """The real labels of FERPlus in the official layout."""
    root = tmp_path_factory.mktemp("ferplus")
    columns = votes_of_all_faces.to_pydict().values()
    rows = {folder: [] for folder in FOLDERS}
    for folder, image, *votes in zip(*columns, strict=True):
        rows[folder].append((image, votes))
    for folder in FOLDERS:
        write_labels(root / folder, rows[folder])
    return read(root)


@pytest.mark.parametrize(
    ("part", "count"), [("train", 25_045), ("validation", 3_191), ("test", 3_137)]
)
def test_the_real_labels_have_the_published_counts(all_faces, part, count):
    assert all_faces.rows(part).size == count


def test_the_real_training_labels_have_the_published_counts_per_class(all_faces):
    counts = np.bincount(all_faces.targets[all_faces.rows("train")])
    np.testing.assert_array_equal(counts, [8733, 7284, 3136, 3022, 2098, 116, 536, 120])


def test_columns_of_votes_become_the_canonical_classes(ferplus):
    table = read(ferplus)
    assert [table.classes[target] for target in table.targets[table.rows("train")]] == [*VOTES[:8]]
    assert table.classes == EXPRESSIONS


def test_faces_that_are_unknown_or_no_faces_are_left_out(ferplus):
    names = read(ferplus).names
    assert "FER2013Train/fer0000008.png" not in names
    assert "FER2013Train/fer0000009.png" not in names


def test_folders_are_the_parts(ferplus):
    table = read(ferplus)
    assert [table.names[row] for row in table.rows("validation")] == ["FER2013Valid/fer0028638.png"]
    assert table.rows("test").size == 2


def test_votes_belong_to_the_faces_that_are_asked_for(ferplus):
    names = ["FER2013Test/fer0032298.png", "FER2013Train/fer0000002.png"]
    np.testing.assert_array_equal(read_votes(ferplus, names), [sure(6), sure(2)])
    assert read_votes(ferplus, []).shape == (0, len(VOTED))


def test_the_votes_of_a_table_are_those_that_made_its_targets(ferplus):
    table = read(ferplus)
    votes = read_votes(ferplus, table.names)
    np.testing.assert_array_equal(majority(votes), table.targets)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], -1),  # half is not a majority
        ([4, 0, 0, 3, 3, 0, 0, 0, 0, 0], -1),
        ([4, 1, 1, 1, 1, 0, 1, 1, 0, 0], 0),  # single votes do not count
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1),
        ([2, 0, 0, 0, 0, 0, 0, 0, 8, 0], -1),
    ],
)
def test_majority_needs_more_than_half_of_the_votes_that_count(votes, expected):
    assert majority([votes]) == expected


def test_majority_is_that_of_a_plain_loop():
    votes = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=500)
    for row, got in zip(votes, majority(votes), strict=True):
        left = [vote if vote > 1 else 0 for vote in row]
        winner = max(range(10), key=lambda column: left[column])
        wins = left[winner] > sum(left) / 2 and winner < 8
        assert got == (winner if wins else -1)


def test_the_common_list_is_read_where_a_folder_has_none(ferplus):
    (ferplus / "FER2013Valid/label.csv").unlink()
    rows = [
        ["Usage", "Image name", *VOTES],
        ["Training", "fer0000000.png", *sure(0)],
        ["PublicTest", "fer0028638.png", *sure(4)],
        ["PublicTest", "", *sure(9)],
    ]
    with (ferplus / "fer2013new.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    table = read(ferplus)
    row = table.rows("validation")
    assert [table.names[index] for index in row] == ["FER2013Valid/fer0028638.png"]
    assert table.classes[table.targets[row[0]]] == "anger"


def test_a_wrong_folder_is_told_what_was_expected_and_found(tmp_path):
    (tmp_path / "fer2013.csv").touch()
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    problem, _, picture = str(caught.value).partition("\n")
    assert problem == f"ferplus:{tmp_path}: expected the folder FER2013Train, found fer2013.csv"
    assert "FER2013Train/label.csv" in picture


def test_a_folder_without_labels_is_told(ferplus):
    (ferplus / "FER2013Test/label.csv").unlink()
    with pytest.raises(UserError, match=r"FER2013Test: expected label\.csv, found fer0032298"):
        read(ferplus)


@pytest.mark.parametrize("row", ["fer9.png,box,1,2", "fer9.png,box" + ",x" * 10])
def test_a_bad_row_is_named(ferplus, row):
    with (ferplus / "FER2013Test/label.csv").open("a") as stream:
        stream.write(row + "\n")
    with pytest.raises(UserError, match=r"label\.csv, line 3: expected a name, a box and ten"):
        read(ferplus)


def test_a_repeated_name_is_refused(ferplus):
    with (ferplus / "FER2013Valid/label.csv").open("a") as stream:
        csv.writer(stream).writerow(["fer0028638.png", "(0, 0, 48, 48)", *sure(0)])
    with pytest.raises(UserError, match=r"line 2: fer0028638\.png is listed twice"):
        read(ferplus)
