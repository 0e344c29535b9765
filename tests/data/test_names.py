import pytest

from leaf_fer.data.names import ALIASES, arrange, canonical
from leaf_fer.data.table import EXPRESSIONS


@pytest.mark.parametrize(("name", "words"), ALIASES.items())
def test_every_alias_is_canonical(name, words):
    assert {canonical(word.upper()) for word in (name, *words)} == {name}


def test_aliases_cover_the_canonical_names():
    assert tuple(ALIASES) == EXPRESSIONS


def test_an_unknown_word_is_no_expression():
    assert canonical("wink") is None


def test_names_that_are_all_expressions_become_canonical_in_canonical_order():
    classes, number = arrange(["Sad", "angry", "HAPPY", "happiness"])
    assert classes == ("happiness", "sadness", "anger")
    assert number == {"Sad": 1, "angry": 2, "HAPPY": 0, "happiness": 0}


def test_one_unknown_word_keeps_all_names_as_they_are():
    assert arrange(["wink", "Sad", "happy"])[0] == ("Sad", "happy", "wink")
