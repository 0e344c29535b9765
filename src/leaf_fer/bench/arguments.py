"""What can be said to ``leaf bench``. Imports no torch."""

from __future__ import annotations

import argparse

SWITCHES = ("channels_last", "compile", "fused", "prefetch")
"""Settings that are on or off and change the speed alone."""

FIGURES = (
    *("labels", "differences", "features", "experts", "eaf"),
    *("usage", "pseudo", "reliability", "confusion"),
)
"""What ``leaf bench plot`` can draw."""


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf bench speed``."""
    add = parser.add_argument
    add("--method", nargs="+", default=["leaf"], help="methods to time in turns (leaf)")
    add(
        "--size",
        nargs="+",
        type=size_and_batch,
        default=[(112, None)],
        metavar="SIZE[:BATCH]",
        help="sides of the images in pixels, each with its own batch size if one is given (112)",
    )
    add("--batch", type=count, default=64, metavar="N", help="labeled images per step (64)")
    add("--steps", type=count, default=10, metavar="N", help="how often all is timed (10)")
    add("--threads", type=count, metavar="N", help="threads of every process (as many as cores)")
    add("--backbone", default="resnet18", help="name of a timm model, or conv4 (resnet18)")
    add("--device", default="auto", help="auto, cpu or cuda (auto)")
    add("--precision", default="auto", help="auto, float32 or bfloat16 (auto)")
    add("--compile", action="store_true", help="time networks translated by torch.compile")
    add(
        "--switch",
        nargs="+",
        default=[],
        choices=SWITCHES,
        metavar="NAME",
        help="time every method also with one of these turned round: " + ", ".join(SWITCHES),
    )
    add(
        "--peer-python",
        metavar="PATH",
        help="python of an environment with the package semilearn, to time its FixMatch in turns",
    )
    add(
        "--peer-workers",
        type=natural,
        default=0,
        metavar="N",
        help="processes that load images there, and twice as many for the unlabeled ones (0)",
    )
    add("--json", metavar="FILE", help="write all that was found")


def count(text: str) -> int:
    """A whole number >= 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number >= 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number >= {least}")
    return int(text)


def size_and_batch(text: str) -> tuple[int, int | None]:
    """``224`` -> (224, None), ``224:32`` -> (224, 32)."""
    size, colon, batch = text.partition(":")
    return count(size), count(batch) if colon else None


def add_run(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf bench run``."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe that is shipped, or a YAML file")
    parser.add_argument(
        "--data",
        metavar="KEY=PATH",
        nargs="+",
        action="extend",
        default=[],
        help="where a data set lies that the recipe calls KEY",
    )
    parser.add_argument(
        "--seeds", metavar="N", nargs="+", help="seeds, and seeds of the split, in turn (recipe's)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of all cells (runs/RECIPE)")
    _add_only(parser, "run")
    parser.add_argument("--retry", action="store_true", help="try cells again that have failed")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the cells and how far they are, run nothing"
    )
    jobs = parser.add_mutually_exclusive_group()
    jobs.add_argument("--jobs", metavar="N", type=count, help="cells at a time on this machine (1)")
    jobs.add_argument(
        "--jobs-per-device",
        metavar="N",
        type=count,
        help="cells at a time on every GPU that is visible, or on the CPU if there is none",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="run cells on this machine, or on the Ray cluster that RAY_ADDRESS names (local)",
    )
    parser.add_argument("--cores-per-cell", metavar="N", type=count, help="with --engine ray (1)")


def add_table(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf bench table``."""
    add = parser.add_argument
    add(
        "folders",
        metavar="DIR",
        nargs="+",
        help="folders that leaf bench run has written, or their records.jsonl under any name",
    )
    add("--format", choices=("markdown", "latex", "csv", "html"), default="markdown")
    add(
        "--metric",
        nargs="+",
        choices=("balanced", "overall", "auc"),
        default=["balanced"],
        help="balanced or overall accuracy, how well pairs of classes are told apart, or several "
        "of these, each with its tables (balanced)",
    )
    add(
        "--selection",
        choices=("last", "best", "both"),
        default="both",
        help="weights of the last step, of the step that was best on validation, or both (both)",
    )
    add(
        "--against",
        metavar="ROW",
        help="also how far the others are above this row, run by run of the same seeds",
    )
    _add_only(parser, "take")
    add("--out", metavar="FILE", help="write there instead of printing")


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf bench plot``."""
    add = parser.add_argument
    add("kind", metavar="KIND", choices=FIGURES, help="one of " + ", ".join(FIGURES))
    add("folders", metavar="DIR", nargs="+", help="folders that leaf bench run has written")
    add("--out", metavar="FILE", help="FILE.svg, FILE.png, or a name for both (KIND)")
    add("--theme", choices=("light", "dark", "both"), default="light", help="page (light)")
    add(
        "--metric",
        choices=("balanced", "overall", "auc"),
        default="balanced",
        help="what is compared in the figures differences and eaf (balanced)",
    )
    add(
        "--against",
        metavar="ROW",
        default="supervised",
        help="the row that others are compared with in the figure differences (supervised)",
    )
    add(
        "--selection",
        choices=("last", "best"),
        default="last",
        help="weights of the last step, or of the step that was best on validation (last)",
    )
    add("--faces", type=count, default=100, metavar="N", help="of a class in features (100)")
    _add_only(parser, "take")


def _add_only(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "--only",
        metavar="OPTION=VALUE[,VALUE]",
        nargs="+",
        action="extend",
        default=[],
        help=f"{verb} the cells that have these options",
    )
