"""Names of expressions: what people call them, and what we call them."""

from __future__ import annotations

from collections.abc import Iterable

from leaf_fer.data.table import EXPRESSIONS

SEVEN = EXPRESSIONS[:-1]
"""The canonical names without contempt, in canonical order."""

ALIASES = {
    "neutral": ("neutrality", "calm"),
    "happiness": ("happy", "joy", "joyful"),
    "surprise": ("surprised",),
    "sadness": ("sad",),
    "anger": ("angry",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid", "scared"),
    "contempt": ("contemptuous",),
}
_CANONICAL = {alias: name for name, others in ALIASES.items() for alias in (name, *others)}


def canonical(name: str) -> str | None:
    """The canonical name of an expression, whatever its case; None for a word we do not know.

    >>> canonical("Happy"), canonical("wink")
    ('happiness', None)
    """
    return _CANONICAL.get(name.strip().lower())


def arrange(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Order the class names of a user's data and number them.

    Names that are all expressions become canonical names in canonical order, so that ``happy`` and
    ``Happiness`` are one class; any other set of names is kept as it is, sorted.

    Args:
        names: class names, repeats allowed.

    Returns:
        The C classes, and the class in [0, C) of every given name.

    >>> arrange(["sad", "happy"])
    (('happiness', 'sadness'), {'happy': 0, 'sad': 1})
    """
    given = sorted(set(names))
    found = {name: canonical(name) for name in given}
    known = {name: expression for name, expression in found.items() if expression is not None}
    if len(known) < len(given):
        return tuple(given), {name: index for index, name in enumerate(given)}
    classes = tuple(name for name in EXPRESSIONS if name in known.values())
    return classes, {name: classes.index(expression) for name, expression in known.items()}
