import csv
import json
from pathlib import Path

import pytest

from leaf_fer.errors import UserError
from leaf_fer.rows import GROUP, Rows, style_of

COLUMNS = {"name": str, "count": int, "share": float}


class Thing:
    def __init__(self, name, count=None, share=None):
        self.cells = [name, count, share]

    def text(self):
        return f"thing {self.cells[0]}"

    def nested(self):
        return dict(zip(COLUMNS, self.cells, strict=True))

    def flat(self):
        return self.cells


THINGS = [Thing("ä, b", 3, 0.25), Thing("c")]


def written(style, out, things=THINGS):
    with Rows(style, COLUMNS, out) as rows:
        for thing in things:
            rows.add(thing)


@pytest.mark.parametrize("printed", [True, False])
def test_every_style_holds_the_rows(tmp_path, capsys, printed):
    def text(style):
        out = None if printed else tmp_path / "rows"
        written(style, out)
        return capsys.readouterr().out if printed else out.read_text(encoding="utf-8")

    values = [
        {"name": "ä, b", "count": 3, "share": 0.25},
        {"name": "c"} | dict.fromkeys(("count", "share")),
    ]
    assert text("table") == "thing ä, b\nthing c\n"
    assert json.loads(text("json")) == values
    assert [json.loads(line) for line in text("jsonl").splitlines()] == values
    found = list(csv.reader(text("csv").splitlines()))
    assert found == [list(COLUMNS), ["ä, b", "3", "0.25"], ["c", "", ""]]
    assert list(tmp_path.iterdir()) == ([] if printed else [tmp_path / "rows"])


def test_parquet_holds_the_rows_with_their_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    many = [Thing(str(number), number, number / 2) for number in range(GROUP + 5)]
    written("parquet", tmp_path / "rows.parquet", [*many, Thing("last")])
    file = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert file.num_row_groups == 2
    assert [str(kind) for kind in file.schema_arrow.types] == ["string", "int64", "double"]
    found = file.read().to_pylist()
    assert found[:-1] == [thing.nested() for thing in many]
    assert found[-1] == {"name": "last", "count": None, "share": None}


@pytest.mark.parametrize("style", ["table", "json", "jsonl", "csv", "parquet"])
def test_no_rows_are_a_whole_file_too(tmp_path, style):
    if style == "parquet":
        pytest.importorskip("pyarrow")
    written(style, tmp_path / "rows", [])
    assert (tmp_path / "rows").is_file()
    if style == "json":
        assert json.loads((tmp_path / "rows").read_text()) == []


@pytest.mark.parametrize("style", ["table", "json", "csv", "parquet"])
def test_what_is_interrupted_leaves_the_old_file(tmp_path, style):
    if style == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "rows"
    out.write_text("old")

    def things():
        yield THINGS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(style, out, things())
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("style", ["csv", "parquet"])
def test_a_file_that_cannot_be_written_is_named(tmp_path, style):
    if style == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "nowhere" / "rows"
    with pytest.raises(UserError, match=r"nowhere/rows: cannot be written: "):
        written(style, out)


@pytest.mark.parametrize(
    ("asked", "out", "style"),
    [
        (None, None, "table"),
        ("csv", None, "csv"),
        (None, "a.CSV", "csv"),
        (None, "a.json", "json"),
        (None, "a.jsonl", "jsonl"),
        (None, "a.pq", "parquet"),
        ("jsonl", "a.txt", "jsonl"),
    ],
)
def test_the_style_is_what_is_asked_for_or_what_the_name_says(asked, out, style):
    assert style_of(asked, out and Path(out)) == style


def test_a_style_that_is_not_known_is_asked_for():
    with pytest.raises(UserError, match=r"--out a.txt: expected a name that ends in .json, .jsonl"):
        style_of(None, Path("a.txt"))
    with pytest.raises(UserError, match=r"--format parquet: expected --out FILE\.parquet as"):
        style_of("parquet", None)
