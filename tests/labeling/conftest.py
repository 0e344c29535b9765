import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.programs import Program, starting

from leaf_fer.data import synthetic
from leaf_fer.labeling.desk import Desk
from leaf_fer.labeling.faces import read
from leaf_fer.labeling.journal import Journal
from leaf_fer.labeling.order import Random

RUNNER = Path(__file__).with_name("runner.py")
CLASSES = ("glad", "grim", "calm")
A, B, C = ("a" * 32, "b" * 32, "c" * 32)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    """12 drawn faces, 00.png to 11.png."""
    return draw(tmp_path / "faces", 12)


def draw(path, count, size=32):
    path.mkdir(parents=True, exist_ok=True)
    for row, pixels in enumerate(synthetic.render(0, np.arange(count), size)):
        Image.fromarray(pixels).save(path / f"{row:02}.png")
    return path


@pytest.fixture
def open_journal(tmp_path):
    """Opens the same journal again and again; all are closed in the end."""
    opened = []

    def make(file="labels.sqlite", classes=CLASSES):
        opened.append(Journal(tmp_path / file, classes))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def open_desk(open_journal, folder):
    """A desk of the folder; again and again over the same journal."""

    def make(order=None, valid=None, classes=CLASSES):
        faces = read(folder, classes)
        count = len(faces.table)
        return Desk(
            faces,
            open_journal(),
            order or Random(count, 0),
            np.ones(count, bool) if valid is None else valid,
            goal=2,
        )

    return make


class Client:
    """What the page does, without a browser."""

    def __init__(self, address, tab=A):
        self.address, self.tab = address, tab
        self.host = address.split("/")[2]

    def ask(self, path, body=None, **headers):
        """Status, headers and content of an answer; content is parsed where it is JSON."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if data is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        address = path if path.startswith("http") else self.address + path
        request = urllib.request.Request(address, data, given)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, head, content = reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, head, content = error.code, error.headers, error.read()
        parsed = json.loads(content) if "json" in head.get("Content-Type", "") else content
        return status, head, parsed

    def offer(self, *want, **more):
        return self.ask("offer", {"tab": self.tab, "want": want, **more})[2]

    def answer(self, shown, kind="label", choice=0):
        """Status and content."""
        said = {"tab": self.tab, **shown, "kind": kind}
        return self.ask("answer", said | ({"choice": choice} if kind == "label" else {}))[::2]

    def undo(self):
        return self.ask("undo", {"tab": self.tab})[2]


class Labeling(Program):
    """``leaf label``."""

    def __init__(self, *words):
        super().__init__(RUNNER, *words)

    def client(self, tab=A):
        return Client(self.address, tab)


@pytest.fixture
def start():
    """Starts ``leaf label``."""
    with starting(Labeling) as begin:
        yield begin


def content_of(folder):
    """Bytes of all files below a folder."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
