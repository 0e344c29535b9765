import pytest
from PIL import Image

from leaf_fer.config import configure
from leaf_fer.data import synthetic
from leaf_fer.data.table import EXPRESSIONS

PARTS = {"train": range(64), "validation": range(64, 96), "test": range(96, 128)}


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A folder of drawn faces in class folders: 64 to train on, 32 for validation, 32 for test."""
    root = tmp_path_factory.mktemp("faces")
    for part, rows in PARTS.items():
        for row, label, pixels in zip(
            rows, synthetic.labels(0, rows), synthetic.render(0, rows, 32), strict=True
        ):
            folder = root / part / EXPRESSIONS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{row}.png")
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Decoded images, shared by all tests here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(faces, cache, monkeypatch):
    """A configuration that trains in seconds."""
    monkeypatch.setenv("LEAF_CACHE", str(cache))

    def make(**options):
        given = {
            "data": str(faces),
            "labels": 16,
            "image_size": 32,
            "backbone": "test_resnet",
            "batch_size": 4,
            "steps": 6,
            "epoch_steps": 3,
            "precision": "float32",
            "device": "cpu",
            "final": "validation",
            "report": False,
        }
        return configure({**given, **options})

    return make
