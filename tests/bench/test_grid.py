import pytest

from leaf_fer.bench import grid
from leaf_fer.errors import UserError


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe and reads it."""

    def make(text):
        (tmp_path / "mine.yaml").write_text(text)
        return grid.read_recipe(str(tmp_path / "mine.yaml"))

    return make


def settings(cells, *names):
    return [tuple(cell.config.to_dict()[name] for name in names) for cell in cells]


TWO = "common: {data: synthetic}\ngrid: {method: [leaf, fixmatch], labels: [40, 80]}\n"


def test_a_grid_is_the_product_of_its_lists_for_each_seed(recipe):
    cells = grid.expand(recipe(TWO), [3, 5])
    assert settings(cells, "seed", "split_seed", "method", "labels") == [
        (seed, seed, method, labels)
        for seed in (3, 5)
        for method in ("leaf", "fixmatch")
        for labels in ("40", "80")
    ]


def test_a_row_wins_over_the_grid_and_is_combined_with_the_rest_of_it(recipe):
    text = TWO + "rows:\n- {eaf: none}\n- {method: [supervised], labels: none}\n"
    cells = grid.expand(recipe(text), [0])
    assert settings(cells, "method", "labels", "eaf") == [
        ("leaf", "40", "none"),
        ("leaf", "80", "none"),
        ("fixmatch", "40", "none"),
        ("fixmatch", "80", "none"),
        ("supervised", None, "none"),
    ]


def test_what_is_said_for_one_data_set_wins_over_the_grid_but_not_over_rows(recipe):
    cells = grid.expand(
        recipe(
            "grid: {data: [rafdb, ferplus], labels: [40, 80]}\n"
            "per_data: {ferplus: {labels: [100], steps: 7}}\n"
            "rows:\n- {}\n- {labels: none}\n"
        ),
        [0],
    )
    assert settings(cells, "data", "labels", "steps") == [
        ("rafdb", "40", None),
        ("rafdb", "80", None),
        ("ferplus", "100", 7),
        ("rafdb", None, None),
        ("ferplus", None, 7),
    ]


def test_a_cell_that_two_rows_describe_is_there_once(recipe):
    rows = "rows:\n- {method: fixmatch}\n- {method: fixmatch, threshold: 0.95}\n"
    assert len(grid.expand(recipe("common: {data: synthetic}\n" + rows), [0])) == 1


def test_the_name_of_a_cell_says_what_it_is_and_depends_on_every_option(recipe):
    (one,) = grid.expand(recipe("common: {data: synthetic:400, labels: 40}\n"), [2])
    assert one.name.startswith("leaf-synthetic-400-40-s2-")
    (other,) = grid.expand(recipe("common: {data: synthetic:400, labels: 40, mass: 0.8}\n"), [2])
    assert other.name != one.name


def test_the_name_of_a_cell_does_not_depend_on_the_machine(recipe):
    (here,) = grid.expand(recipe("common: {data: ferplus, labels: 40}\n"), [0])
    there = "cache: c, workers: 2, device: cpu, eval_batch_size: 7"
    (elsewhere,) = grid.expand(recipe(f"common: {{data: ferplus, labels: 40, {there}}}\n"), [0])
    assert here.name == elsewhere.name


def test_every_machine_option_is_one_of_leaf_train():
    assert set(grid.MACHINE) <= {option.name for option in grid.SETTINGS}


def test_only_keeps_the_cells_with_the_options_asked_for(recipe):
    cells = grid.expand(recipe(TWO + "rows:\n- {eaf: ['semantic,instance', none]}\n"), [0])
    kept = grid.select(cells, ["method=leaf,fixmatch", "labels=80", "eaf=semantic,instance"])
    assert settings(kept, "method", "labels", "eaf") == [
        ("leaf", "80", "semantic,instance"),
        ("fixmatch", "80", "semantic,instance"),
    ]
    assert settings(grid.select(cells, ["threshold=0.95", "eaf=none"]), "method") == [
        ("fixmatch",),
        ("fixmatch",),
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("method", "--only method: expected OPTION=VALUE"),
        ("method=leaf,fixmach", "--only method=leaf,fixmach: its values here: fixmatch; leaf"),
        ("tresh=1", "--only tresh=1: no cell has this option"),
    ],
)
def test_only_refuses_what_no_cell_has(recipe, word, message):
    with pytest.raises(UserError, match=message):
        grid.select(grid.expand(recipe(TWO), [0]), [word])


def test_a_key_stands_for_the_data_where_it_lies(recipe):
    data = "[ferplus, mine, synthetic, 'folder:a']"
    cells = grid.expand(recipe(f"grid: {{data: {data}}}\n"), [0])
    assert grid.places(cells, ["ferplus=/x=y", "mine=csv:b.csv", "rafdb=unused"]) == {
        "ferplus": "ferplus:/x=y",
        "mine": "csv:b.csv",
        "synthetic": "synthetic",
        "folder:a": "folder:a",
    }


def test_a_key_without_a_path_is_an_error_unless_no_cell_is_left_of_it(recipe):
    cells = grid.expand(recipe("grid: {data: [rafdb, ferplus]}\n"), [0])
    with pytest.raises(UserError, match="--data ferplus=PATH is missing"):
        grid.places(cells, ["rafdb=x"])
    assert grid.places(grid.select(cells, ["data=rafdb"]), ["rafdb=x"]) == {"rafdb": "rafdb:x"}
    with pytest.raises(UserError, match="--data x: expected KEY=PATH"):
        grid.places(cells, ["x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common: {data: synthetic, tresh: 1}", "method leaf: --tresh: unknown option; did you"),
        ("common: {data: synthetic, method: leav}", "method leav: --method leav: unknown method"),
        ("common: {data: synthetic}\ngrid: {mass: [0.9, 2]}", r"--mass 2: expected a number in"),
        ("common: {data: synthetic, labels: no.csv}", "--labels no.csv: expected a whole number"),
        ("common: {data: synthetic, seed: 1}", "common: seed is not allowed: seeds sets it"),
        ("common: {labels: 40}", "data is missing"),
        ("common: {data: synthetic}\nper_data: {rafdb: {mass: 1}}", "no cell has the data rafdb"),
        ("grid: {data: []}", "grid: data has no values"),
        ("grid: [1]", r"grid: expected a mapping of names to values, got \[1\]"),
        ("gird: {data: synthetic}", "gird: unknown section; known: like, title, seeds"),
        ("seeds: [-1]", "--seeds -1: expected a whole number >= 0"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_in_a_line_with_its_file(recipe, text, message):
    with pytest.raises(UserError, match=rf"^mine.yaml: .*{message}"):
        grid.expand(recipe(text), [0])


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(UserError, match="nothing: no such recipe; expected a YAML file or one of"):
        grid.read_recipe("nothing")


@pytest.mark.parametrize("file", sorted(grid.RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes_that_are_shipped_can_be_read(file):
    recipe = grid.read_recipe(file.stem)
    assert recipe.title != file.stem
    assert grid.expand(recipe, recipe.seeds)


def test_a_recipe_may_be_like_another_but_for_what_it_says(recipe, tmp_path):
    (tmp_path / "base.yaml").write_text(
        "common: {steps: 7, lr: 0.1}\ngrid: {data: [rafdb, ferplus], method: [leaf, fixmatch]}\n"
        "per_data: {rafdb: {steps: 9}}\nrows:\n- {}\n- {method: supervised, labels: none}\n"
    )
    like = f"like: {tmp_path / 'base.yaml'}\ncommon: {{lr: 0.2}}\ngrid: {{data: ferplus}}\n"
    cells = grid.expand(recipe(like + "per_data:\n"), [0])
    assert settings(cells, "data", "method", "steps", "lr") == [
        ("ferplus", "leaf", 7, 0.2),
        ("ferplus", "fixmatch", 7, 0.2),
        ("ferplus", "supervised", 7, 0.2),
    ]
    (tmp_path / "child.yaml").write_text(like)
    with pytest.raises(UserError, match=r"child\.yaml is itself like"):
        recipe(f"like: {tmp_path / 'child.yaml'}\n")


@pytest.mark.parametrize(
    ("name", "combinations"),
    [
        ("table1", 12 * 20 + 4),  # 19 methods and supervised; all labels once per data set
        ("table2", 12 * 3),
        ("table3", 2 * 5),
        ("fig4", 7 * 22),
        ("fig6", 8 * 2),
        ("fig7", 2 * 3 * 2),
    ],
)
def test_recipes_of_the_paper_have_all_of_its_cells(name, combinations):
    recipe = grid.read_recipe(name)
    cells = grid.expand(recipe, [0, 1, 2])
    assert len(cells) == 3 * combinations
    assert {size for (size,) in settings(cells, "image_size")} == {224}
    assert set(settings(cells, "backbone", "epochs", "batch_size", "lr")) == {
        ("resnet18", 20, 64, 0.0005)
    }


def test_listings_show_the_options_that_the_recipe_varies(recipe):
    rows = "rows:\n- {method: leaf, eaf: none}\n- {method: fixmatch, threshold: 0.9}\n"
    cells = grid.expand(recipe("common: {data: synthetic, steps: 3}\n" + rows), [0])
    assert grid.varied(cells) == ["eaf", "threshold"]
