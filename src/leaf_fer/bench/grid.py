"""From a recipe to cells: which training runs make up an experiment. Imports no torch."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaf_fer.config import SETTINGS, Config, budget, configure, read_yaml
from leaf_fer.errors import UserError

RECIPES = Path(__file__).parent / "recipes"

PUBLISHED = ("rafdb", "ferplus", "affectnet7", "affectnet8")
"""Data sets whose key is also the kind that reads them."""

SECTIONS = ("like", "title", "seeds", "common", "grid", "rows", "per_data")

MACHINE = (
    *("cache", "workers", "device", "devices", "eval_batch_size", "watch_unlabeled"),
    *("compile", "channels_last", "fused", "prefetch", "resident", "report"),
)
"""Options that say how a cell is computed or watched, not what it is; others are the same cell."""

Choices = dict[str, list[Any]]
"""Options, each with the values that it takes in turn."""


@dataclass(frozen=True)
class Recipe:
    """A recipe as its file has it.

    Attributes:
        file: for messages.
        title: what the experiment is, in one line.
        seeds: a cell for each.
        choices: what ``common`` and ``grid`` say, the latter winning.
        rows: option sets that are each combined with the choices, and win over them.
        per_data: by data set, choices that win over those for all.
    """

    file: Path
    title: str
    seeds: list[int]
    choices: Choices
    rows: list[Choices]
    per_data: dict[str, Choices]


@dataclass(frozen=True)
class Cell:
    """One training run of a grid.

    Attributes:
        name: of its folder; the same for the same experiment, wherever the data lies.
        config: everything about it, but ``data`` is what the recipe says, which may be a key.
        given: what the recipe says about it.
    """

    name: str
    config: Config
    given: Mapping[str, Any]


def read_recipe(word: str) -> Recipe:
    """Read a recipe that ships with the package, by its name, or a YAML file.

    Raises:
        UserError: there is no such recipe, or it is not built like one.
    """
    file = _find(word)
    try:
        values = _sections(file)
        if "like" in values:
            values = _over(_sections(_find(str(values["like"]))), values)
        return Recipe(
            file,
            str(values.get("title", file.stem)),
            seeds(_listed(values.get("seeds", 0))),
            _choices("common", values.get("common", {})) | _choices("grid", values.get("grid", {})),
            [_choices("rows", row) for row in _listed(values.get("rows", {}))],
            {
                str(data): _choices(f"per_data {data}", options)
                for data, options in _mapping("per_data", values.get("per_data", {})).items()
            },
        )
    except UserError as error:
        raise _at(file, str(error).removeprefix(f"--config {file}: ")) from None


def seeds(words: Sequence[Any]) -> list[int]:
    """Check seeds.

    Raises:
        UserError: not a whole number >= 0.
    """
    (seed,) = (option for option in SETTINGS if option.name == "seed")
    try:
        return [seed.parse(word) for word in words]
    except UserError as error:
        raise UserError(str(error).replace("--seed", "--seeds", 1)) from None


def expand(recipe: Recipe, seeds: Sequence[int]) -> list[Cell]:
    """All cells of a recipe, each once: those of the first seed first.

    Raises:
        UserError: an unknown option or a value that is not allowed, with the recipe's name.
    """
    cells = {}
    for seed, options in itertools.product(seeds, list(_combinations(recipe))):
        try:
            config = configure(options, {"seed": seed, "split_seed": seed})
            budget(config.settings.labels)
        except UserError as error:
            raise _at(recipe.file, f"method {options.get('method', 'leaf')}: {error}") from None
        cell = Cell(_name(config), config, options)
        cells[cell.name] = cell
    return list(cells.values())


def select(cells: list[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that ``--only OPTION=VALUE[,VALUE...] ...`` leaves.

    Raises:
        UserError: a value that no cell has.
    """
    for word in only:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--only {word}: expected OPTION=VALUE[,VALUE...]")
        name = name.replace("-", "_")
        values = {
            cell.name: shown(cell.config.to_dict()[name])
            for cell in cells
            if name in cell.config.to_dict()
        }
        there = sorted(set(values.values()))
        wanted = {text} if text in there else set(text.split(","))
        if not wanted <= set(there):
            has = f"its values here: {'; '.join(there)}" if there else "no cell has this option"
            raise UserError(f"--only {word}: {has}")
        cells = [cell for cell in cells if values.get(cell.name) in wanted]
    return cells


