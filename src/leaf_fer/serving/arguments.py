"""What can be said to ``leaf serve``. Imports no torch."""

from __future__ import annotations

import argparse

from leaf_fer.options import describe
from leaf_fer.ranges import Count, Natural, Positive
from leaf_fer.serving.limits import Limits

DETECTORS = ("none", "auto", "yunet", "centerface")
HOST = "127.0.0.1"
PORT = 8000

EPILOG = """\
examples:
  leaf serve runs/first
  leaf serve runs/first --detector auto --max-faces 8
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict
"""

KINDS = {
    "max_bytes": Count,
    "max_pixels": Count,
    "timeout": Positive,
    "max_faces": Count,
    "queue": Natural,
}
OPTIONS = {name: describe(kind, name, getattr(Limits, name)) for name, kind in KINDS.items()}
PORTS = describe(Natural, "port", PORT)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf serve``."""
    add = parser.add_argument
    add(
        "model", metavar="MODEL", help="a run folder, a model folder or an ONNX file of leaf export"
    )
    add("--host", default=HOST, help=f"address to listen at ({HOST}: this machine alone)")
    add("--port", default=str(PORT), metavar="N", help=f"0 takes a free one ({PORT})")
    add(
        "--detector",
        choices=DETECTORS,
        default="none",
        help="what finds the faces of a photo; with none, an image is one face (none)",
    )
    add("--coverage", metavar="X", help="name as many classes as leaf predict --coverage does")
    help_ = {
        "max_bytes": "of an image file",
        "max_pixels": "width times height of an image",
        "timeout": "seconds from a request to its answer",
        "max_faces": "in a photo",
        "queue": "requests that wait, beside those that are computed",
    }
    for name, option in OPTIONS.items():
        text = f"{help_[name]} ({option.default:,})" if name != "timeout" else help_[name] + " (30)"
        add(option.flag, default=option.default, metavar="N", help=text)
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--precision", default="auto", help="auto, float32 or bfloat16")


def limits(command: argparse.Namespace) -> Limits:
    """The limits that were asked for.

    Raises:
        UserError: one is not allowed.
    """
    return Limits(**{name: option.parse(vars(command)[name]) for name, option in OPTIONS.items()})
