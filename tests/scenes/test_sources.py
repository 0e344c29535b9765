from pathlib import Path

import pytest

from leaf_fer.errors import UserError
from leaf_fer.scenes.sources import find_sources


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def test_folders_below_a_folder_are_kept_so_that_classes_are(tmp_path):
    top = touched(tmp_path, "happy/b.jpg", "happy/a.png", "c.mp4", ".hidden.png", "notes.txt")
    found = find_sources([top])
    assert list(found) == [tmp_path / name for name in ("c.mp4", "happy/a.png", "happy/b.jpg")]
    assert list(found.values()) == ["c", "happy/a", "happy/b"]


def test_files_have_the_names_that_they_are_called_by(tmp_path):
    top = touched(tmp_path, "x/a.jpg")
    assert find_sources([f"{top}/x/a.jpg", "missing.png"]) == {
        tmp_path / "x" / "a.jpg": "a",
        Path("missing.png"): "missing",
    }


def test_no_two_files_have_one_name(tmp_path):
    top = touched(tmp_path, "a.jpg", "a.png", "A.bmp", "x/a.jpg", "y/a.jpg", "y/a_jpg.png")
    asked = [f"{top}/{name}" for name in ("a.jpg", "a.png", "A.bmp", "x/a.jpg", "y/a.jpg")]
    names = list(find_sources([*asked, f"{top}/y/a_jpg.png", *asked[:1]]).values())
    assert names == ["a", "a_png", "A_bmp", "a_jpg", "a_2", "a_jpg_png"]
    assert len({name.lower() for name in names}) == 6


def test_crops_of_hidden_files_are_not_hidden():
    assert list(find_sources([".a.jpg", "..."]).values()) == ["a", "face"]


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="no photos or videos there"):
        find_sources([str(tmp_path)])