def varied(cells: Sequence[Cell]) -> list[str]:
    """Options that the recipe varies and that the names of cells do not say."""
    names = dict.fromkeys(name for cell in cells for name in cell.given)
    return [
        name
        for name in names
        if name not in ("data", "method", "labels")
        and len({str(cell.given.get(name)) for cell in cells}) > 1
    ]


def shown(value: Any) -> str:
    """A value as people write it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def places(cells: Sequence[Cell], given: Sequence[str]) -> dict[str, str]:
    """Data as the cells name it -> data as ``leaf train`` wants it.

    Args:
        cells: what will run.
        given: words ``KEY=PATH``.

    Raises:
        UserError: a key without a path.
    """
    paths = {}
    for word in given:
        key, equals, path = word.partition("=")
        if not (key and equals and path):
            raise UserError(f"--data {word}: expected KEY=PATH")
        paths[key] = f"{key}:{path}" if key in PUBLISHED else path
    found = {}
    for key in dict.fromkeys(cell.config.settings.data for cell in cells):
        plain = ":" in key or key == "synthetic"
        if not plain and key not in paths:
            raise UserError(f"--data {key}=PATH is missing: the recipe has cells on {key}")
        found[key] = key if plain else paths[key]
    return found


def _find(word: str) -> Path:
    """The file of a recipe."""
    shipped = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    file = shipped.get(word, Path(word))
    if not file.is_file():
        known = ", ".join(shipped)
        raise UserError(f"{word}: no such recipe; expected a YAML file or one of {known}")
    return file


def _sections(file: Path) -> dict[str, Any]:
    values = read_yaml(str(file))
    unknown = [name for name in values if name not in SECTIONS]
    if unknown:
        raise UserError(f"{unknown[0]}: unknown section; known: {', '.join(SECTIONS)}")
    return values


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe on top of the one that it is like: mappings are joined, all else is replaced.

    A section that is empty leaves that of the other one out.

    Raises:
        UserError: the other one is itself like a third.
    """
    if "like" in base:
        raise UserError(f"like: {values['like']} is itself like {base['like']}")
    joined = {
        name: {**base[name], **value}
        if isinstance(value, dict) and isinstance(base.get(name), dict)
        else value
        for name, value in values.items()
    }
    return {name: value for name, value in {**base, **joined}.items() if value is not None}


def _combinations(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The options of every cell but for the seeds, row by row."""
    unused = set(recipe.per_data)
    for row in recipe.rows:
        for data in (recipe.choices | row).get("data", [""]):
            if not data:
                raise _at(recipe.file, "data is missing: expected it in common, grid or rows")
            unused.discard(str(data))
            choices = recipe.choices | recipe.per_data.get(str(data), {}) | row | {"data": [data]}
            for values in itertools.product(*choices.values()):
                yield dict(zip(choices, values, strict=True))
    if unused:
        raise _at(recipe.file, f"per_data: no cell has the data {min(unused)}")


def _name(config: Config) -> str:
    """``leaf-ferplus-100-s0-1a2b3c4d``: what people look for, and a hash of everything."""
    s = config.settings
    labels = Path(s.labels).stem if s.labels else "all"
    words = re.sub(r"[^\w.-]+", "-", f"{s.method}-{Path(s.data).name}-{labels}-s{s.seed}")
    decisive = {k: v for k, v in config.to_dict().items() if k not in MACHINE}
    text = json.dumps(decisive, sort_keys=True)
    return f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _choices(section: str, values: Any) -> Choices:
    """A mapping of options to a value each, or to a list of values."""
    choices = {
        str(name).replace("-", "_"): _listed(value)
        for name, value in _mapping(section, values).items()
    }
    for name, listed in choices.items():
        if name in ("seed", "split_seed"):
            raise UserError(f"{section}: {name} is not allowed: seeds sets it")
        if not listed:
            raise UserError(f"{section}: {name} has no values")
    return choices


def _mapping(section: str, values: Any) -> Mapping[Any, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{section}: expected a mapping of names to values, got {values}")
    return values


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _at(file: Path, problem: str) -> UserError:
    return UserError(f"{file.name}: {problem}")
