"""HTML and SVG from small functions, and numbers as a page shows them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

VOID = frozenset({"br", "img", "meta"})
SHAPES = frozenset({"circle", "line", "path", "rect"})
"""Elements of SVG without content."""

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
"""What stands where there is nothing."""


class Markup(str):
    """Text that is HTML already; any other text is escaped."""


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element: children are text, :class:`Markup`, lists of these, or None.

    Attributes lose a last underscore, and other underscores become hyphens; those that are None
    or False are left out, True stands without a value.

    Example:
        >>> tag("p", "a < b", tag("br"), class_="note", hidden=True)
        '<p class="note" hidden>a &lt; b<br></p>'
    """
    words = [name]
    for key, value in attributes.items():
        shown = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(shown)
        elif value is not None and value is not False:
            words.append(f'{shown}="{escape(str(value))}"')
    if name in SHAPES:
        return Markup(f"<{' '.join(words)}/>")
    start = f"<{' '.join(words)}>"
    return Markup(start if name in VOID else f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[Any]) -> Markup:
    """The children of an element, one after the other."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, (list, tuple)):
            parts.append(str(joined(child)))
        elif child is not None:
            parts.append(escape(str(child), quote=False))
    return Markup("".join(parts))


def table(
    caption: str, heads: list[Any], rows: Iterable[list[Any]], class_: str | None = None
) -> Markup:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        caption: read out, not shown.
        heads: of the columns.
        rows: the first cell of each is its head; cells may be elements ``td`` already.
        class_: of the table.
    """
    body = [
        tag("tr", tag("th", first, scope="row"), [_cell(value) for value in rest])
        for first, *rest in rows
    ]
    top = tag("tr", [tag("th", head, scope="col") for head in heads])
    whole = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", top),
        tag("tbody", body),
        class_=class_,
    )
    return tag("div", whole, class_="wide", tabindex="0", role="region", aria_label=caption)


def _cell(value: Any) -> Markup:
    if isinstance(value, Markup) and value.startswith("<td"):
        return value
    return tag("td", value)


def percent(value: float | None, digits: int = 1) -> str:
    r"""A share for people.

    Example:
        >>> percent(0.5234), percent(None)
        ('52.3\xa0%', 'n/a')
    """
    return "n/a" if value is None else f"{100 * value:.{digits}f}{SPACE}%"


def points(value: float, digits: int = 1) -> str:
    """A difference of shares, in points, with its sign.

    Example:
        >>> points(-0.041), points(0.0)
        ('−4.1', '0.0')
    """
    text = f"{100 * value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def counted(number: int, one: str, many: str = "") -> str:
    r"""A number and what it counts.

    Example:
        >>> counted(1, "face"), counted(1200, "face")
        ('1\xa0face', '1,200\xa0faces')
    """
    return f"{number:,}{SPACE}{one if number == 1 else many or one + 's'}"


def page(title: str, style: str, *body: Any) -> str:
    """A whole HTML file that needs nothing else."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"
