import numpy as np
import pytest

from leaf_fer.data.split import draw
from leaf_fer.data.table import EXPRESSIONS, PARTS, UNKNOWN, FaceTable


@pytest.fixture
def make_faces():
    """(counts per part and class, unlabeled images, classes) -> a table and its content.

    The content of no two images is the same.
    """
    return make_table


@pytest.fixture
def split_of():
    """(table, hashes, options of draw) -> a split; by default of readable images, seed 0."""
    return draw_split


@pytest.fixture
def data():
    """40 training, 4 validation and 5 test images of each of 3 classes, and 7 unlabeled ones."""
    return make_table({"train": 40, "validation": 4, "test": 5}, unlabeled=7)


def make_table(counts, unlabeled=0, classes=3):
    """A table with so many images of each class in each part, and content that never repeats."""
    names, targets, parts = [], [], []
    for part, count in counts.items():
        each = np.broadcast_to(count, classes)
        for target, number in enumerate(each):
            names += [f"{part}/{target}/{index:05d}.jpg" for index in range(number)]
            targets += [target] * number
            parts += [PARTS.index(part)] * number
    names += [f"unlabeled/{index:05d}.jpg" for index in range(unlabeled)]
    targets += [UNKNOWN] * unlabeled
    parts += [0] * unlabeled
    hashes = np.random.default_rng(0).integers(0, 256, (len(names), 16), dtype=np.uint8)
    table = FaceTable(
        EXPRESSIONS[:classes], names, np.array(targets), np.array(parts, dtype=np.uint8)
    )
    return table, hashes


def draw_split(table, hashes, **options):
    options = {"labels": None, "seed": 0, "valid": np.ones(len(table), bool)} | options
    return draw(table, hashes=hashes, **options)
