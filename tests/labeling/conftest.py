import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import PATIENCE

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


class Program:
    """``leaf label`` in a process of its own."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [sys.executable, RUNNER, *map(str, words), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("open http://"), line + self.process.stderr.read()
        self.address = line.split()[1]

    def client(self, tab=A):
        return Client(self.address, tab)

    def kill(self):
        """As ``kill -9`` does: nothing can be saved any more."""
        self.process.kill()
        self.close()

    def stop(self):
        """As Ctrl-C does: status, standard output, standard error."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start():
    """Starts ``leaf label``; all processes are ended in the end."""
    started = []

    def begin(*words):
        started.append(Program(*words))
        return started[-1]

    yield begin
    for program in started:
        program.close()


def content_of(folder):
    """Bytes of all files below a folder."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
