from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from leaf_fer.errors import UserError
from leaf_fer.models import (
    Architecture,
    Card,
    Start,
    build_classifier,
    fill,
    pretrained,
    read_start,
    save_model,
    save_start,
)
from leaf_fer.models.backbone import create_backbone

RGB = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


def encoder(name="resnet18", seed=0):
    torch.manual_seed(seed)
    return create_backbone(name, 32)[0]


@pytest.fixture(scope="module")
def trained():
    network = encoder(seed=1)
    network(torch.randn(4, 3, 32, 32))  # moves the statistics
    return network


@pytest.fixture
def weights(trained):
    return {name: value.clone() for name, value in trained.state_dict().items()}


def loads(path, trained):
    """What people are told, once the weights of ``trained`` are found to have come over."""
    network = encoder()
    notes = fill(network, read_start(path), "resnet18")
    for name, value in trained.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    return notes


class TestFiles:
    @pytest.mark.parametrize("wrap", ["{}", "state_dict", "model"])
    @pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
    @pytest.mark.parametrize("legacy", [False, True])
    def test_state_dicts_of_training_scripts_are_read(
        self, tmp_path, trained, weights, wrap, prefix, legacy
    ):
        values = {f"{prefix}{name}": value for name, value in weights.items()}
        values |= {"module.fc.weight": torch.zeros(85742, 2), "module.fc.bias": torch.zeros(85742)}
        path = tmp_path / "resnet18_msceleb.pth"
        content = values if wrap == "{}" else {"epoch": 3, wrap: values}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        start = read_start(path)
        assert start.origin == "resnet18_msceleb.pth"
        assert start.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        said, left = loads(path, trained)
        assert said == "starting from resnet18_msceleb.pth: 120 tensors of resnet18"
        assert left == "left out, not of the encoder: module.fc"

    def test_safetensors_are_read_and_nothing_is_said_of_what_is_not_left_out(
        self, tmp_path, trained, weights
    ):
        save_file(weights, tmp_path / "x.safetensors")
        assert len(loads(tmp_path / "x.safetensors", trained)) == 1

    def test_names_of_torchvision_are_those_of_timm(self):
        names = set(encoder().state_dict())
        assert {"conv1.weight", "bn1.running_var", "layer4.1.bn2.bias"} <= names
        assert "layer2.0.downsample.0.weight" in names

    def test_a_file_that_would_run_code_is_refused(self, tmp_path):
        path = tmp_path / "model.pth"
        torch.save(nn.Linear(2, 2), path)
        with pytest.raises(
            UserError, match=r"holds a torch\.nn\.modules\.linear\.Linear, and code is never run$"
        ):
            read_start(path)

    @pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04", b"\x00" * 99, b"hello there"])
    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_a_damaged_file_is_refused_in_one_line(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"--init .*{name}: (cannot be read as|damaged)") as e:
            read_start(tmp_path / name)
        assert "\n" not in str(e.value)

    @pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, torch.zeros(3)])
    def test_a_file_without_named_tensors_is_refused(self, tmp_path, content):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(UserError, match="holds no tensors by name"):
            read_start(tmp_path / "a.pt")

    def test_a_pickle_of_numbers_is_no_state_dict(self, tmp_path):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}))
        with pytest.raises(UserError, match=r"a\.pkl: cannot be read as a state dict"):
            read_start(tmp_path / "a.pkl")

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"no\.pth: cannot be read: No such file"):
            read_start(tmp_path / "no.pth")


class TestFill:
    def start(self, tensors, **more):
        return Start(tensors, "file.pth", "0", **more)

    def refused(self, tensors, message, **more):
        network = encoder()
        before = {k: v.clone() for k, v in network.state_dict().items()}
        with pytest.raises(UserError, match=message):
            fill(network, self.start(tensors, **more), "resnet18")
        assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())

    def test_counters_of_old_files_may_be_missing(self, trained, weights):
        old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        network = encoder()
        assert "100 tensors" in fill(network, self.start(old), "resnet18")[0]
        assert torch.equal(network.state_dict()["bn1.running_mean"], weights["bn1.running_mean"])

    def test_anything_else_may_not(self, weights):
        del weights["layer4.1.bn2.bias"]
        self.refused(weights, r"does not hold all weights of resnet18: no layer4\.1\.bn2\.bias$")

    def test_a_deeper_network_is_another_one(self):
        deeper = encoder("resnet34").state_dict()
        self.refused(deeper, r"holds layers that resnet18 has not: layer1\.2\.bn1\.bias, .*96")

    def test_another_shape_is_named(self, weights):
        weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
        self.refused(weights, "conv1.weight is 64 x 3 x 3 x 3, and in resnet18 64 x 3 x 7 x 7")

    def test_what_is_not_finite_is_named(self, weights):
        weights["conv1.weight"][0, 0, 0, 0] = float("nan")
        self.refused(weights, "conv1.weight has values that are not finite")

    def test_a_file_that_fits_nothing_says_what_it_has_and_what_is_expected(self):
        strange = {f"blocks.{n}.w": torch.zeros(1) for n in range(5)}
        self.refused(
            strange,
            r"holds no weight of resnet18: its names are blocks\.0\.w, .*\(5\); expected bn1\.bias",
        )

    def test_weights_that_name_another_network_are_refused(self, weights):
        self.refused(
            weights, "weights of resnet34, and --backbone is resnet18", backbone="resnet34"
        )

    def test_half_precision_is_widened(self, weights):
        half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        network = encoder()
        fill(network, self.start(half), "resnet18")
        assert network.conv1.weight.dtype == torch.float32


