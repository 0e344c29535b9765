"""Options as data: one description serves the command line, YAML files, checks and help.

No torch here: a typing mistake must be answered at once.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from leaf_fer import ranges
from leaf_fer.errors import UserError
from leaf_fer.ranges import Range

_NAMES: dict[str, Any] = {**vars(ranges), "Literal": Literal, "Annotated": Annotated}


@dataclass(frozen=True)
class Option:
    """One option: a keyword with a type, a default and a sentence of help.

    Attributes:
        name: with underscores; on the command line with dashes.
        kind: ``int``, ``float``, ``bool`` or ``str``.
        default: the value when nobody says anything.
        help: one sentence.
        choices: the allowed words, or empty.
        range: the allowed numbers, or None.
        optional: whether ``none`` is allowed.
    """

    name: str
    kind: Callable[[Any], Any]
    default: Any
    help: str = ""
    choices: tuple[str, ...] = ()
    range: Range | None = None
    optional: bool = False

    @property
    def flag(self) -> str:
        """The spelling on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def allowed(self) -> str:
        """What values are allowed, for people."""
        if self.choices:
            text = "one of " + ", ".join(self.choices)
        elif self.kind is bool:
            text = "true or false"
        elif self.kind is str:
            text = "text"
        else:
            noun = "a whole number" if self.kind is int else "a number"
            text = f"{noun} {self.range}" if self.range else noun
        return f"{text}, or none" if self.optional else text

    def parse(self, value: Any) -> Any:
        """Turn text or a YAML value into a checked value.

        Raises:
            UserError: the value is not allowed; names the option, the value and what is.
        """
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            if self.optional:
                return None
            if "none" in self.choices:
                return "none"
            if value is None:
                raise self._refusal(value)
        try:
            parsed = self._convert(value)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise self._refusal(value) from None
        if self.choices and parsed not in self.choices:
            raise self._refusal(value)
        if self.range is not None and parsed not in self.range:
            raise self._refusal(value)
        return parsed

    def _convert(self, value: Any) -> Any:
        if self.kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if isinstance(value, (bool, list, dict)):
            raise TypeError
        if self.kind is int and isinstance(value, float):
            raise TypeError
        parsed = self.kind(value)
        if self.kind is float and not math.isfinite(parsed):
            raise ValueError
        return parsed

    def _refusal(self, value: Any) -> UserError:
        return UserError(f"{self.flag} {value}: expected {self.allowed}")


def describe(annotation: Any, name: str, default: Any, text: str = "") -> Option:
    """Make an option of a type annotation such as ``Fraction``, ``int | None`` or ``Literal``."""
    optional = False
    if get_origin(annotation) in (types.UnionType, Union):
        parts = [a for a in get_args(annotation) if a is not type(None)]
        optional, annotation = True, parts[0]
    interval = None
    if get_origin(annotation) is Annotated:
        annotation, interval = get_args(annotation)[:2]
    if get_origin(annotation) is Literal:
        return Option(name, str, default, text, get_args(annotation), None, optional)
    return Option(name, annotation, default, text, (), interval, optional)


def of_dataclass(cls: type) -> list[Option]:
    """Options of a dataclass, with help from its docstring's ``Attributes:``."""
    texts = documented(cls.__doc__ or "", "Attributes:")
    kinds = {
        f.name: evaluate(ast.parse(str(f.type), mode="eval").body) for f in dataclasses.fields(cls)
    }
    return [
        describe(kinds[f.name], f.name, f.default, texts[f.name]) for f in dataclasses.fields(cls)
    ]


def evaluate(annotation: ast.expr) -> Any:
    """Evaluate a type annotation of this package without importing the module it stands in."""
    code = compile(ast.Expression(annotation), "<annotation>", "eval")
    return eval(code, {"int": int, "float": float, "bool": bool, "str": str}, _NAMES)


def documented(docstring: str, section: str) -> dict[str, str]:
    """Read ``name: text`` entries of a Google-style section, continuation lines joined."""
    entries: dict[str, str] = {}
    inside, name = False, ""
    for line in docstring.splitlines():
        if line.strip() == section:
            inside, indent = True, len(line) - len(line.lstrip())
        elif inside and line.strip():
            depth = len(line) - len(line.lstrip())
            if depth <= indent:
                break
            if depth == indent + 4:
                name, _, text = line.strip().partition(":")
                entries[name] = text.strip()
            else:
                entries[name] += " " + line.strip()
    return entries


def resolve(options: list[Option], *sources: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values, later sources winning, over the defaults, and check them.

    Raises:
        UserError: an unknown name (lists the closest known ones) or a value that is not allowed.
    """
    known = {option.name: option for option in options}
    values = {option.name: option.default for option in options}
    for source in sources:
        for name, value in source.items():
            if name not in known:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag}: unknown option; {suggestion(name, known)}")
            values[name] = known[name].parse(value)
    return values


def suggestion(name: str, known: Mapping[str, Any]) -> str:
    """Say what was probably meant, or what there is."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
