"""The command ``leaf``. Nothing here imports torch before it is known what to do."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from leaf_fer import __version__
from leaf_fer.config import SETTINGS, Config, configure, options_of, read_yaml, write_yaml
from leaf_fer.errors import UserError
from leaf_fer.options import Option, suggestion
from leaf_fer.registry import method, methods

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    0: done; 1: something could not be read or trained; 2: a mistake in what was asked for;
    130: stopped by Ctrl-C or SIGTERM, and saved.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        command, unknown = build_parser(words).parse_known_args(words)
        if unknown:
            command.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        status: int = command.run(command)
        sys.stdout.flush()
        return status
    except UserError as error:
        if debug:
            raise
        print(f"leaf: error: {error}", file=sys.stderr)
        return 2
    except ArithmeticError as error:
        if debug:
            raise
        print(f"leaf: error: {error.args[0]}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that may not be read
        if debug:
            raise
        print(f"leaf: error: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("leaf: stopped", file=sys.stderr)
        return 130


def build_parser(words: Sequence[str]) -> Parser:
    """Build the parser; the options of ``leaf train`` are those of the method in ``words``.

    Raises:
        UserError: the method is unknown, or the configuration file cannot be read.
    """
    parser = Parser(prog="leaf", description=__doc_line(), epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"leaf-fer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, **more: Any) -> Parser:
        command: Parser = commands.add_parser(name, help=text, description=text, **more)
        command.set_defaults(run=run, parser=command)
        command.add_argument("--debug", action="store_true", help="show tracebacks of errors")
        return command

    train = add(
        "train",
        run_train,
        "train a classifier and write a run folder",
        usage="leaf train DATA [--method METHOD] [--labels N|FILE] [--out RUN] [options]",
        epilog=DATA_HELP,
    )
    _add_train(train, words if "train" in words[:1] else [])

    evaluate = add("evaluate", run_evaluate, "measure a trained model on data", epilog=DATA_HELP)
    evaluate.add_argument("model", metavar="RUN|MODEL", help="a run folder or a model folder")
    evaluate.add_argument("data", metavar="DATA", help="see below")
    evaluate.add_argument("--part", choices=("test", "validation", "train"), default="test")
    evaluate.add_argument("--format", choices=("table", "json"), default="table")
    _add_common(evaluate)

    predict = add("predict", run_predict, "name the expression on images of faces")
    predict.add_argument("model", metavar="MODEL", help="a run folder or a model folder")
    predict.add_argument("paths", metavar="PATH", nargs="+", help="image files or folders of them")
    predict.add_argument("--format", choices=("table", "json", "csv"), default="table")
    _add_common(predict)

    data = add("data", run_data, "prepare data and say what is in it", epilog=DATA_HELP)
    data.add_argument("data", metavar="DATA", help="see below")
    data.add_argument("--image-size", default="112", help="side of the decoded images in pixels")
    data.add_argument("--sheet", metavar="FILE.png", help="write a picture of some faces per class")
    data.add_argument("--cache", help="folder of the decoded images")
    data.add_argument("--workers", default="none", help="processes that decode images")

    listing = add("methods", run_methods, "list the methods, or explain one and its options")
    listing.add_argument("method", nargs="?", metavar="METHOD", help="a name from the list")
    add("env", run_env, "show versions, device and folders: for bug reports")
    return parser


def __doc_line() -> str:
    return "Learn facial expressions from a few labeled and many unlabeled faces."


def _add_common(parser: Parser) -> None:
    parser.add_argument("--batch-size", default="256", help="images per step")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--cache", help="folder of the decoded images")


def _add_train(parser: Parser, words: Sequence[str]) -> None:
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
    key = str(chosen or "leaf")
    entry = method(key)
    titles = dict(GROUPS)
    if entry.options:
        titles[entry.options[0].name] = f"{key} (other methods: leaf train --method METHOD --help)"
    group: Any = parser
    for option in options_of(key):
        if option.name in titles:
            group = parser.add_argument_group(titles[option.name])
        if option.name != "data":
            _add_option(group, option, entry.recipe.get(option.name, option.default))


def _add_option(group: Any, option: Option, default: Any) -> None:
    text = f"{plain(option.help)} ({option.allowed}; default {_shown(default)})"
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


def _shown(value: Any) -> str:
    return (
        {None: "none", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, (int, float)) or isinstance(value, bool)
        else f"{value:g}"
    )


def run_train(command: argparse.Namespace) -> int:
    """``leaf train``."""
    own = ("run", "parser", "debug", "data", "config", "print_config", "out", "resume")
    given = {k: v for k, v in vars(command).items() if k not in own}
    if command.data is not None:
        given["data"] = command.data
    sources = [read_yaml(command.config)] if command.config else []
    config = configure(*sources, given)
    if command.print_config:
        print(write_yaml(config), end="")
        return 0
    if command.resume and command.out is None:
        raise UserError("--resume: expected --out RUN, the run to go on with")
    if not config.settings.data and not command.resume:
        raise UserError("DATA is missing; see leaf train --help")
    out = Path(command.out) if command.out else default_out(config)
    if config.settings.data:
        find_data(config.settings.data)
    from leaf_fer import commands

    return commands.train(config, out, resume=command.resume, given=given)


def default_out(config: Config) -> Path:
    """``runs/leaf-ferplus-100-s0``: what a run is called if nobody says."""
    s = config.settings
    kind = s.data.split(":")[0] if ":" in s.data else Path(s.data).name
    labels = Path(s.labels).stem if s.labels else "all"
    return Path("runs") / f"{s.method}-{kind}-{labels}-s{s.seed}"


def find_data(spec: str) -> None:
    """Refuse data that is not there before anything heavy is imported.

    Raises:
        UserError: an unknown kind, or nothing at the path.
    """
    from leaf_fer.data.sources import locate

    locate(spec)


def find_model(folder: str) -> None:
    """Refuse a model that is not there before anything heavy is imported.

    Raises:
        UserError: neither a run folder nor a model folder.
    """
    if not any((Path(folder) / name).exists() for name in ("config.json", "model/config.json")):
        raise UserError(
            f"{folder}: not a model folder: expected config.json and model.safetensors there, "
            "or in model/ as in the folder of a finished run"
        )


def run_evaluate(command: argparse.Namespace) -> int:
    """``leaf evaluate``."""
    find_model(command.model)
    find_data(command.data)
    from leaf_fer import commands

    return commands.evaluate(
        Path(command.model),
        command.data,
        part=command.part,
        style=command.format,
        batch_size=checked("eval_batch_size", command.batch_size, "--batch-size"),
        device=checked("device", command.device, "--device"),
        cache=command.cache,
    )


def run_predict(command: argparse.Namespace) -> int:
    """``leaf predict``."""
    find_model(command.model)
    from leaf_fer import commands

    return commands.predict(
        Path(command.model),
        command.paths,
        style=command.format,
        batch_size=checked("eval_batch_size", command.batch_size, "--batch-size"),
        device=checked("device", command.device, "--device"),
    )


def run_data(command: argparse.Namespace) -> int:
    """``leaf data``."""
    size = checked("image_size", command.image_size)
    workers = checked("workers", command.workers)
    find_data(command.data)
    from leaf_fer import commands

    sheet = Path(command.sheet) if command.sheet else None
    return commands.data(command.data, size, sheet=sheet, cache=command.cache, workers=workers)


def checked(name: str, text: str, flag: str | None = None) -> Any:
    """Check a value by the rules of an option of ``leaf train``."""
    option = next(option for option in SETTINGS if option.name == name)
    try:
        return option.parse(text)
    except UserError as error:
        raise UserError(str(error).replace(option.flag, flag or option.flag, 1)) from None


def run_methods(command: argparse.Namespace) -> int:
    """``leaf methods``."""
    if command.method is None:
        width = max(map(len, methods()))
        print(f"{'method':{width}}  views          what it is")
        for entry in methods().values():
            views = f"{entry.views[0]} + {entry.views[1]}" if entry.views[1] else entry.views[0]
            print(f"{entry.key:{width}}  {views:13}  {entry.summary}")
        print("\nviews: labeled + unlabeled images, w weakly and s strongly augmented")
        return 0
    entry = method(command.method)
    print(f"{entry.key}\n\n{plain(entry.doc.partition('Args:')[0].rstrip())}\n")
    for option in entry.options:
        print(f"{option.flag}: {option.allowed}; default {_shown(option.default)}")
        print(f"    {plain(option.help)}")
    if entry.recipe:
        print("\nrecipe: " + ", ".join(f"{k} {_shown(v)}" for k, v in entry.recipe.items()))
    return 0


def run_env(command: argparse.Namespace) -> int:
    """``leaf env``."""
    from leaf_fer import commands

    return commands.env()


if __name__ == "__main__":
    sys.exit(main())