class TestFolders:
    def test_the_neutral_folder_comes_back(self, tmp_path, trained):
        save_start(tmp_path / "a" / "b", trained, "resnet18", origin="me", license="mine", **RGB)
        folder = tmp_path / "a" / "b"
        assert sorted(p.name for p in folder.iterdir()) == ["weights.json", "weights.safetensors"]
        about = json.loads((folder / "weights.json").read_text())
        assert (about["backbone"], about["license"]) == ("resnet18", "mine")
        start = read_start(folder)
        assert start.facts == {"origin": "me", "sha256": about["sha256"], "license": "mine"}
        assert (start.backbone, start.mean, start.std) == ("resnet18", RGB["mean"], RGB["std"])
        assert len(loads(folder, trained)) == 1
        assert load_file(folder / "weights.safetensors").keys() == trained.state_dict().keys()

    def test_a_folder_whose_weights_were_exchanged_is_refused(self, tmp_path, trained):
        save_start(tmp_path, trained, "resnet18", origin="me", license="", **RGB)
        save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
        with pytest.raises(UserError, match=r"not the file that weights\.json describes"):
            read_start(tmp_path)

    @pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"format": 1}'])
    def test_strange_descriptions_are_refused(self, tmp_path, trained, content):
        save_start(tmp_path, trained, "resnet18", origin="me", license="", **RGB)
        (tmp_path / "weights.json").write_text(content)
        with pytest.raises(UserError, match="--init"):
            read_start(tmp_path)
        digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
        (tmp_path / "weights.json").write_text(json.dumps({"format": 1, "sha256": digest}))
        with pytest.raises(UserError, match="no usable backbone, origin or normalization"):
            read_start(tmp_path)

    @pytest.mark.parametrize("inner", ["", "model"])
    def test_a_model_folder_or_a_run_gives_its_encoder(self, tmp_path, inner):
        torch.manual_seed(1)
        architecture = Architecture(num_classes=3, image_size=32, eaf="semantic,instance")
        model = build_classifier(architecture)
        facts = {"method": "leaf", "step": 7, "init": {"sha256": "1", "license": "theirs"}}
        card = Card(architecture, ("a", "b", "c"), RGB["mean"], RGB["std"], facts)
        run = tmp_path / "run"
        save_model(run / inner, model, card)
        start = read_start(run)
        assert start.facts["origin"] == "run (leaf 7 steps)"
        assert (start.backbone, start.license, start.mean) == ("resnet18", "theirs", RGB["mean"])
        said, left = loads(run, model.backbone)
        assert "120 tensors" in said
        assert (
            left == "left out, not of the encoder: head, instance.experts, instance.gate, ... (5)"
        )

    def test_an_older_model_folder_has_no_starting_weights_written_down(self, tmp_path):
        architecture = Architecture(backbone="test_resnet", num_classes=2, image_size=32)
        card = Card(architecture, ("a", "b"), RGB["mean"], RGB["std"], {"method": "leaf"})
        save_model(tmp_path, build_classifier(architecture), card)
        assert read_start(tmp_path).license == ""

    def test_any_other_folder_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"expected weights\.json and weights\.safetensors"):
            read_start(tmp_path)


class TestTimm:
    def test_weights_come_from_the_cache_of_the_hub_without_a_network(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        whole = timm.create_model("test_resnet")
        commit = "0" * 40
        folder = tmp_path / "models--timm--test_resnet.r160_in1k"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        (folder / "snapshots" / commit).mkdir(parents=True)
        save_file(whole.state_dict(), folder / "snapshots" / commit / "model.safetensors")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        start = pretrained("test_resnet", 32)
        assert torch.equal(torch.rand(3), expected)
        assert start.origin == "timm test_resnet.r160_in1k"
        assert len(start.mean) == 3
        network = encoder("test_resnet")
        fill(network, start, "test_resnet")
        for name, value in network.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name]), name

    def test_what_is_not_in_the_cache_is_told_in_one_line(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="--init test_resnet: no weights from timm: ") as e:
            pretrained("test_resnet", 32)
        assert "\n" not in str(e.value)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("resnet18.nope", r"no weights from timm: Invalid pretrained tag \(nope\)"),
            ("resnet_of_mine", r"expected none, a file, a folder, or a model of timm"),
        ],
    )
    def test_an_unknown_name_or_tag_is_refused(self, name, message):
        with pytest.raises(UserError, match=f"--init {name}: {message}"):
            pretrained(name, 32)
