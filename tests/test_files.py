from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from leaf_fer.errors import UserError
from leaf_fer.files import replacing, write_atomically, write_json


def test_a_file_has_its_content_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "a.bin", b"content")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"content")]


def test_an_old_file_is_replaced(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"a longer old content")
    write_atomically(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_a_reader_that_opened_the_old_file_keeps_it_whole(tmp_path):
    write_atomically(tmp_path / "a.bin", b"old")
    with (tmp_path / "a.bin").open("rb") as reader:
        write_atomically(tmp_path / "a.bin", b"new")
        assert reader.read() == b"old"


def test_a_failure_keeps_the_old_file_and_removes_the_part(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.bin", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.bin: cannot be written: No space left on device"):
        write_atomically(tmp_path / "a.bin", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "a.bin", b"new")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        write_atomically(tmp_path / "file" / "a.bin", b"new")


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / ("a" * 300), b"new")


def test_a_folder_in_place_of_the_file_is_refused_and_the_part_removed(tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "a.bin", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.bin"]


def test_what_another_program_writes_is_whole_or_not_there(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"old")

    def fail():
        with replacing(tmp_path / "a.onnx") as file:
            assert file.suffix == ".onnx"
            file.write_bytes(b"a part")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.onnx", b"old")]
    with replacing(tmp_path / "a.onnx") as file:
        file.write_bytes(b"new")
        assert (tmp_path / "a.onnx").read_bytes() == b"old"
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.onnx", b"new")]


def test_json_comes_back(tmp_path):
    content = {"name": "Überraschung", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "a.json", content)
    assert json.loads(Path(tmp_path / "a.json").read_bytes()) == content
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n")
