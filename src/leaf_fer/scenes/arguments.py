"""What can be said about faces in photos and videos. Imports no torch."""

from __future__ import annotations

import argparse

from leaf_fer.errors import UserError
from leaf_fer.recipe import ALIGNMENTS
from leaf_fer.rows import STYLES

DETECTORS = ("auto", "yunet", "centerface")

FACES_EPILOG = """\
examples:
  leaf faces photos/ --out crops/
  leaf faces party.mp4 --out crops/ --every 1s --margin 0.1
  leaf label crops/

crops: photos/happy/a.jpg becomes crops/happy/a-0.png, a-1.png, ..., the surest face first;
frame 250 of party.mp4 becomes crops/party-f000250-t3.png, where t3 is the face that is followed.
"""

PREDICT_EPILOG = """\
examples:
  leaf predict runs/first crops/ --format csv
  leaf predict runs/first photo.jpg video.mp4 --annotate out/
  leaf predict runs/first video.mp4 --detector yunet --every 0.2s --out faces.parquet
"""

LIVE_EPILOG = """\
examples:
  leaf live runs/first
  leaf live runs/first --camera 1 --no-window --format jsonl

q or Escape closes the window; Ctrl-C ends, and keeps what was written.
"""


def add_faces(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf faces``."""
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="photos, videos, or folders of them")
    add("--out", metavar="FOLDER", required=True, help="where crops go; must be new or empty")
    add("--detector", choices=DETECTORS, default="auto", help="what finds faces (auto: yunet)")
    add("--align", choices=ALIGNMENTS, default="points", help="by five points, or by the box")
    add("--margin", default="0", metavar="X", help="added at every side, in sides of a crop (0)")
    add("--size", default="112", metavar="N", help="pixels per side of a crop (112)")
    _add_weights(parser)
    _add_every(parser, "0.5s")
    add("--format", choices=("csv", "jsonl", "parquet"), default="csv", help="of the table (csv)")


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf predict`` beside those about crops."""
    _add_rows(parser)
    group = parser.add_argument_group("photos and videos")
    group.add_argument(
        "--detector",
        choices=(*DETECTORS, "none"),
        help="what finds faces; none: every image is one, cut out already "
        "(none; auto with --annotate)",
    )
    group.add_argument(
        "--annotate", metavar="FOLDER", help="write photos and videos with what is said of faces"
    )
    _add_recipe(group)
    _add_weights(group)
    _add_every(group, "1")
    _add_smooth(group)


def add_live(parser: argparse.ArgumentParser) -> None:
    """Options of ``leaf live``."""
    _add_rows(parser)
    add = parser.add_argument
    add("--camera", default="0", metavar="N|FILE", help="number of the camera, or a video (0)")
    add("--no-window", action="store_true", help="print rows instead of showing pictures")
    add("--frames", metavar="N", help="stop after so many pictures")
    add("--detector", choices=DETECTORS, default="auto", help="what finds faces (auto)")
    _add_recipe(parser)
    _add_weights(parser)
    _add_every(parser, "1")
    _add_smooth(parser)


def wanted(command: argparse.Namespace) -> bool:
    """Whether ``leaf predict`` is to find faces.

    Raises:
        UserError: it is not, but something is said about how.
    """
    if (command.detector or ("auto" if command.annotate else "none")) != "none":
        return True
    for name in ("annotate", "align", "margin", "detector_weights"):
        if getattr(command, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: expected --detector auto as well")
    return False


def _add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=STYLES,
        help="of the rows: a table for people, one list (json) or an object a line (jsonl), ... "
        "(by the name of --out, else table)",
    )
    parser.add_argument("--out", metavar="FILE", help="write rows there instead of printing them")


def _add_recipe(group: argparse._ActionsContainer) -> None:
    group.add_argument("--align", choices=ALIGNMENTS, help="(as the model has learned)")
    group.add_argument(
        "--margin", metavar="X", help="added at every side of a face (as the model has learned)"
    )


def _add_weights(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--detector-weights", metavar="FILE", help="its ONNX file (cached, installed or downloaded)"
    )


def _add_every(group: argparse._ActionsContainer, default: str) -> None:
    group.add_argument(
        "--every",
        default=default,
        metavar="N|Ts",
        help=f"of a video, one frame of N, or one in T seconds ({default})",
    )


def _add_smooth(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--smooth",
        default="0.5",
        metavar="SECONDS",
        help="over which class scores of a face in a video are averaged; 0: not at all (0.5)",
    )
