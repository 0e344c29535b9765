"""Models on a hub, which runs on this machine and knows just what is needed."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

import leaf_fer
from leaf_fer import cli, hub
from leaf_fer.conformal import Calibration
from leaf_fer.data import synthetic
from leaf_fer.errors import UserError
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.predict import write_calibration
from leaf_fer.types import MEAN, STD

huggingface_hub = pytest.importorskip("huggingface_hub")
CLASSES = ("calm", "glad", "grim")
FACTS = {"data": "ferplus:/home/somebody/secret/FERPlus", "labels": "/home/somebody/l.csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=32)
    save_model(path, build_classifier(network), Card(network, CLASSES, MEAN, STD, FACTS))
    p = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    write_calibration(path, Calibration.of(p, np.arange(40) % 3, "here"))
    (path / "notes.txt").write_text("mine")
    return path


class Hub(ThreadingHTTPServer):
    """Repositories as lists of commits, each {file: content}."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.commits = {}  # name -> [(commit, files)]
        self.asked = []

    def add(self, name, files):
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(name, []).append((commit, files))
        return commit

    def find(self, name, revision):
        commits = self.commits.get(name, [])
        known = dict(commits)
        return (revision, known[revision]) if revision in known else commits[-1]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.asked.append(self.path)
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(?:revision|tree)/([^/?]+).*", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        name = (found or file) and (found or file)[1]
        if name not in self.server.commits or (found or file)[2] == "nothing":
            kind = "RevisionNotFound" if name in self.server.commits else "RepoNotFound"
            return self.reply({"error": "not there"}, 404, X_Error_Code=kind)
        commit, files = self.server.find(name, (found or file)[2])
        if found and "/tree/" in self.path:
            sizes = {file: len(content) for file, content in files.items()}
            return self.reply(
                [{"type": "file", "path": f, "size": n, "oid": f} for f, n in sizes.items()]
            )
        if found:
            about = {"id": name, "sha": commit, "private": False, "tags": [], "downloads": 0}
            return self.reply(about | {"siblings": [{"rfilename": f} for f in files]})
        etag = f'"{hashlib.sha1(files[file[3]]).hexdigest()}"'
        return self.reply(files[file[3]], X_Repo_Commit=commit, ETag=etag)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        if self.path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            self.server.commits.setdefault(name, [])
            return self.reply({"url": f"{self.server.address}/{name}", "id": name, "name": name})
        if self.path == "/api/validate-yaml":  # the header of the model card
            assert json.loads(body)["content"].startswith("---\nlibrary_name: leaf-fer\n")
            return self.reply({"errors": [], "warnings": []})
        name = re.match(r"/api/models/([^/]+/[^/]+)/", self.path)[1]
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                      for f in files]  # fmt: skip
            return self.reply({"files": answer})
        lines = [json.loads(line)["value"] for line in body.splitlines()]
        files = {one["path"]: base64.b64decode(one["content"]) for one in lines if "path" in one}
        commit = self.server.add(name, files)
        url = f"{self.server.address}/{name}/commit/{commit}"
        return self.reply({"success": True, "commitOid": commit, "commitUrl": url})


@pytest.fixture
def server(tmp_path, monkeypatch):
    running = Hub()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", running.address)
    template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.chdir(tmp_path)
    yield running
    running.shutdown()
    running.server_close()


def test_a_model_comes_back_from_the_hub_as_it_was(folder, server):
    commit = leaf_fer.push_to_hub(folder.parent, "somebody/faces")
    faces = synthetic.render(3, range(4), 32)
    mine = leaf_fer.load(folder, device="cpu")
    theirs = leaf_fer.load("somebody/faces", device="cpu")
    np.testing.assert_array_equal(mine.probabilities(faces), theirs.probabilities(faces))
    assert theirs.classes == CLASSES
    assert theirs.calibration is not None
    assert server.commits["somebody/faces"][-1][0] == commit


def test_only_what_others_need_is_sent_and_no_folder_is_named(folder, server):
    leaf_fer.load(folder, device="cpu").push_to_hub("somebody/faces")
    ((_, files),) = server.commits["somebody/faces"]
    assert set(files) == set(hub.FILES)
    assert json.loads(files["config.json"])["facts"] == {"data": "ferplus", "labels": "l.csv"}
    assert not any(b"somebody" in content for content in files.values())
    assert b"Art. 5(1)(f)" in files["README.md"]


def test_a_commit_pins_a_model(folder, server, tmp_path):
    first = leaf_fer.push_to_hub(folder, "somebody/faces")
    other = tmp_path / "other"
    torch.manual_seed(1)
    network = Architecture(backbone="test_resnet", num_classes=2, image_size=32)
    save_model(other, build_classifier(network), Card(network, ("no", "yes"), MEAN, STD))
    leaf_fer.push_to_hub(other, "somebody/faces")
    assert leaf_fer.load("somebody/faces").classes == ("no", "yes")
    assert leaf_fer.load("somebody/faces", revision=first).classes == CLASSES
    assert leaf_fer.load(f"somebody/faces@{first}").classes == CLASSES


def test_nothing_else_is_fetched(folder, server):
    files = hub.snapshot(folder) | {"pytorch_model.bin": b"code", "run.py": b"code"}
    server.add("somebody/faces", files)
    found = hub.fetch("somebody/faces")
    assert {path.name for path in found.iterdir()} == set(hub.FILES)
    assert not any("run.py" in path or ".bin" in path for path in server.asked)


def test_what_is_in_the_cache_needs_no_hub(folder, server, monkeypatch):
    commit = leaf_fer.push_to_hub(folder, "somebody/faces")
    hub.fetch("somebody/faces")
    server.shutdown()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert leaf_fer.load("somebody/faces", revision=commit).classes == CLASSES


@pytest.mark.parametrize("name", ["somebody/else", "somebody/faces@nothing"])
def test_what_is_not_there_is_said_in_one_line(folder, server, name, capsys):
    server.add("somebody/faces", hub.snapshot(folder))
    assert cli.main(["predict", name, "face.png"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"leaf: error: {name}: no such folder here, and the hub does not give")
    assert said.count("\n") == 1


def test_the_command_takes_models_of_the_hub(folder, server, tmp_path, capsys):
    from PIL import Image

    leaf_fer.push_to_hub(folder, "somebody/faces")
    capsys.readouterr()
    Image.fromarray(synthetic.render(3, [0], 32)[0]).save(tmp_path / "face.png")
    words = ["predict", "somebody/faces", "face.png", "--format", "json", "--device", "cpu"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in CLASSES
    assert cli.main(["calibrate", "somebody/faces", "synthetic"]) == 2  # nowhere to write it


def test_a_misspelled_folder_is_not_asked_for_on_the_hub(server, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert not hub.is_hub_id("runs/frist")
    assert cli.main(["predict", "runs/frist", "face.png"]) == 2
    assert "not a model folder" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize("text", ["a", "a/b/c", "/a/b", "../b", "a/b@", "a/b@x y", "-a/b", "a/..b"])
def test_other_words_are_no_names(text):
    assert not hub.is_hub_id(text)


def test_what_is_no_model_is_not_pushed(server, tmp_path):
    with pytest.raises(UserError, match="not a model folder"):
        leaf_fer.push_to_hub(tmp_path, "somebody/faces")
    assert server.asked == []


def test_a_revision_is_of_the_hub(folder):
    with pytest.raises(UserError, match="expected a model of the hub"):
        leaf_fer.load(folder, revision="main")
