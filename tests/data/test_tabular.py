import builtins

import pytest

from leaf_fer.data.table import UNKNOWN
from leaf_fer.data.tabular import read
from leaf_fer.errors import UserError


def labels(table):
    """Class name (None without a label) by name."""
    known = zip(table.names, table.targets, strict=True)
    return {name: None if t == UNKNOWN else table.classes[t] for name, t in known}


def parts(table):
    return {part: [table.names[row] for row in table.rows(part)] for part in ("train", "test")} | {
        "validation": [table.names[row] for row in table.rows("validation")]
    }


def table_of(tmp_path, text, name="faces.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read(file)


def test_a_table_gives_labels_and_parts(tmp_path):
    text = "path,label,split\na.jpg,happy,train\nb.jpg,sad,Test\nc.jpg,,val\nd.jpg,,\n"
    table = table_of(tmp_path, text)
    assert list(labels(table).values()) == ["happiness", "sadness", None, None]
    assert parts(table) == {
        "train": ["a.jpg", "d.jpg"],
        "validation": ["c.jpg"],
        "test": ["b.jpg"],
    }


def test_the_column_split_may_be_missing(tmp_path):
    assert table_of(tmp_path, "label,path\nhappy,a.jpg\n").rows("train").size == 1


def test_paths_start_at_the_folder_of_the_table(tmp_path):
    table = table_of(tmp_path, "path,label\n./faces//a.jpg,happy\n")
    assert table.root == tmp_path
    assert table.names == ["faces/a.jpg"]


def test_absolute_paths_become_relative_where_they_can(tmp_path):
    text = f"path,label\n{tmp_path}/a.jpg,happy\n/elsewhere/b.jpg,sad\n"
    assert table_of(tmp_path, text).names == ["a.jpg", "/elsewhere/b.jpg"]


def test_numbers_are_names_of_classes(tmp_path):
    assert table_of(tmp_path, "path,label\na.jpg,1\nb.jpg,0\n").classes == ("0", "1")


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    assert table_of(tmp_path, "\ufeffPath, Label\r\n\r\na.jpg, happy\r\n").names == ["a.jpg"]


def test_names_may_be_quoted_and_in_any_script(tmp_path):
    assert table_of(tmp_path, 'path,label\n"面,1.jpg",happy\n').names == ["面,1.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", r"line 1: expected the columns path,label\[,split\], got 'file,label'"),
        ("", r"expected the columns path,label\[,split\], got ''"),
        ("path,label\n", r"expected at least one face, found only a header"),
        ("path,label\na.jpg,happy\nb.jpg\n", r"line 3: expected 2 cells, got 1"),
        ("path,label\n,happy\n", r"line 2: the path is empty"),
        ("path,label,split\na,b,dev\n", r"line 2: split 'dev': expected train, val, test"),
        ('path,label\n"a,b\n', r"line 2: unexpected end of data"),
    ],
)
def test_a_bad_table_is_told_where(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        table_of(tmp_path, text)


def test_a_repeated_path_names_both_lines(tmp_path):
    text = "path,label\na.jpg,happy\n./a.jpg,sad\n"
    with pytest.raises(UserError, match=r"line 3: \./a\.jpg is listed twice, first in .*, line 2"):
        table_of(tmp_path, text)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "faces.csv").write_bytes("path,label\né.jpg,happy\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"faces\.csv: expected a table in UTF-8"):
        read(tmp_path / "faces.csv")


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(UserError, match="expected a table of faces, found nothing there"):
        read(tmp_path / "faces.csv")


def test_parquet_reads_like_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "path": ["a.jpg", "b.jpg", "c.jpg"],
        "more": [b"", b"", b""],
        "label": ["happy", None, "sad"],
        "split": ["train", None, "test"],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "faces.parquet")
    table = read(tmp_path / "faces.parquet")
    assert labels(table) == {"a.jpg": "happiness", "b.jpg": None, "c.jpg": "sadness"}
    assert parts(table)["test"] == ["c.jpg"]


def test_numbers_in_parquet_with_gaps_are_names_of_classes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [1.0, float("nan"), 0.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "faces.parquet")
    assert list(labels(read(tmp_path / "faces.parquet")).values()) == ["1", None, "0"]


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=r"faces\.parquet: expected a Parquet file"):
        table_of(tmp_path, "path,label\n", "faces.parquet")


def test_parquet_without_pyarrow_tells_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(UserError, match=r"pip install leaf-fer\[parquet\]"):
        table_of(tmp_path, "", "faces.parquet")
