"""What the methods are and which options they take, read from their source without running it.

Importing a method imports torch, which takes seconds; help and usage errors must not wait for it.
The source is the only description there is: names come from the table ``ALGORITHMS``, options from
the keyword-only parameters of the constructors, their help from the docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from leaf_fer.errors import UserError
from leaf_fer.options import Option, describe, documented, evaluate, suggestion

_PACKAGE = Path(__file__).parent
_PAPER = re.compile(r"\(([^()]+), (\d{4})(?:, (arXiv:[\d.]+))?[^()]*\)")


@dataclass(frozen=True)
class Method:
    """A method as its source describes it.

    Attributes:
        key: the name in ``ALGORITHMS``.
        name: the class.
        doc: the docstring: paper, equation, deviations, options.
        views: labeled and unlabeled views, as in :class:`~leaf_fer.types.Views`.
        passes: what a step costs, as in :class:`~leaf_fer.algorithm.Algorithm`.
        state: what is remembered from step to step, in words.
        recipe: settings of the model and the optimizer that belong to it.
        options: its own options.
    """

    key: str
    name: str
    doc: str
    views: tuple[str, str]
    passes: tuple[int, int, int]
    state: str
    recipe: dict[str, Any]
    options: list[Option]

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())

    @property
    def paper(self) -> tuple[str, str, str]:
        """Authors, year and arXiv id as the summary has them; empty where it has none."""
        found = _PAPER.search(self.summary)
        return (found[1], found[2], found[3] or "") if found else ("", "", "")

    @property
    def cost(self) -> float:
        """Computing per step relative to supervised training with one unlabeled image per labeled.

        A pass with backward counts three times a pass without.
        """
        labeled, forward, backward = self.passes
        return (3 * labeled + forward + 3 * backward) / 3


BASELINE = "supervised"
"""The method that all others are compared with."""


def methods() -> dict[str, Method]:
    """All semi-supervised methods by key, in the order of the table."""
    return _table("leaf_fer.algorithms.__init__", "ALGORITHMS")


def pretraining() -> dict[str, Method]:
    """All ways to train an encoder without labels."""
    return _table("leaf_fer.pretraining.__init__", "PRETRAINING")


@cache
def _table(module: str, variable: str) -> dict[str, Method]:
    table = _parse(module)
    source = _imports(table)
    (names,) = (
        node.value
        for node in table.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == variable
    )
    assert isinstance(names, ast.Dict)
    found = {}
    for key, value in zip(names.keys, names.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(value, ast.Name)
        found[str(key.value)] = _method(str(key.value), value.id, source[value.id])
    return found


def method(key: str, among: Callable[[], dict[str, Method]] = methods) -> Method:
    """Look a method up.

    Args:
        key: its name.
        among: the table that it is in.

    Raises:
        UserError: there is none of this name; says which there are.
    """
    if key not in among():
        raise UserError(f"--method {key}: unknown method; {suggestion(key, among())}")
    return among()[key]


@cache
def _parse(module: str) -> ast.Module:
    """The syntax tree of a module of this package."""
    path = _PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> dict[str, str]:
    """Names that a module imports from others -> the modules."""
    return {
        name.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def _lineage(name: str, module: str) -> list[ast.ClassDef]:
    """A class and its ancestors within this package, the oldest first."""
    tree = _parse(module)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        module = _imports(tree).get(name, "")
        return _lineage(name, module) if module.startswith("leaf_fer.") else []
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
    return [*(_lineage(bases[0], module) if bases else []), classes[name]]


def _method(key: str, name: str, module: str) -> Method:
    """Read one class, and what it inherits."""
    lineage = _lineage(name, module)
    options: dict[str, Option] = {}
    found: dict[str, Any] = {}
    for node in lineage:
        texts = documented(ast.get_docstring(node) or "", "Args:")
        for option in _constructor_options(node, texts):
            known = options.pop(option.name, None)
            if known and option.help.startswith("see :class:"):
                option = Option(**{**vars(option), "help": known.help})
            options[option.name] = option
        found |= _constants(node)
    doc = ast.get_docstring(lineage[-1]) or ""
    views, passes, state, recipe = (found[n] for n in ("views", "passes", "state", "recipe"))
    return Method(key, name, doc, views, passes, state, recipe, list(options.values()))


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


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    """What a class body assigns: literals, and views as two strings."""
    found = {}
    for item in node.body:
        if not isinstance(item, ast.Assign | ast.AnnAssign) or item.value is None:
            continue
        target = item.targets[0] if isinstance(item, ast.Assign) else item.target
        name, value = getattr(target, "id", ""), item.value
        if name == "views":
            assert isinstance(value, ast.Call)
            given = {k.arg: ast.literal_eval(k.value) for k in value.keywords}
            found[name] = (given.get("labeled", "w"), given.get("unlabeled", ""))
        elif name in ("passes", "state", "recipe"):
            found[name] = ast.literal_eval(value)
    return found
