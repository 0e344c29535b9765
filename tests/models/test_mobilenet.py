from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from leaf_fer.cli import main
from leaf_fer.commands import calibration_faces
from leaf_fer.data import synthetic
from leaf_fer.data.augment import normalize
from leaf_fer.data.decode import resize
from leaf_fer.models import read_start, tfjs
from leaf_fer.models.backbone import create_backbone
from leaf_fer.models.mobilenet import MobileNetV1, SameConv2d, load_folded
from leaf_fer.types import MEAN, STD

from .graphs import Made, interpret


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(width=4).write(tmp_path_factory.mktemp("made") / "small.json")


def normalized(pixels):
    return normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), MEAN, STD)


def imported(file, faces, width):
    network = MobileNetV1(width)
    load_folded(network, tfjs.layers(tfjs.read_graph(file)), faces)
    return network


def noise(height, width):
    return np.random.default_rng(1).integers(0, 256, (3, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 47), (50, 35), (1, 2), (112, 97)])
def test_an_imported_network_computes_what_the_graph_does_at_any_size(made, height, width):
    network = imported(made, normalized(synthetic.render(0, np.arange(4), 64)), 4)
    pixels = noise(height, width)
    with torch.no_grad():
        found = network(normalized(pixels))
    expected = interpret(made, pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_graph_of_vggface2_is_imported_to_the_same_features(shared):
    file = shared / "weights" / "faceres-deep.json"
    if not file.exists():
        pytest.skip("needs faceres-deep.json in ../shared/weights")
    parquet = pytest.importorskip("pyarrow.parquet").ParquetFile(shared / "data/ferplus.parquet")
    rows = next(parquet.iter_batches(3, columns=["webp"])).to_pylist()
    photos = [np.array(Image.open(io.BytesIO(row["webp"])).convert("RGB")) for row in rows]
    faces = [resize(photo, 224) for photo in photos]
    pixels = np.stack([*faces, *synthetic.render(5, np.arange(1), 224)])  # gray ones, one in color
    network = imported(file, calibration_faces(None, 8), 32)
    with torch.no_grad():
        found = network(normalized(pixels))
    expected = interpret(file, pixels)
    assert expected.shape == (len(pixels), 1024)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_normalization_has_the_statistics_of_the_faces(made):
    faces = normalized(synthetic.render(0, np.arange(8), 96))
    network = imported(made, faces, 4)
    with torch.no_grad():
        quiet = network(faces)
        trained = network.train()(faces)
    torch.testing.assert_close(trained, quiet, rtol=1e-3, atol=1e-3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 27
    assert all(m.weight.requires_grad for m in norms)


def test_the_backbone_learns_from_random_weights():
    network, width = create_backbone("mobilenetv1_vggface2", 48)
    assert width == 1024
    network(torch.randn(2, 3, 48, 48)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) == 3_206_976  # as Keras says


def error(capsys, *words):
    assert main(["weights", "import", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 5), (7, 7)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_padding_of_stride_2_is_tensorflows_and_so_is_its_gradient(groups, size, layout):
    torch.manual_seed(0)
    convolution = SameConv2d(4, 8, 3, 2, groups=groups, bias=False).double()
    images = torch.randn(2, 4, *size, dtype=torch.float64).contiguous(memory_format=layout)
    images.requires_grad_()
    found = convolution(images)
    # In all, "SAME" pads so much that every ceil(n / 2) is there, the odd one after the last pixel.
    total = [max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in size]
    below, right = (pad - pad // 2 for pad in total)
    padded = F.pad(images, (total[1] // 2, right, total[0] // 2, below))
    expected = F.conv2d(padded, convolution.weight, stride=2, groups=groups)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout)
    with torch.no_grad():
        torch.testing.assert_close(convolution(images), expected)
    weights = torch.randn_like(expected)
    of = (images, convolution.weight)
    for own, other in zip(
        torch.autograd.grad((found * weights).sum(), of),
        torch.autograd.grad((expected * weights).sum(), of),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


class TestCommand:
    def test_it_writes_a_folder_that_says_what_it_is(self, tmp_path, capsys):
        file = Made().write(tmp_path / "big.json")
        (tmp_path / "big.LICENSE").write_text("do as you like")
        for number in range(3):
            Image.fromarray(noise(40, 40)[number]).save(tmp_path / f"{number}.png")
        (tmp_path / "broken.png").write_bytes(b"")
        out = tmp_path / "out"
        words = ["weights", "import", str(file), "--out", str(out), "--faces", str(tmp_path)]
        assert main(words) == 0
        assert "broken.png is empty" in capsys.readouterr().err
        about = json.loads((out / "weights.json").read_text())
        assert about["backbone"] == "mobilenetv1_vggface2"
        assert about["license"] == "do as you like"
        assert about["origin"].startswith("big.json from a test, weights with SHA-256 ")
        assert about["normalization"] == {"mean": list(MEAN), "std": list(STD)}
        network = MobileNetV1().eval()
        network.load_state_dict(read_start(out).tensors)
        pixels = noise(64, 64)
        with torch.no_grad():
            found = network(normalized(pixels))
        torch.testing.assert_close(found.double(), interpret(file, pixels), rtol=1e-3, atol=1e-3)
        assert "already holds weights" in error(capsys, file, "--out", out)

    def test_what_is_no_graph_is_refused(self, tmp_path, capsys, made):
        other = tmp_path / "other.json"
        assert "nowhere.json: no such file" in error(capsys, "nowhere.json", "--out", tmp_path)
        for content in ("{", "[]", "{}", '{"modelTopology": {"node": 3}}', "\xff"):
            other.write_bytes(content.encode("latin1"))
            line = error(capsys, other, "--out", tmp_path)
            assert "not a graph model of TensorFlow.js" in line
        line = error(capsys, made, "--out", tmp_path)
        assert "not MobileNet-V1: convolution 1: kernel (4, 3, 3, 3)" in line

    @pytest.mark.parametrize(
        ("size", "message"),
        [(None, "small-2.bin: cannot be read"), (-1, "bytes by the"), (1, "bytes by the")],
    )
    def test_missing_and_wrong_weight_files_are_named(self, tmp_path, capsys, size, message):
        file = Made(width=4).write(tmp_path / "small.json")
        second = tmp_path / "small-2.bin"
        if size is None:
            second.unlink()
        else:
            second.write_bytes(second.read_bytes()[:-1] if size < 0 else second.read_bytes() + b"x")
        line = error(capsys, file, "--out", tmp_path / "out")
        assert message in line
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dw3/min": {"op": "Identity"}}, "dw3/min: Identity is not expected"),
        ({"dw3/6": 5.0}, "dw3/max: Maximum is not expected"),
        ({"pw4/relu": {"op": "Elu"}}, "pw4/relu: Elu is not expected"),
        ({"conv1/conv": {"op": "MaxPool"}}, "expected a convolution first"),
        ({"dw3/max": {"op": "Relu"}}, r"pw3/conv: expected min\(relu\(x\), 6\) before it"),
        ({"pw4/conv": {"attr": {}}}, "incomplete: KeyError\\('strides'\\)"),
        ({"sigmoid": {"op": "Add", "input": ["pw3/max", "dw3/shift"]}}, "one operation to follow"),
    ],
)
def test_another_graph_is_refused(tmp_path, change, message):
    made = Made(width=4)
    for name, value in change.items():
        if isinstance(value, float):
            made.weights[name] = np.float32(value).reshape(())
        else:
            next(node for node in made.nodes if node["name"] == name).update(value)
    graph = tfjs.read_graph(made.write(Path(tmp_path) / "small.json"))
    with pytest.raises(ValueError, match=message):
        tfjs.layers(graph)


def test_valid_padding_and_quantized_weights_are_refused(tmp_path):
    made = Made(width=4)
    next(n for n in made.nodes if n["name"] == "dw5/conv")["attr"]["padding"]["s"] = "VkFMSUQ="
    file = made.write(tmp_path / "small.json")
    with pytest.raises(ValueError, match="dw5/conv: expected SAME padding"):
        tfjs.layers(tfjs.read_graph(file))
    content = json.loads(file.read_text())
    content["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8"}
    file.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"small\.json: conv1/kernel: stored as uint8; expected float32"
    ):
        tfjs.read_graph(file)
