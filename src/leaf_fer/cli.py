"""The command ``leaf``. Nothing here imports torch before it is known what to do."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leaf_fer.config import (
    SETTINGS,
    Config,
    beginning,
    budget,
    configure,
    configure_pretraining,
    read_yaml,
    write_yaml,
)
from leaf_fer.errors import UserError, speaker
from leaf_fer.hub import is_hub_id
from leaf_fer.parser import build_parser, plain, shown
from leaf_fer.registry import Method, method, methods
from leaf_fer.rows import style_of
from leaf_fer.scenes import arguments as scenes


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
        status = COMMANDS[command.command](command)
        sys.stdout.flush()
        return status
    except UserError as error:
        if debug:
            raise
        print(f"{speaker()}: error: {error}", file=sys.stderr)
        return 2
    except ArithmeticError as error:
        if debug:
            raise
        print(f"{speaker()}: error: {error.args[0]}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that may not be read
        if debug:
            raise
        print(f"{speaker()}: error: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("leaf: stopped", file=sys.stderr)
        return 130


def run_train(command: argparse.Namespace) -> int:
    """``leaf train`` and ``leaf pretrain``."""
    own = ("command", "parser", "debug", "data", "config", "print_config", "out", "resume")
    given = {k: v for k, v in vars(command).items() if k not in own}
    if command.data is not None:
        given["data"] = command.data
    sources = [read_yaml(command.config)] if command.config else []
    alone = command.command == "pretrain"
    config = (configure_pretraining if alone else configure)(*sources, given)
    if command.print_config:
        print(write_yaml(config), end="")
        return 0
    if command.resume and command.out is None:
        raise UserError("--resume: expected --out RUN, the run to go on with")
    if not config.settings.data and not command.resume:
        raise UserError(f"DATA is missing; see leaf {command.command} --help")
    out = Path(command.out) if command.out else default_out(config)
    if not command.resume:  # a run that goes on has a split of its own
        find_data(config.settings.data)
        budget(config.settings.labels)
        beginning(config.settings.init)
    from leaf_fer import commands

    work = commands.pretrain if alone else commands.train
    return work(config, out, resume=command.resume, given=given)


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


def find_model(folder: str, *, here: bool = False) -> None:
    """Refuse a model that is not there before anything heavy is imported.

    Args:
        folder: what was said.
        here: whether a model of the hub, which nobody can write to, will not do.

    Raises:
        UserError: neither a run folder nor a model folder.
    """
    if (is_hub_id(folder) and not here) or (folder.endswith(".onnx") and Path(folder).is_file()):
        return
    if not any((Path(folder) / name).exists() for name in ("config.json", "model/config.json")):
        raise UserError(
            f"{folder}: not a model folder: expected config.json and model.safetensors there, "
            "or in model/ as in the folder of a finished run"
        )


def run_evaluate(command: argparse.Namespace) -> int:
    """``leaf evaluate``."""
    find_model(command.model)
    find_data(command.data)
    from leaf_fer import measure

    return measure.evaluate(
        Path(command.model),
        command.data,
        part=command.part,
        style=command.format,
        cache=command.cache,
        **sets(command),
        **machine(command),
    )


def run_calibrate(command: argparse.Namespace) -> int:
    """``leaf calibrate``."""
    find_model(command.model, here=True)
    find_data(command.data)
    from leaf_fer import measure

    return measure.calibrate(
        Path(command.model),
        command.data,
        part=command.part,
        cache=command.cache,
        **machine(command),
    )


def run_predict(command: argparse.Namespace) -> int:
    """``leaf predict``."""
    find_model(command.model)
    asked = sets(command)
    if command.abstain and asked["coverage"] is None:
        raise UserError("--abstain: expected --coverage as well")
    if scenes.wanted(command):
        from leaf_fer.scenes import command as work

        return work.predict(command, **asked, **machine(command))
    out = Path(command.out) if command.out else None
    style = style_of(command.format, out)
    from leaf_fer import commands

    return commands.predict(
        Path(command.model),
        command.paths,
        style=style,
        out=out,
        abstain=command.abstain,
        **asked,
        **machine(command),
    )


def run_faces(command: argparse.Namespace) -> int:
    """``leaf faces``."""
    from leaf_fer.scenes import command as work

    return work.faces(command)


def run_live(command: argparse.Namespace) -> int:
    """``leaf live``."""
    find_model(command.model)
    asked = sets(command)
    if command.abstain and asked["coverage"] is None:
        raise UserError("--abstain: expected --coverage as well")
    from leaf_fer.scenes import command as work

    return work.live(command, **asked, **machine(command))


def run_export(command: argparse.Namespace) -> int:
    """``leaf export``."""
    find_model(command.model)
    if command.int8 and (command.data is None or command.format != "onnx"):
        raise UserError("--int8: expected --data DATA, and --format onnx")
    if command.data is not None:
        find_data(command.data)
    ending = {"onnx": ".onnx", "torch": ".pt2"}[command.format]
    out = Path(command.out or Path(command.model).name + ending)
    if out.suffix != ending:
        raise UserError(f"--out {out}: expected a name that ends in {ending}")
    from leaf_fer import commands

    return commands.export(
        Path(command.model),
        out,
        style=command.format,
        int8=command.int8,
        data=command.data,
        part=command.part,
        cache=command.cache,
        batch_size=checked("eval_batch_size", command.batch_size, "--batch-size"),
    )


def sets(command: argparse.Namespace) -> dict[str, Any]:
    """What is asked about candidate sets.

    Raises:
        UserError: a coverage that cannot be, or something about sets that are not asked for.
    """
    text = command.coverage
    if text is None:
        if command.per_class:
            raise UserError("--per-class: expected --coverage as well")
        return {"coverage": None, "per_class": False}
    try:
        coverage = float(text)
    except ValueError:
        coverage = math.nan
    if not 0 < coverage < 1:
        raise UserError(f"--coverage {text}: expected a number in (0, 1)")
    return {"coverage": coverage, "per_class": command.per_class}


def machine(command: argparse.Namespace) -> dict[str, Any]:
    """How a model is to be run."""
    return {
        "batch_size": checked("eval_batch_size", command.batch_size, "--batch-size"),
        "device": checked("device", command.device, "--device"),
        "precision": checked("precision", command.precision, "--precision"),
    }


def run_report(command: argparse.Namespace) -> int:
    """``leaf report``."""
    for folder in filter(None, (*command.runs, command.beside)):
        if not (Path(folder) / "config.yaml").exists():
            raise UserError(f"{folder}: not a run folder: expected config.yaml there")
    checked("device", command.device)
    from leaf_fer import reports

    return reports.main(command)


def run_label(command: argparse.Namespace) -> int:
    """``leaf label``."""
    from leaf_fer.labeling import command as labeling

    return labeling.main(command)


def run_serve(command: argparse.Namespace) -> int:
    """``leaf serve``."""
    find_model(command.model)
    command.per_class = False
    coverage = sets(command)["coverage"]
    machine = {name: checked(name, getattr(command, name)) for name in ("device", "precision")}
    from leaf_fer.serving import command as serving

    return serving.main(command, coverage=coverage, **machine)


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
        print(_listing())
        return 0
    entry = method(command.method)
    print(f"{entry.key}\n\n{plain(entry.doc.partition('Args:')[0].rstrip())}.\n")
    for option in entry.options:
        print(f"{option.flag}: {option.allowed}; default {shown(option.default)}")
        print(f"    {plain(option.help)}")
    print(f"\nviews: {_views(entry)}; {entry.cost:.1f} times the computing of supervised training")
    print(f"remembered from step to step: {entry.state or 'nothing'}")
    if entry.recipe:
        print("recipe: " + ", ".join(f"{k} {shown(v)}" for k, v in entry.recipe.items()))
    return 0


def _views(entry: Method) -> str:
    return " + ".join(word for word in entry.views if word)


def _listing() -> str:
    """All methods, a line each."""
    rows = [("method", "paper", "year", "views", "cost", "remembers")]
    for entry in methods().values():
        authors, year, _ = entry.paper
        cost = f"{entry.cost:.1f}"
        rows.append(
            (entry.key, authors or "-", year or "-", _views(entry), cost, entry.state or "-")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines) + (
        "\n\nviews: labeled + unlabeled images, w weakly and s strongly augmented"
        "\ncost: computing per step, supervised training = 1; one unlabeled image per labeled one"
        "\nmore about one, with its equation and options: leaf methods METHOD"
    )


def run_env(command: argparse.Namespace) -> int:
    """``leaf env``."""
    from leaf_fer import commands

    return commands.env()


def run_bench(command: argparse.Namespace) -> int:
    """``leaf bench``."""
    if command.part == "speed":
        from leaf_fer.bench import speed

        return speed.main(command)
    if command.part == "table":
        from leaf_fer.bench import table

        return table.main(command)
    if command.part == "plot":
        from leaf_fer.bench import plot

        return plot.main(command)
    from leaf_fer.bench import run

    return run.main(command)


def run_weights(command: argparse.Namespace) -> int:
    """``leaf weights``."""
    for path in filter(None, (command.file, command.faces)):
        if not Path(path).exists():
            raise UserError(f"{path}: no such file or folder")
    if (Path(command.out) / "weights.json").exists():
        raise UserError(f"--out {command.out}: already holds weights; choose another folder")
    from leaf_fer import commands

    faces = Path(command.faces) if command.faces else None
    return commands.import_weights(Path(command.file), Path(command.out), faces=faces)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": run_train,
    "pretrain": run_train,
    "evaluate": run_evaluate,
    "calibrate": run_calibrate,
    "faces": run_faces,
    "predict": run_predict,
    "live": run_live,
    "export": run_export,
    "report": run_report,
    "label": run_label,
    "serve": run_serve,
    "data": run_data,
    "weights": run_weights,
    "methods": run_methods,
    "env": run_env,
    "bench": run_bench,
}


if __name__ == "__main__":
    sys.exit(main())
