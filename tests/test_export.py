"""Models for other programs: they answer as the network does."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import leaf_fer
from leaf_fer import export
from leaf_fer.cli import main
from leaf_fer.conformal import Calibration
from leaf_fer.data import synthetic
from leaf_fer.errors import UserError
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.predict import write_calibration
from leaf_fer.types import MEAN, STD

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CLASSES = ("calm", "glad", "grim")
SIZE = 32
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")


def made(folder, **options):
    """A model folder whose batch-norm has seen faces, and whose head does not say one thing."""
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=SIZE, **options)
    model = build_classifier(network)
    faces = torch.from_numpy(export.colors(synthetic.render(0, np.arange(32), SIZE)))
    for _ in range(20):
        model.train()((faces - 0.45) / 0.22)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_model(folder, model, Card(network, CLASSES, MEAN, STD, {"method": "leaf"}))
    p = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    write_calibration(folder, Calibration.of(p, np.arange(40) % 3, "here"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("model"), eaf="semantic,instance")


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """Both files of a model."""
    out = tmp_path_factory.mktemp("exported")
    for style, ending in (("onnx", ".onnx"), ("torch", ".pt2")):
        words = ["export", str(folder), "--format", style, "--out", str(out / f"m{ending}")]
        assert main(words) == 0
    return out


def expected(folder, faces):
    return leaf_fer.load(folder, device="cpu", precision="float32").probabilities(faces)


@pytest.mark.parametrize("count", [1, 7, 33])
def test_an_onnx_file_says_what_the_network_says(folder, exported, count):
    faces = synthetic.render(3, np.arange(count), SIZE)
    found = export.OnnxNetwork(exported / "m.onnx").probabilities(export.colors(faces))
    wanted = expected(folder, faces)
    assert np.ptp(wanted, axis=0).max() > 0.01 or count == 1
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()


def test_a_program_of_torch_runs_where_this_package_is_not(folder, exported, tmp_path):
    faces = synthetic.render(3, np.arange(7), SIZE)
    np.save(tmp_path / "faces.npy", export.colors(faces))
    code = (
        "import sys, json, numpy as np, torch\n"
        "sys.modules['leaf_fer'] = None\n"
        "extra = {'leaf_fer': ''}\n"
        f"program = torch.export.load({str(exported / 'm.pt2')!r}, extra_files=extra).module()\n"
        f"faces = torch.from_numpy(np.load({str(tmp_path / 'faces.npy')!r}))\n"
        "print(json.dumps([json.loads(extra['leaf_fer'])['classes'], program(faces).tolist()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    classes, found = json.loads(done.stdout)
    assert classes == list(CLASSES)
    np.testing.assert_allclose(found, expected(folder, faces), atol=1e-5)


def test_an_onnx_file_takes_the_place_of_a_model(folder, exported, tmp_path, capsys):
    from PIL import Image

    face = tmp_path / "face.png"
    Image.fromarray(synthetic.render(3, [0], SIZE)[0]).save(face)
    answers = []
    for model in (folder, exported / "m.onnx"):
        words = ["--format", "json", "--coverage", "0.9", "--precision", "float32"]
        assert main(["predict", str(model), str(face), *words]) == 0
        answers += json.loads(capsys.readouterr().out)
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["candidates"] == answers[1]["candidates"]
    assert answers[0]["scores"] == pytest.approx(answers[1]["scores"], abs=1e-5)
    assert leaf_fer.load(exported / "m.onnx").card.facts == {"method": "leaf"}


@pytest.mark.parametrize(
    "options",
    [
        {"eaf": "none", "backbone": "conv4"},
        {"eaf": "semantic,instance", "num_experts": 8, "top_k": 1, "gate": "noisy",
         "shared_expert": True, "combine": "log", "instance_level": "feature",
         "normalize_features": True},
        {"eaf": "semantic", "expert": "linear", "backbone": "mobilenetv1_vggface2"},
        {"eaf": "instance", "expert": "bottleneck", "top_k": 4},
    ],
)  # fmt: skip
def test_every_network_of_ours_can_be_exported(tmp_path, options):
    network = Architecture(**{"backbone": "test_resnet", "num_classes": 3, "image_size": SIZE,
                              **options})  # fmt: skip
    torch.manual_seed(0)
    model = build_classifier(network).eval()
    export.export_onnx(model, Card(network, CLASSES, MEAN, STD), tmp_path / "m.onnx")


@pytest.mark.parametrize("style", ["onnx", "torch"])
def test_files_agree_with_the_network_on_real_faces(folder, tmp_path, shared, style):
    parquet = pytest.importorskip("pyarrow.parquet").ParquetFile(shared / "data/ferplus.parquet")
    rows = next(parquet.iter_batches(batch_size=7, columns=["webp"])).to_pylist()
    from PIL import Image

    images = [Image.open(io.BytesIO(row["webp"])).convert("RGB") for row in rows]
    faces = np.stack([np.asarray(image.resize((SIZE, SIZE))) for image in images])
    predictor = leaf_fer.load(folder, device="cpu", precision="float32")
    assert np.ptp(predictor.probabilities(faces), axis=0).max() > 0.01
    write = {"onnx": export.export_onnx, "torch": export.export_torch}[style]
    assert write(predictor.model, predictor.card, tmp_path / "m", None, faces) < 1e-5


def test_the_faces_given_are_those_compared(folder, tmp_path, monkeypatch):
    seen = []
    predictor = leaf_fer.load(folder, device="cpu")
    answer = export.OnnxNetwork.probabilities

    def note(self, images):
        seen.append(images)
        return answer(self, images)

    monkeypatch.setattr(export.OnnxNetwork, "probabilities", note)
    faces = synthetic.render(5, np.arange(9), SIZE)
    export.export_onnx(predictor.model, predictor.card, tmp_path / "m.onnx", None, faces)
    assert [len(images) for images in seen] == [1, 7]
    np.testing.assert_array_equal(seen[1], export.colors(faces[2:]))


def test_a_file_that_answers_otherwise_is_refused(folder, tmp_path, monkeypatch):
    model, card = leaf_fer.load(folder, device="cpu").model, leaf_fer.load(folder).card
    answer = export.OnnxNetwork.probabilities
    monkeypatch.setattr(
        export.OnnxNetwork, "probabilities", lambda self, images: answer(self, images) + 1e-3
    )
    with pytest.raises(UserError, match=r"differ by 0\.001 from those of the model; expected at"):
        export.export_onnx(model, card, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("write", ["export_onnx", "export_torch"])
def test_a_refused_export_keeps_the_file_that_was_there(folder, tmp_path, monkeypatch, write):
    def refuse(*_):
        raise UserError("differs")

    monkeypatch.setattr(export, "compare", refuse)
    predictor = leaf_fer.load(folder, device="cpu")
    (tmp_path / "model").write_text("old")
    with pytest.raises(UserError, match="differs"):
        getattr(export, write)(predictor.model, predictor.card, tmp_path / "model")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("model", "old")]


def test_integers_that_fail_leave_no_part(exported, tmp_path, monkeypatch):
    import onnxruntime.quantization as quantization

    def fail(source, out, *_, **__):
        Path(out).write_text("a part")
        raise RuntimeError("no")

    monkeypatch.setattr(quantization, "quantize_static", fail)
    with pytest.raises(RuntimeError, match="no"):
        export.quantize(exported / "m.onnx", tmp_path / "m.onnx", synthetic.render(0, [0], SIZE))
    assert list(tmp_path.iterdir()) == []


def test_integers_come_with_what_they_cost(folder, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    cache = ["--cache", str(tmp_path / "cache")]
    pixels = synthetic.render(0, range(48), SIZE)
    from PIL import Image

    for row, face in enumerate(pixels):
        place = tmp_path / "faces" / ("train", "validation")[row % 2] / CLASSES[row % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(place / f"{row}.png")
    words = ["export", str(folder), "--out", str(out), "--int8", "--data", str(tmp_path / "faces")]
    assert main([*words, *cache]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"{out}: ")
    assert said[2].startswith(f"{tmp_path / 'm.int8.onnx'}: ")
    assert all("validation part: overall" in line for line in said[1:])
    small, whole = (export.OnnxNetwork(p) for p in (tmp_path / "m.int8.onnx", out))
    images = export.colors(pixels[:8])
    gap = np.abs(small.probabilities(images) - whole.probabilities(images)).max()
    assert 1e-6 < gap < 0.3
    assert small.card == whole.card
    assert (tmp_path / "m.int8.onnx").stat().st_size < 0.5 * out.stat().st_size
    nodes = onnx.load(tmp_path / "m.int8.onnx").graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    first, *others = [made_by.get(n.input[0], "") for n in nodes if n.op_type == "Conv"]
    assert first != "DequantizeLinear"
    assert set(others) == {"DequantizeLinear"}
    export.quantize(out, tmp_path / "few.onnx", pixels[:5])
    assert export.OnnxNetwork(tmp_path / "few.onnx").card == whole.card


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8"], "--int8: expected --data DATA, and --format onnx"),
        (["--out", "m.pb"], "--out m.pb: expected a name that ends in .onnx"),
        (["--format", "torch", "--out", "m.onnx"], "expected a name that ends in .pt2"),
    ],
)
def test_what_cannot_be_exported_is_said(folder, capsys, words, message):
    assert main(["export", str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_other_files_are_not_taken_for_ours(exported, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no model")
    assert main(["predict", str(tmp_path / "text.onnx"), "x.png"]) == 2
    assert "text.onnx: not an ONNX file: " in capsys.readouterr().err
    assert main(["export", str(exported / "m.onnx"), "--out", str(tmp_path / "n.onnx")]) == 2
    assert "is exported already" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(folder), "--out", "m.onnx"]) == 2
    assert "onnx is not installed; pip install 'leaf-fer[export]'" in capsys.readouterr().err
