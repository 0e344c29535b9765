from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

import pytest

from leaf_fer.errors import UserError
from leaf_fer.options import (
    Option,
    describe,
    documented,
    evaluate,
    of_dataclass,
    resolve,
    suggestion,
)
from leaf_fer.ranges import Count, Fraction, Natural, NonNegative, Positive, ProperFraction, Range


def option(annotation: object, default: object = None) -> Option:
    return describe(annotation, "some_option", default)


class TestRange:
    @pytest.mark.parametrize(
        ("interval", "inside", "outside"),
        [
            (Range(0, 1), [0, 0.5, 1], [-0.01, 1.01, float("nan")]),
            (Range(0, 1, below=True), [0, 0.999], [1]),
            (Range(0, above=True), [1e-9, 1e9], [0, -1]),
            (Range(1), [1, 100], [0]),
            (Range(high=3, below=True), [-1e9, 2.9], [3]),
        ],
    )
    def test_it_contains_what_it_says(self, interval, inside, outside):
        assert all(value in interval for value in inside)
        assert not any(value in interval for value in outside)

    @pytest.mark.parametrize(
        ("interval", "text"),
        [
            (Range(0, 1), "in [0, 1]"),
            (Range(0, 1, below=True), "in [0, 1)"),
            (Range(0, 1, above=True), "in (0, 1]"),
            (Range(0, above=True), "> 0"),
            (Range(1), ">= 1"),
        ],
    )
    def test_it_reads_as_people_write_it(self, interval, text):
        assert str(interval) == text


class TestParse:
    @pytest.mark.parametrize(
        ("annotation", "value", "expected"),
        [
            (int, "12", 12),
            (int, 12, 12),
            (float, "5e-4", 5e-4),
            (float, 1, 1.0),
            (bool, "true", True),
            (bool, "False", False),
            (bool, "1", True),
            (bool, 0, False),
            (bool, True, True),
            (str, "resnet18", "resnet18"),
            (str, 100, "100"),
            (str, "none", "none"),
            (str, "semantic,instance", "semantic,instance"),
            (Literal["none", "fixed"], "none", "none"),
            (Literal["none", "fixed"], None, "none"),
            (Literal["none", "fixed"], "fixed", "fixed"),
            (Count, "1", 1),
            (Natural, 0, 0),
            (Fraction, "1", 1.0),
            (Positive, "0.07", 0.07),
            (NonNegative, 0, 0.0),
            (int | None, "none", None),
            (int | None, None, None),
            (int | None, "3", 3),
            (str | None, "null", None),
            (str | None, "labels.csv", "labels.csv"),
            (Count | None, "NONE", None),
        ],
    )
    def test_text_and_yaml_values_become_what_is_meant(self, annotation, value, expected):
        found = option(annotation).parse(value)
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("annotation", "value", "allowed"),
        [
            (int, "1.5", "a whole number"),
            (int, 1.0, "a whole number"),
            (int, True, "a whole number"),
            (int, "many", "a whole number"),
            (int, None, "a whole number"),
            (int, "none", "a whole number"),
            (float, "much", "a number"),
            (float, "nan", "a number"),
            (float, "inf", "a number"),
            (float, 10**400, "a number"),
            (float, [1], "a number"),
            (Positive, "inf", "a number > 0"),
            (Positive, 0, "a number > 0"),
            (Fraction, "nan", r"a number in \[0, 1\]"),
            (Fraction, -0.1, r"a number in \[0, 1\]"),
            (ProperFraction, 1, r"a number in \[0, 1\)"),
            (Count, 0, "a whole number >= 1"),
            (Natural, -1, "a whole number >= 0"),
            (Count | None, 0, "a whole number >= 1, or none"),
            (bool, "yes", "true or false"),
            (bool, 2, "true or false"),
            (str, None, "text"),
            (str, ["a"], "text"),
            (str, {"a": 1}, "text"),
            (str, True, "text"),
            (Literal["adam", "sgd"], "rmsprop", "one of adam, sgd"),
            (Literal["adam", "sgd"], "none", "one of adam, sgd"),
            (Literal["adam", "sgd"], None, "one of adam, sgd"),
        ],
    )
    def test_what_is_not_allowed_is_refused_with_what_is(self, annotation, value, allowed):
        with pytest.raises(UserError, match=rf"^--some-option .*: expected {allowed}$"):
            option(annotation).parse(value)

    def test_a_refusal_names_the_value(self):
        with pytest.raises(UserError, match=r"--some-option 1\.5: expected"):
            option(Fraction).parse(1.5)


class TestDescribe:
    def test_it_reads_kind_range_and_optionality_from_the_annotation(self):
        found = describe(Count | None, "top_k", None, "Help.")
        assert found == Option("top_k", int, None, "Help.", (), Range(1), optional=True)

    def test_it_reads_choices_from_a_literal(self):
        found = describe(Literal["a", "b"], "letter", "a")
        assert (found.kind, found.choices) == (str, ("a", "b"))

    def test_a_flag_has_dashes(self):
        assert option(int).flag == "--some-option"

    @pytest.mark.parametrize(
        "text", ["int", "float | None", "Fraction", "Count | None", "Literal['a', 'b']"]
    )
    def test_annotations_are_evaluated_without_their_module(self, text):
        found = describe(evaluate(ast.parse(text, mode="eval").body), "x", None)
        assert found.kind in (int, float, str)


class TestDocumented:
    TEXT = """Summary.

    Args:
        first: the first
            and more of it.
        second: the second: with a colon.

    Returns:
        nothing: at all.
    """

    def test_it_joins_continuation_lines(self):
        assert documented(self.TEXT, "Args:") == {
            "first": "the first and more of it.",
            "second": "the second: with a colon.",
        }

    def test_a_section_that_is_not_there_is_empty(self):
        assert documented(self.TEXT, "Raises:") == {}

    def test_options_of_a_dataclass_have_its_help_and_defaults(self):
        @dataclass
        class Some:
            """Summary.

            Attributes:
                size: in pixels.
                name: of it.
            """

            size: Count = 3  # type: ignore[assignment]
            name: str | None = None

        Some.__annotations__.update(size="Count", name="str | None")
        for field in Some.__dataclass_fields__.values():
            field.type = Some.__annotations__[field.name]
        size, name = of_dataclass(Some)
        assert size == Option("size", int, 3, "in pixels.", (), Range(1))
        assert name == Option("name", str, None, "of it.", (), None, optional=True)


class TestResolve:
    options = (describe(int, "size", 3), describe(Fraction, "mass", 0.9))

    def test_defaults_come_first_and_later_sources_win(self):
        assert resolve(list(self.options)) == {"size": 3, "mass": 0.9}
        found = resolve(list(self.options), {"size": "4", "mass": 0.5}, {"size": 5})
        assert found == {"size": 5, "mass": 0.5}

    def test_every_source_is_checked(self):
        with pytest.raises(UserError, match="--mass 2: expected a number in"):
            resolve(list(self.options), {"mass": 2}, {"mass": 0.5})

    def test_an_unknown_name_is_refused_with_the_closest(self):
        with pytest.raises(UserError, match="--masss: unknown option; did you mean mass"):
            resolve(list(self.options), {"masss": 0.5})

    def test_a_name_like_no_other_lists_all(self):
        with pytest.raises(UserError, match="known: size, mass"):
            resolve(list(self.options), {"zzz": 0.5})

    def test_a_suggestion_may_name_several(self):
        assert suggestion("mas", {"mass": 0, "mask": 0}) == "did you mean mass or mask?"
