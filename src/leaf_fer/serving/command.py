"""``leaf serve``: from what was asked for to a server."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from leaf_fer.errors import UserError, say
from leaf_fer.serving.arguments import HOST, PORTS, limits


def main(command: argparse.Namespace, *, coverage: float | None, **machine: Any) -> int:
    """``leaf serve``.

    Args:
        command: what was asked for.
        coverage: checked.
        machine: ``device`` and ``precision``, checked.

    Returns:
        0.

    Raises:
        UserError: a mistake in what was asked for.
    """
    bounds, port = limits(command), PORTS.parse(command.port)
    try:
        from leaf_fer.serving.app import create_app
        from leaf_fer.web import address, listen, serve
    except ImportError as error:
        raise UserError(f"leaf serve needs {error.name}: pip install 'leaf-fer[serve]'") from None
    from leaf_fer.faces.detection import find_detector
    from leaf_fer.predict import load
    from leaf_fer.serving.reader import Reader

    with listen(command.host, port) as listener:
        detector = None if command.detector == "none" else find_detector(command.detector)
        predictor = load(command.model, **machine)
        reader = Reader(predictor, detector, bounds, coverage)
        app = create_app(reader, named(command.model))
        if command.host not in (HOST, "localhost", "::1"):
            say(
                f"leaf: --host {command.host}: anyone on the network may use the model; "
                "what is sent is not encrypted"
            )
        where = f"open {address(listener)} in a browser; Ctrl-C stops"
        serve(
            app,
            listener,
            ready=lambda: print(where, flush=True),
            patience=math.ceil(bounds.timeout) + 1,
        )
    return 0


def named(model: str) -> str:
    """What a model is called: without the folders that it is in."""
    path = Path(model).absolute()
    return path.parent.name if path.name in ("model", "best") else path.stem
