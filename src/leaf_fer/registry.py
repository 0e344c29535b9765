"""What the methods are and which options they take, read from their source without running it.

Importing a method imports torch, which takes seconds; help and usage errors must not wait for it.
The source is the only description there is: names come from the table ``ALGORITHMS``, options from
the keyword-only parameters of the constructors, their help from the docstrings.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from leaf_fer.errors import UserError
from leaf_fer.options import Option, describe, documented, evaluate, suggestion

_FOLDER = Path(__file__).parent / "algorithms"


@dataclass(frozen=True)
class Method:
    """A method as its source describes it.

    Attributes:
        key: the name in ``ALGORITHMS``.
        name: the class.
        doc: the docstring: paper, equation, deviations, options.
        views: labeled and unlabeled views, as in :class:`~leaf_fer.types.Views`.
        recipe: settings of the model and the optimizer that belong to it.
        options: its own options.
    """

    key: str
    name: str
    doc: str
    views: tuple[str, str]
    recipe: dict[str, Any]
    options: list[Option]

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())


@cache
def methods() -> dict[str, Method]:
    """All methods by key, in the order of the table."""
    table = ast.parse((_FOLDER / "__init__.py").read_text(encoding="utf-8"))
    source = {
        name.name: (node.module or "").rpartition(".")[2]
        for node in table.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    (names,) = (
        node.value
        for node in table.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "ALGORITHMS"
    )
    assert isinstance(names, ast.Dict)
    found = {}
    for key, value in zip(names.keys, names.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(value, ast.Name)
        found[str(key.value)] = _method(str(key.value), value.id, source[value.id])
    return found


def method(key: str) -> Method:
    """Look a method up.

    Raises:
        UserError: there is none of this name; says which there are.
    """
    if key not in methods():
        raise UserError(f"--method {key}: unknown method; {suggestion(key, methods())}")
    return methods()[key]


def _method(key: str, name: str, module: str) -> Method:
    """Read one class, and what it inherits from classes in the same file."""
    tree = ast.parse((_FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    lineage = [classes[name]]
    while (base := getattr(lineage[-1].bases[0], "id", "")) in classes:
        lineage.append(classes[base])
    options: dict[str, Option] = {}
    recipe: dict[str, Any] = {}
    views = ("w", "")
    for node in reversed(lineage):
        texts = documented(ast.get_docstring(node) or "", "Args:")
        for option in _constructor_options(node, texts):
            known = options.get(option.name)
            if known and option.help.startswith("see :class:"):
                option = Option(**{**vars(option), "help": known.help})
            options[option.name] = option
        recipe = _constant(node, "recipe", recipe)
        views = _views(node, views)
    doc = ast.get_docstring(lineage[0]) or ""
    return Method(key, name, doc, views, recipe, list(options.values()))


def _constructor_options(node: ast.ClassDef, texts: dict[str, str]) -> list[Option]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            pairs = zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True)
            return [
                describe(evaluate(a.annotation), a.arg, ast.literal_eval(d), texts.get(a.arg, ""))
                for a, d in pairs
                if a.annotation is not None and d is not None
            ]
    return []


def _constant(node: ast.ClassDef, name: str, default: Any) -> Any:
    """The literal that a class assigns to ``name``, or ``default``."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and getattr(item.target, "id", "") == name:
            assert item.value is not None
            return ast.literal_eval(item.value)
    return default


def _views(node: ast.ClassDef, default: tuple[str, str]) -> tuple[str, str]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and getattr(item.target, "id", "") == "views":
            assert isinstance(item.value, ast.Call)
            given = {k.arg: ast.literal_eval(k.value) for k in item.value.keywords}
            return given.get("labeled", "w"), given.get("unlabeled", "")
    return default
