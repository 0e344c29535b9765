"""What can be said to the command ``leaf``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from leaf_fer.bench import arguments
from leaf_fer.config import PRETRAINING_METHOD, options_of, pretraining_options, read_yaml
from leaf_fer.labeling import arguments as labeling
from leaf_fer.options import Option, suggestion
from leaf_fer.registry import Method, method, methods, pretraining
from leaf_fer.scenes import arguments as scenes
from leaf_fer.serving import arguments as serving
from leaf_fer.version import __version__

DATA_HELP = """\
DATA is one of
  synthetic[:N]      drawn faces, 8 classes, N training images (4000)
  rafdb:PATH         RAF-DB, the folder that holds EmoLabel/ and Image/
  ferplus:PATH       FERPlus, the folder that holds FER2013Train/, FER2013Valid/, FER2013Test/
  affectnet7:PATH    AffectNet without contempt, as published
  affectnet8:PATH    AffectNet, as published
  folder:PATH        one folder per class; images beside them or in unlabeled/ have no label
  csv:PATH           a CSV or Parquet file with columns path,label[,split]; empty label: no label
  PATH               a folder or a CSV/Parquet file, by what it is
"""

METAVARS: dict[Any, str] = {int: "N", bool: "BOOL"}

GROUPS = {
    "data": "method and data",
    "image_size": "network",
    "batch_size": "training",
    "device": "machine and result",
}
"""Titles in the help of ``leaf train``, by the first option under them."""

DESCRIPTION = "Learn facial expressions from a few labeled and many unlabeled faces."

EPILOG = """\
examples:
  leaf train synthetic --method leaf --labels 64 --image-size 48 --out runs/first
  leaf predict runs/first photo1.png photo2.png
  leaf train my-faces/ --labels my-labels.csv --out runs/mine
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = message.removeprefix(prefix).split()[0]
            flags = {f: action for action in self._actions for f in action.option_strings}
            message = f"{word.split('=')[0]}: unknown option; {suggestion(word, flags)}"
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser(words: Sequence[str]) -> Parser:
    """Build the parser; the options of ``leaf train`` are those of the method in ``words``.

    Raises:
        UserError: the method is unknown, or the configuration file cannot be read.
    """
    parser = Parser(prog="leaf", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"leaf-fer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, text: str, **more: Any) -> Parser:
        command: Parser = commands.add_parser(name, help=text, description=text, **more)
        command.set_defaults(command=name, parser=command)
        command.add_argument("--debug", action="store_true", help="show tracebacks of errors")
        return command

    train = add(
        "train",
        "train a classifier and write a run folder",
        usage="leaf train DATA [--method METHOD] [--labels N|FILE] [--out RUN] [options]",
        epilog=DATA_HELP,
    )
    said = words if "train" in words[:1] else []
    _add_train(train, said, "leaf", methods, options_of)
    pretrain = add(
        "pretrain",
        "train an encoder on faces without labels, for --init",
        usage="leaf pretrain DATA [--method METHOD] [--out RUN] [options]",
        epilog=DATA_HELP,
    )
    said = words if "pretrain" in words[:1] else []
    _add_train(pretrain, said, PRETRAINING_METHOD, pretraining, pretraining_options)

    evaluate = add("evaluate", "measure a trained model on data", epilog=DATA_HELP)
    evaluate.add_argument("model", metavar="RUN|MODEL", help="a run folder or a model folder")
    evaluate.add_argument("data", metavar="DATA", help="see below")
    evaluate.add_argument("--part", choices=("test", "validation", "train"), default="test")
    evaluate.add_argument("--format", choices=("table", "json"), default="table")
    evaluate.add_argument("--cache", help="folder of the decoded images")
    _add_sets(evaluate)
    _add_common(evaluate)

    calibrate = add(
        "calibrate",
        "learn from labeled faces how many classes --coverage has to name",
        epilog=DATA_HELP,
    )
    calibrate.add_argument("model", metavar="RUN|MODEL", help="a run folder or a model folder")
    calibrate.add_argument("data", metavar="DATA", help="faces not trained on; see below")
    calibrate.add_argument("--part", choices=("validation", "test", "train"), default="validation")
    calibrate.add_argument("--cache", help="folder of the decoded images")
    _add_common(calibrate)

    faces = add("faces", "cut out the faces of photos and videos", epilog=scenes.FACES_EPILOG)
    scenes.add_faces(faces)

    text = "name the expression on images of faces, or of the faces in photos and videos"
    predict = add("predict", text, epilog=scenes.PREDICT_EPILOG)
    predict.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    predict.add_argument("paths", metavar="PATH", nargs="+", help="files or folders of them")
    live = add("live", "name the expression of faces before a camera", epilog=scenes.LIVE_EPILOG)
    live.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    for part in (predict, live):
        _add_sets(part)
        part.add_argument(
            "--abstain",
            action="store_true",
            help="with --coverage: no label where more than one class may be the true one",
        )
        _add_common(part)
    scenes.add_predict(predict)
    scenes.add_live(live)

    export = add("export", "write a model for other programs", epilog=DATA_HELP)
    export.add_argument("model", metavar="RUN|MODEL", help="a run folder or a model folder")
    export.add_argument("--format", choices=("onnx", "torch"), default="onnx")
    export.add_argument("--out", metavar="FILE", help="MODEL.onnx or MODEL.pt2")
    export.add_argument(
        "--int8",
        action="store_true",
        help="also FILE.int8.onnx, which computes with integers of 8 bits; needs --data",
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="faces to compare the file with the model on (drawn ones); with --int8 those for "
        "training fit the integers, and the labeled ones of --part say what they cost; see below",
    )
    export.add_argument("--part", choices=("validation", "test"), default="validation")
    export.add_argument("--cache", help="folder of the decoded images")
    export.add_argument("--batch-size", default="256", help="images per step")

    report = add("report", "write report.html of a run, or a page that compares several")
    report.add_argument("runs", metavar="RUN", nargs="+", help="folders of finished runs")
    report.add_argument(
        "--beside",
        metavar="RUN",
        help="a supervised run to compare with (one beside RUN with the same data and labels)",
    )
    report.add_argument(
        "--out", metavar="FILE", help="RUN/report.html, or comparison.html of several runs"
    )
    report.add_argument(
        "--faces", metavar="N", default="24", help="on a sheet; 0: a page that shows nobody (24)"
    )
    report.add_argument("--cache", help="folder of the decoded images")
    report.add_argument("--device", default="auto", help="auto, cpu or cuda")

    label = add("label", "name the expressions of faces in a browser", epilog=labeling.EPILOG)
    labeling.add_options(label)

    serve = add("serve", "answer over HTTP, with a page to drop a photo on", epilog=serving.EPILOG)
    serving.add_options(serve)

    data = add("data", "prepare data and say what is in it", epilog=DATA_HELP)
    data.add_argument("data", metavar="DATA", help="see below")
    data.add_argument("--image-size", default="112", help="side of the decoded images in pixels")
    data.add_argument("--sheet", metavar="FILE.png", help="write a picture of some faces per class")
    data.add_argument("--cache", help="folder of the decoded images")
    data.add_argument("--workers", default="none", help="processes that decode images")

    weights = add("weights", "make starting weights for --init of what other programs have")
    parts = weights.add_subparsers(title="commands", metavar="COMMAND", required=True)
    text = "turn a MobileNet-V1 of TensorFlow.js into weights of mobilenetv1_vggface2"
    part = parts.add_parser("import", help=text, description=text)
    part.set_defaults(parser=part)
    part.add_argument("file", metavar="FILE.json", help="its graph, with the .bin files beside it")
    part.add_argument("--out", metavar="FOLDER", required=True, help="the folder to write")
    part.add_argument(
        "--faces", metavar="FOLDER", help="faces to take statistics of (drawn ones if not given)"
    )

    listing = add("methods", "list the methods, or explain one and its options")
    listing.add_argument("method", nargs="?", metavar="METHOD", help="a name from the list")
    add("env", "show versions, device and folders: for bug reports")

    bench = add("bench", "measure speed, run grids of experiments")
    parts = bench.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text, fill in (
        ("speed", "time a training step and its parts", arguments.add_speed),
        ("run", "run the missing cells of a grid", arguments.add_run),
        ("table", "compare what runs have found, also with the paper", arguments.add_table),
        ("plot", "draw what runs have found", arguments.add_plot),
    ):
        part = parts.add_parser(name, help=text, description=text)
        part.set_defaults(part=name, parser=part)
        fill(part)
    return parser


def _add_sets(parser: Parser) -> None:
    parser.add_argument(
        "--coverage",
        metavar="X",
        help="name as many classes as it takes to have the true one among them so often, in "
        "(0, 1); the model must have been calibrated",
    )
    parser.add_argument(
        "--per-class",
        action="store_true",
        help="with --coverage: promise it for the faces of every class, not for all together",
    )


def _add_common(parser: Parser) -> None:
    parser.add_argument("--batch-size", default="256", help="images per step")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")


def _add_train(
    parser: Parser,
    words: Sequence[str],
    default: str,
    among: Callable[[], dict[str, Method]],
    options: Callable[[str], list[Option]],
) -> None:
    parser.add_argument("data", metavar="DATA", nargs="?", help="see below")
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; flags win over it")
    parser.add_argument(
        "--print_config", "--print-config", action="store_true", help="print all options and stop"
    )
    parser.add_argument("--out", metavar="RUN", help="run folder (runs/METHOD-DATA-LABELS-SEED)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scan.add_argument("--method")
    scan.add_argument("--config")
    try:
        known, _ = scan.parse_known_args(words)
    except argparse.ArgumentError:  # the real parser will say it
        known = argparse.Namespace(method=None, config=None)
    chosen = known.method or (read_yaml(known.config).get("method") if known.config else None)
    key = str(chosen or default)
    entry = method(key, among)
    titles = dict(GROUPS)
    if entry.options:
        command = parser.get_default("command")
        titles[entry.options[0].name] = f"{key} (other methods: leaf {command} --method M --help)"
    group: Any = parser
    for option in options(key):
        if option.name in titles:
            group = parser.add_argument_group(titles[option.name])
        if option.name != "data":
            _add_option(group, option, entry.recipe.get(option.name, option.default))
        if option.name == "report":
            _add_no_report(group)


def _add_no_report(group: Any) -> None:
    group.add_argument(
        "--no-report",
        dest="report",
        action="store_const",
        const="false",
        default=argparse.SUPPRESS,
        help="the same as --report false",
    )


def _add_option(group: Any, option: Option, default: Any) -> None:
    text = f"{plain(option.help)} ({option.allowed}; default {shown(default)})"
    flag: dict[str, Any] = {"nargs": "?", "const": "true"} if option.kind is bool else {}
    group.add_argument(
        option.flag,
        dest=option.name,
        default=argparse.SUPPRESS,
        help=text.replace("%", "%%"),
        metavar="WORD" if option.choices else METAVARS.get(option.kind, "X"),
        **flag,
    )


def plain(text: str) -> str:
    """Take the markup for documentation pages out of a sentence of help."""
    return re.sub(r":\w+:`([^`]*)`|``([^`]*)``", r"\1\2", text).rstrip(".")


def shown(value: Any) -> str:
    """A value as people write it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
