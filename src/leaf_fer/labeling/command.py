"""``leaf label``: from what was asked for to a page, or to a table of labels."""

from __future__ import annotations

import argparse
import secrets
import shlex
from pathlib import Path
from typing import Any

from leaf_fer.data.store import Store, prepare
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_atomically
from leaf_fer.labeling import export, features, order
from leaf_fer.labeling.arguments import HOST
from leaf_fer.labeling.database import begun
from leaf_fer.labeling.desk import Desk, Order
from leaf_fer.labeling.faces import Faces, read, split
from leaf_fer.labeling.journal import Answer, Journal
from leaf_fer.options import describe
from leaf_fer.ranges import Count, Natural

DATABASE = Path(".leaf") / "labels.sqlite"
"""In the folder of the faces; hidden, so that it is not taken for one of them."""

LIST = "labels.csv"
"""What the page writes into the folder of the faces."""

NUMBERS = (describe(Natural, "seed", 0), describe(Count, "goal", 25), describe(Natural, "port", 0))


def main(command: argparse.Namespace) -> int:
    """``leaf label``.

    Returns:
        0.

    Raises:
        UserError: a mistake in what was asked for.
    """
    if command.with_unlabeled and not command.export:
        raise UserError("--with-unlabeled: expected --export FILE.csv as well")
    folder = Path(command.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    for option in NUMBERS:
        setattr(command, option.name, option.parse(getattr(command, option.name)))
    if command.model and not Path(command.model).exists():
        raise UserError(f"--model {command.model}: no such file or folder")
    file = Path(command.database) if command.database else folder / DATABASE
    if command.export and not file.exists():
        raise UserError(f"--export {command.export}: no labels yet: there is no {file}")
    given = begun(file) if command.classes is None else split(command.classes)
    faces = read(folder, given)
    journal = Journal(file, faces.classes)
    try:
        if command.export:
            return _export(command, faces, journal)
        return _label(command, faces, journal)
    finally:
        journal.close()


def _export(command: argparse.Namespace, faces: Faces, journal: Journal) -> int:
    """Write a table, and say what it is good for."""
    file, said = Path(command.export), named(faces, journal)
    if command.with_unlabeled:
        text, count = export.table_of_faces(faces, said, file)
        words = ["leaf", "train", str(file)]
    else:
        text, count = export.list_of_labels(faces, said)
        words = ["leaf", "train", command.folder, "--labels", str(file)]
    write_atomically(file, text.encode())
    say(f"{count} labels in {file}: {shlex.join(words)}")
    rejected = sum(answer.kind == "reject" for answer in said.values())
    if rejected and not command.with_unlabeled:
        say(
            f"not a face: {rejected}, which a list of labels cannot leave out of training; "
            "--with-unlabeled writes a table that does"
        )
    return 0


def named(faces: Faces, journal: Journal) -> dict[str, Answer]:
    """What holds, by the name of the face."""
    numbers = journal.numbers([faces.table.names[row] for row in faces.rows])
    answers = journal.answers()
    return {name: answers[number] for name, number in numbers.items() if number in answers}


def _label(command: argparse.Namespace, faces: Faces, journal: Journal) -> int:
    """Serve the page until somebody stops it."""
    try:
        from leaf_fer.labeling.page.app import create_app
        from leaf_fer.web import address, listen, serve
    except ImportError as error:
        raise UserError(f"leaf label needs {error.name}: pip install 'leaf-fer[label]'") from None
    token = secrets.token_urlsafe(16)
    with listen(command.host, command.port) as listener:
        desk = open_desk(command, faces, journal)
        about = {
            "folder": Path(command.folder).absolute().name,
            "classes": faces.classes,
            "goal": command.goal,
        }
        app = create_app(desk, token, about, lambda: _write(command, desk))
        if command.host not in (HOST, "localhost", "::1"):
            say(
                f"leaf: --host {command.host}: anyone on the network who learns the address sees "
                "the faces and may label them; what is sent is not encrypted"
            )
        where = f"open {address(listener, token)} in a browser; Ctrl-C stops, nothing is lost"
        serve(app, listener, ready=lambda: print(where, flush=True))
    labeled = desk.progress("")["labeled"]
    how = shlex.join(["leaf", "label", command.folder, "--export", LIST])
    print(f"{labeled} labels in {journal.file}; for leaf train: {how}", flush=True)
    return 0


def open_desk(command: argparse.Namespace, faces: Faces, journal: Journal) -> Desk:
    """Decode the faces, look at them, and get ready to choose.

    Raises:
        UserError: no image can be read, or the model cannot be used.
    """
    encoder = features.plain()
    if command.model and command.order == "useful":
        from leaf_fer.labeling.network import network

        encoder = network(Path(command.model))
    elif command.order == "useful":
        say("leaf: faces are compared by their pixels; --model WEIGHTS finds better ones to label")
    cache = Path(command.cache) if command.cache else None
    store: Store = prepare(faces.table, encoder.size, cache=cache)
    chooser: Order = order.Random(len(faces.table), command.seed)
    if command.order == "useful":
        seen = features.features_of(store, encoder, journal.file.parent)
        rows = faces.rows[store.valid[faces.rows]]
        chooser = order.Useful(seen, rows, len(faces.classes), command.seed)
    return Desk(faces, journal, chooser, store.valid, command.goal)


def _write(command: argparse.Namespace, desk: Desk) -> dict[str, Any]:
    """Write the labels into the folder of the faces, for the page.

    Raises:
        UserError: there are none, or a file is there that somebody else wrote.
    """
    file = Path(command.folder) / LIST
    text, count = export.list_of_labels(desk.faces, named(desk.faces, desk.journal))
    export.replace_own(file, text, desk.journal)
    whole = ["leaf", "label", command.folder, "--export", "faces.csv", "--with-unlabeled"]
    return {
        "file": str(file),
        "count": count,
        "train": shlex.join(["leaf", "train", command.folder, "--labels", str(file)]),
        "whole": f"{shlex.join(whole)}\nleaf train faces.csv",
    }
