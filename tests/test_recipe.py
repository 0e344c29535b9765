import json

import pytest

from leaf_fer.errors import UserError
from leaf_fer.recipe import FILE, Recipe, check_whole, common, compare, read, write


def crops(folder, recipe=None):
    folder.mkdir(parents=True, exist_ok=True)
    if recipe is not None:
        write(folder, recipe)
    return folder


def test_what_is_written_is_read(tmp_path):
    recipe = Recipe("box", 0.25, 96, "centerface")
    assert read(crops(tmp_path, recipe)) == recipe
    assert read(crops(tmp_path / "nothing")) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2}', '{"format": 1, "template": "arcface", "align": "ears"}'],
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=r"alignment\.json: damaged"):
        read(tmp_path)


@pytest.mark.parametrize("wrong", [{"align": "ears"}, {"margin": -0.1}, {"margin": 2}, {"size": 0}])
def test_values_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} "):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Recipe("points", 0.1, 224, "yunet"), True),
        (Recipe("points", 0.1, 112, None), True),
        (Recipe("points", 0.1, 112, "centerface"), False),
        (Recipe("points", 0.2, 112, "yunet"), False),
        (Recipe("box", 0.1, 112, "yunet"), False),
    ],
)
def test_recipes_fit_if_they_show_the_same_of_a_face(other, same, capsys):
    learned = Recipe("points", 0.1, 112, "yunet")
    assert learned.fits(other) is same
    assert compare(learned, other, "there") is same
    said = capsys.readouterr().err
    assert said.startswith("leaf: warning: there: faces cut by ") is not same
    if not same:
        assert f"cut by {other}; the model has learned from faces cut by {learned}" in said


def test_a_recipe_holds_for_the_folders_below(tmp_path):
    recipe = Recipe(size=64)
    crops(tmp_path, recipe)
    crops(tmp_path / "happy" / "more")
    crops(tmp_path / "sad")
    assert common(tmp_path, ["happy/more", "sad", ""]) == recipe


def test_nothing_above_the_data_is_asked(tmp_path):
    crops(tmp_path, Recipe())
    data = crops(tmp_path / "data")
    assert common(data, [""]) is None
    elsewhere = crops(tmp_path / "crops" / "happy")
    assert common(data, [str(elsewhere), "../crops/happy"]) == Recipe()


def test_faces_cut_in_different_ways_have_no_recipe_and_are_told(tmp_path, capsys):
    crops(tmp_path / "a", Recipe(margin=0.1))
    crops(tmp_path / "b", Recipe(margin=0.2))
    crops(tmp_path / "c")
    assert common(tmp_path, ["a"]) == Recipe(margin=0.1)
    assert capsys.readouterr().err == ""
    assert common(tmp_path, ["a", "b"]) is None
    assert "different ways: points, margin 0.1; points, margin 0.2\n" in capsys.readouterr().err
    assert common(tmp_path, ["a", "c"]) is None
    assert "points, margin 0.1; and others that nothing is known" in capsys.readouterr().err


def test_pictures_that_are_taken_whole_are_compared_with_what_a_model_knows(tmp_path, capsys):
    learned = Recipe(margin=0.1, detector="yunet")
    crops(tmp_path / "same", learned)
    crops(tmp_path / "other", Recipe(margin=0.3))
    crops(tmp_path / "photos")
    photo = str(tmp_path / "photos" / "a.jpg")
    check_whole(None, [photo])
    check_whole(learned, [str(tmp_path / "same" / "happy" / "a.png")])
    assert capsys.readouterr().err == ""
    check_whole(learned, [photo])
    assert "taken as they are; --detector auto finds" in capsys.readouterr().err
    check_whole(learned, [str(tmp_path / "other" / "a.png")])
    assert "faces cut by points, margin 0.3; the model" in capsys.readouterr().err


def test_the_file_is_json_for_other_programs(tmp_path):
    write(tmp_path, Recipe("points", 0.1, 112, "yunet"))
    assert json.loads((tmp_path / FILE).read_text()) == {
        "format": 1,
        "template": "arcface",
        "align": "points",
        "margin": 0.1,
        "size": 112,
        "detector": "yunet",
    }
