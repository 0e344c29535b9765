"""``leaf bench plot``: what runs have found, as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from leaf_fer.bench import records as records_of
from leaf_fer.bench.plots import KINDS
from leaf_fer.bench.plots.choice import Choice
from leaf_fer.bench.plots.theme import DARK, LIGHT, Theme
from leaf_fer.bench.table import SELECTIONS
from leaf_fer.errors import UserError
from leaf_fer.report.page import plain_style, save

ENDINGS = (".svg", ".png")


def main(command: argparse.Namespace) -> int:
    """``leaf bench plot``."""
    folders = [Path(folder) for folder in dict.fromkeys(command.folders)]
    records = records_of.select(records_of.read(folders), command.only)
    if not records:
        raise UserError(f"{folders[0]}: none of its cells is finished")
    choice = Choice(SELECTIONS[command.selection], command.metric, command.against, command.faces)
    with plain_style():
        draw = KINDS[command.kind](records, choice)
        for path, theme in pictures(command.out or command.kind, command.theme):
            save(draw(theme), path)
            print(path)
    return 0


def pictures(out: str, theme: str) -> list[tuple[Path, Theme]]:
    """The files to write, with the theme of each.

    Example:
        >>> [str(path) for path, _ in pictures("a/fig4", "both")]
        ['a/fig4.svg', 'a/fig4.png', 'a/fig4-dark.svg', 'a/fig4-dark.png']
        >>> [str(path) for path, _ in pictures("fig4.png", "dark")]
        ['fig4.png']
    """
    path = Path(out)
    own = path.suffix.lower() in ENDINGS
    endings = (path.suffix,) if own else ENDINGS
    name = path.stem if own else path.name
    themes = {"light": {"": LIGHT}, "dark": {"": DARK}, "both": {"": LIGHT, "-dark": DARK}}
    return [
        (path.with_name(f"{name}{tail}{ending}"), page)
        for tail, page in themes[theme].items()
        for ending in endings
    ]
