from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing

import pytest

from leaf_fer import registry
from leaf_fer.algorithms import ALGORITHMS, Algorithm
from leaf_fer.config import SETTINGS
from leaf_fer.errors import UserError
from leaf_fer.options import describe

every_method = pytest.mark.parametrize("key", sorted(ALGORITHMS))


def keywords(cls: type[Algorithm]) -> dict[str, inspect.Parameter]:
    """Keyword-only options of a constructor and of those it passes the rest to."""
    found: dict[str, inspect.Parameter] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Algorithm) and "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            found |= {n: p for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    return found


def test_it_lists_the_table_in_its_order():
    assert list(registry.methods()) == list(ALGORITHMS)


@every_method
def test_options_are_those_of_the_constructor(key):
    expected = {name: p.default for name, p in keywords(ALGORITHMS[key]).items()}
    assert {o.name: o.default for o in registry.method(key).options} == expected


@every_method
def test_kinds_and_ranges_are_those_of_the_constructor(key):
    hints: dict[str, object] = {}
    for base in reversed(ALGORITHMS[key].__mro__):
        if issubclass(base, Algorithm):
            hints |= typing.get_type_hints(base.__init__, include_extras=True)
    for option in registry.method(key).options:
        assert option == describe(hints[option.name], option.name, option.default, option.help)


@every_method
def test_views_recipe_and_docstring_are_those_of_the_class(key):
    method, cls = registry.method(key), ALGORITHMS[key]
    assert method.views == (cls.views.labeled, cls.views.unlabeled)
    assert method.recipe == cls.recipe
    assert (method.passes, method.state) == (cls.passes, cls.state)
    assert method.doc == inspect.getdoc(cls)
    assert method.name == cls.__name__


@every_method
def test_no_option_has_the_name_of_a_setting_that_every_run_has(key):
    # One flag could not set both.
    assert not {o.name for o in registry.method(key).options} & {o.name for o in SETTINGS}


@every_method
def test_a_summary_names_authors_and_year(key):
    authors, year, arxiv = registry.method(key).paper
    assert bool(authors) == (key != "supervised")
    assert year == "" or 2013 <= int(year) <= 2024
    assert arxiv == "" or re.fullmatch(r"arXiv:\d{4}\.\d{5}", arxiv)


def test_cost_counts_a_pass_with_backward_three_times():
    cost = {key: entry.cost for key, entry in registry.methods().items()}
    # spec 6, "Relative step time", in units of a pass without backward
    assert 3 * cost["supervised"] == 3
    assert 3 * cost["pseudo_label"] == 6
    assert 3 * cost["fixmatch"] == 3 * cost["leaf"] == pytest.approx(7)
    assert 3 * cost["mixmatch"] == pytest.approx(11)
    assert 3 * cost["vat"] == 3 * cost["adacm"] == 3 * cost["leaf_release"] == pytest.approx(12)
    assert 3 * cost["remixmatch"] == pytest.approx(19)


@every_method
def test_a_summary_is_one_line(key):
    summary = registry.method(key).summary
    assert summary
    assert "\n" not in summary


def test_an_unknown_method_is_refused_with_the_closest():
    with pytest.raises(UserError, match="--method leav: unknown method; did you mean leaf"):
        registry.method("leav")


def test_a_method_like_no_other_lists_all():
    with pytest.raises(UserError, match="known: supervised, "):
        registry.method("zzz")


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from leaf_fer import config; config.configure(); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
