"""What can be said to ``leaf label``. Imports no torch."""

from __future__ import annotations

import argparse

ORDERS = ("useful", "random")
"""Which face comes next: see :mod:`leaf_fer.labeling.order`."""

PORT = 8765
HOST = "127.0.0.1"

EPILOG = """\
examples:
  leaf label my-faces/ --classes happy,sad,angry,neutral
  leaf label my-faces/ --export labels.csv
  leaf train my-faces/ --labels labels.csv

keys: 1 to 9 name the expression, 0 is the tenth; S skips, X is for what is not a face, U undoes
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf label``."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the faces; files in class folders have a label already")
    add(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="what a face may be, in the order of the keys (as before, or the folders that are "
        "classes, or the eight expressions)",
    )
    add(
        "--order",
        choices=ORDERS,
        default="useful",
        help="show typical faces of groups that had no turn, or draw faces (useful)",
    )
    add(
        "--model",
        metavar="RUN",
        help="compare faces as this model or these starting weights see them (by their pixels)",
    )
    add("--seed", default="0", metavar="N", help="of the order (0)")
    add("--goal", default="25", metavar="N", help="labels per class that fill a bar (25)")
    add("--database", metavar="FILE", help="where labels go at once (FOLDER/.leaf/labels.sqlite)")
    add("--cache", help="folder of the decoded images")
    add("--export", metavar="FILE.csv", help="write the labels for leaf train, show no page")
    add(
        "--with-unlabeled",
        action="store_true",
        help="with --export: list unlabeled faces too, and leave out what is not a face; "
        "leaf train FILE.csv needs no --labels then",
    )
    add("--host", default=HOST, help=f"address to listen at ({HOST}: this machine alone)")
    add("--port", default=str(PORT), metavar="N", help=f"0 takes a free one ({PORT})")
