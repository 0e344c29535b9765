import http.client
import io

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from tests.programs import Program, starting

import leaf_fer
from leaf_fer.conformal import Calibration
from leaf_fer.data import synthetic
from leaf_fer.faces.detection import Faces
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.predict import write_calibration
from leaf_fer.serving.app import create_app
from leaf_fer.serving.limits import Limits
from leaf_fer.serving.reader import Reader
from leaf_fer.types import MEAN, STD

CLASSES = ("calm", "glad", "grim")
SIZE = 32


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A calibrated model folder with random weights."""
    path = tmp_path_factory.mktemp("runs") / "mine" / "model"
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=SIZE)
    save_model(path, build_classifier(network), Card(network, CLASSES, MEAN, STD))
    p = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    write_calibration(path, Calibration.of(p, np.arange(40) % 3, "here"))
    return path


@pytest.fixture(scope="session")
def predictor(folder):
    return leaf_fer.load(folder, device="cpu", precision="float32")


@pytest.fixture
def open_client(predictor):
    """Clients of servers that run in this process."""
    opened = []

    def make(detector=None, coverage=None, work=None, **limits):
        reader = Reader(predictor, detector, Limits(**limits), coverage)
        if work:
            reader.read = work
        client = TestClient(create_app(reader, "mine"), raise_server_exceptions=False)
        opened.append(client)
        return client.__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client):
    return open_client()


class Squares:
    """A detector that finds the squares that are given to it."""

    name = "squares"

    def __init__(self, *corners, side=40):
        self.boxes = np.array([[x, y, x + side, y + side] for x, y in corners], np.float32)

    def detect(self, image):
        count = len(self.boxes)
        scores = np.linspace(0.9, 0.5, count).astype(np.float32)
        marks = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        sides = (self.boxes[:, 2:] - self.boxes[:, :2])[:, None] if count else np.zeros((0, 1, 2))
        corners = self.boxes.reshape(-1, 4)[:, None, :2]
        points = corners + marks[None] * sides
        return Faces(self.boxes.reshape(-1, 4), scores, points.astype(np.float32))


def face(number=0, side=64):
    """(side, side, 3) uint8."""
    return synthetic.render(3, [number], side)[0]


def saved(image, kind="PNG", **more):
    """An image file."""
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, kind, **more)
    return content.getvalue()


def post(client, content, kind="image/jpeg"):
    return client.post("/predict", content=content, headers={"Content-Type": kind})


class Serving(Program):
    """``leaf serve``."""

    def __init__(self, *words):
        self.connections = []
        super().__init__("-m", "leaf_fer", "serve", *words)
        self.port = int(self.address.split("/")[2].rpartition(":")[2])

    def connect(self):
        """A connection that is not used yet; it is closed in the end."""
        self.connections.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))
        return self.connections[-1]

    def ask(self, method, path, body=None, kind="image/png"):
        """Status and content of an answer."""
        connection = self.connect()
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        with connection.getresponse() as reply:
            content = reply.read()
        connection.close()  # a stopping server closes those that are kept, after a while
        return reply.status, content

    def close(self):
        for connection in self.connections:
            connection.close()
        super().close()


@pytest.fixture
def start():
    """Starts ``leaf serve``."""
    with starting(Serving) as begin:
        yield begin
