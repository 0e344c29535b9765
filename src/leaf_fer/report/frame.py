"""What all pages have: their style, top and bottom, and the sentences of a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from leaf_fer.report.markup import Markup, tag
from leaf_fer.report.verdict import Sentence

LEAF = "M20 3C9 3 4 8 4 15c0 1.4.3 2.7.8 3.9L3 21l1.4 1.2 2-2.2C16 21.500 20.500 14 20 3Z"


def style() -> str:
    """The style sheet of all pages."""
    return files("leaf_fer.report").joinpath("report.css").read_text(encoding="utf-8")


def head(title: str, facts: Sequence[tuple[str, str]]) -> Markup:
    """The top of a page: its name and some facts."""
    icon = tag("svg", tag("path", d=LEAF), viewBox="0 0 24 24", aria_hidden="true")
    listed = [tag("li", f"{name} ", tag("b", value)) for name, value in facts]
    return tag(
        "header",
        tag("p", icon, "leaf-fer report", class_="over"),
        tag("h1", title),
        tag("ul", listed, class_="facts"),
    )


def says(sentences: Sequence[Sentence]) -> Markup:
    """Sentences of a verdict, the main one first."""
    return tag("ul", [tag("li", s.text, class_=s.kind) for s in sentences], class_="says")


def foot() -> Markup:
    """The bottom of a page: what to think of before anything is done with it."""
    return tag(
        "footer",
        tag(
            "p",
            "A classifier names how a face looks to its annotators, not what a person feels. "
            "The European Union's AI Act bans emotion recognition at work and in schools.",
        ),
        tag("p", "Pages with faces show people: they are not for publication."),
    )
