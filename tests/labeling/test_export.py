import numpy as np
import pytest

from leaf_fer.data import folder as folders
from leaf_fer.data import tabular
from leaf_fer.data.saved import read_chosen, with_classes
from leaf_fer.data.table import UNKNOWN
from leaf_fer.errors import UserError
from leaf_fer.labeling.export import list_of_labels, replace_own, table_of_faces
from leaf_fer.labeling.faces import read
from leaf_fer.labeling.journal import Answer

from .conftest import draw

CLASSES = ["glad", "sad"]
ODD = ["a,b.png", 'c "d".png', "sub/é 中.png", "#=1.png"]


def answers(**said):
    """``n01="glad"`` -> what holds of 01.png."""
    kinds = {"skip": ("skip", None), "reject": ("reject", None)}
    found = {}
    for number, (name, what) in enumerate(said.items()):
        kind, label = kinds.get(what, ("label", what))
        found[f"{name[1:]}.png"] = Answer(number + 1, number, kind, label, "")
    return found


@pytest.fixture
def some():
    return answers(n01="sad", n02="glad", n03="skip", n04="reject", n11="sad")


class TestListOfLabels:
    def test_the_reader_of_labels_reads_what_was_said(self, folder, tmp_path, some):
        text, count = list_of_labels(read(folder, CLASSES), some)
        (tmp_path / "labels.csv").write_text(text)
        assert text == "path,label\n01.png,sad\n02.png,glad\n11.png,sad\n"
        assert count == 3
        table = with_classes(folders.read(folder), tmp_path / "labels.csv")
        hashes = np.zeros((len(table), 16), np.uint8)
        rows, targets = read_chosen(tmp_path / "labels.csv", table, hashes)
        assert rows.tolist() == [1, 2, 11]
        assert [table.classes[t] for t in targets] == ["sad", "glad", "sad"]

    def test_labels_by_folder_are_kept(self, folder, tmp_path, some):
        draw(folder / "glad", 2)
        draw(folder / "sad", 1)
        draw(folder / "val" / "sad", 1)
        text, count = list_of_labels(read(folder, CLASSES), some)
        (tmp_path / "labels.csv").write_text(text)
        assert count == 6
        table = folders.read(folder)
        rows, targets = read_chosen(
            tmp_path / "labels.csv", table, np.zeros((len(table), 16), np.uint8)
        )
        found = {table.names[r]: table.classes[t] for r, t in zip(rows, targets, strict=True)}
        assert found["glad/01.png"] == "glad"
        assert found["sad/00.png"] == found["01.png"] == "sad"
        assert len(found) == 6

    def test_any_name_is_read_back(self, folder, tmp_path):
        (folder / "sub").mkdir()
        for row, name in enumerate(ODD):
            (folder / f"{row:02}.png").rename(folder / name)
        (folder / "sub").rename(folder / "unlabeled")
        odd = [name.replace("sub/", "unlabeled/") for name in ODD]
        said = {name: Answer(n, n, "label", CLASSES[n % 2], "") for n, name in enumerate(odd)}
        (tmp_path / "labels.csv").write_text(list_of_labels(read(folder, CLASSES), said)[0])
        table = with_classes(folders.read(folder), tmp_path / "labels.csv")
        rows, _ = read_chosen(tmp_path / "labels.csv", table, np.zeros((len(table), 16), np.uint8))
        assert sorted(table.names[row] for row in rows) == sorted(odd)

    def test_files_that_are_gone_are_not_listed(self, folder, some):
        (folder / "01.png").unlink()
        assert list_of_labels(read(folder, CLASSES), some)[1] == 2

    def test_nothing_to_write_is_refused(self, folder):
        with pytest.raises(UserError, match="--export: no face has a label yet"):
            list_of_labels(read(folder, CLASSES), answers(n01="skip"))


class TestTableOfFaces:
    @pytest.mark.parametrize("place", [".", "faces", "tables/deep"])
    def test_what_is_not_a_face_is_left_out_and_the_rest_is_unlabeled(
        self, folder, tmp_path, some, place
    ):
        file = tmp_path / place / "table.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        text, count = table_of_faces(read(folder, CLASSES), some, file)
        file.write_text(text)
        table = tabular.read(file)
        found = {
            name.split("/")[-1]: int(t) for name, t in zip(table.names, table.targets, strict=True)
        }
        assert len(found) == 11
        assert "04.png" not in found
        labels = {n: table.classes[t] for n, t in found.items() if t != UNKNOWN}
        assert labels == {"01.png": "sad", "02.png": "glad", "11.png": "sad"}
        assert count == 3
        assert all((table.root / name).is_file() for name in table.names)

    def test_parts_and_labels_of_the_folder_are_kept(self, folder, tmp_path, some):
        draw(folder / "val" / "sad", 2)
        draw(folder / "test" / "glad", 1)
        draw(folder / "glad", 1)
        file = tmp_path / "table.csv"
        text, count = table_of_faces(read(folder, CLASSES), some, file)
        file.write_text(text)
        table, whole = tabular.read(file), folders.read(folder)
        assert [len(table.rows(p)) for p in ("train", "validation", "test")] == [12, 2, 1]
        rows = table.rows("validation")
        assert {table.classes[t] for t in table.targets[rows]} == {"sad"}
        assert count == 4
        assert len(whole) == len(table) + 1

    def test_nothing_to_write_is_refused(self, folder, tmp_path):
        with pytest.raises(UserError, match="--export: no face has a label yet"):
            table_of_faces(read(folder, CLASSES), {}, tmp_path / "table.csv")


class TestReplaceOwn:
    def test_it_is_written_and_written_again(self, open_journal, tmp_path):
        file = tmp_path / "out.csv"
        for text in ("path,label\na,b\n", "path,label\na,c\n"):
            replace_own(file, text, open_journal())
            assert file.read_text() == text

    @pytest.mark.parametrize("before", [False, True])
    def test_what_somebody_else_wrote_stays(self, open_journal, tmp_path, before):
        file, journal = tmp_path / "out.csv", open_journal()
        if before:
            replace_own(file, "path,label\na,b\n", journal)
        file.write_text("mine")
        with pytest.raises(UserError, match=r"out.csv is there and holds something else"):
            replace_own(file, "path,label\na,c\n", journal)
        assert file.read_text() == "mine"
