from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from leaf_fer.errors import UserError
from leaf_fer.models import Architecture, Card, build_classifier, load_model, save_model

CLASSES = ("anger", "joy", "Überraschung")


def card() -> Card:
    architecture = Architecture(
        backbone="test_resnet", num_classes=3, image_size=32, eaf="semantic,instance"
    )
    return Card(architecture, CLASSES, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), {"method": "leaf"})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_classifier(card().architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model(torch.randn(4, 3, 32, 32))
    save_model(tmp_path / "model", model, card())
    return tmp_path / "model"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}))


def test_a_model_comes_back_with_equal_bits(tmp_path):
    torch.manual_seed(0)
    model = build_classifier(card().architecture)
    model(torch.randn(4, 3, 32, 32))
    save_model(tmp_path, model, card())
    loaded, _ = load_model(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x).logits, model.eval()(x).logits)


def test_a_model_in_another_memory_layout_comes_back(tmp_path):
    torch.manual_seed(0)
    model = build_classifier(card().architecture).to(memory_format=torch.channels_last)
    save_model(tmp_path, model, card())
    loaded, _ = load_model(tmp_path)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())


def test_the_card_comes_back(saved):
    assert load_model(saved)[1] == card()


def test_a_loaded_model_is_in_evaluation_mode(saved):
    assert not any(m.training for m in load_model(saved)[0].modules())


def test_loading_leaves_the_random_numbers_alone(saved):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


def test_saving_again_replaces_the_old_model(saved):
    torch.manual_seed(1)
    other = build_classifier(card().architecture)
    save_model(saved, other, card())
    loaded, _ = load_model(saved)
    assert torch.equal(loaded.head.weight, other.head.weight)


def test_a_folder_is_two_files_and_nothing_is_pickled(saved):
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]
    content = (saved / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    tensors = json.loads(content[8 : 8 + size])
    assert sum(t["data_offsets"][1] - t["data_offsets"][0] for t in tensors.values()) == (
        len(content) - 8 - size
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"not a model folder: {name}"):
        load_model(saved)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: not a model folder"):
        load_model(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_refused(saved):
    with pytest.raises(UserError, match="not a model folder"):
        load_model(saved / "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, name, kept):
    content = (saved / name).read_bytes()
    size = int(kept * len(content)) if isinstance(kept, float) else kept
    (saved / name).write_bytes(content[:size])
    with pytest.raises(UserError, match="damaged"):
        load_model(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_another_kind_is_refused(saved, name):
    torch.save({"a": torch.zeros(3)}, saved / name)
    with pytest.raises(UserError, match="damaged"):
        load_model(saved)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '{"format": 99}'])
def test_foreign_json_is_refused(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(UserError, match="expected format 1"):
        load_model(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": None},
        {"architecture": []},
        {"architecture": {"backbone": 5}},
        {"architecture": {"backbone": "no_such_model"}},
        {"architecture": {"num_classes": "three"}},
        {"architecture": {"num_classes": 3, "eaf": 1}},
        {"classes": None},
        {"classes": 3},
        {"classes": ["one", "two"]},
        {"normalization": {}},
        {"normalization": {"mean": [0.5], "std": [0.5]}},
        {"normalization": {"mean": ["a", "b", "c"], "std": [1, 1, 1]}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(saved, changes):
    edit(saved, **changes)
    with pytest.raises(UserError, match=r"config\.json") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused_in_one_line(saved):
    values = json.loads((saved / "config.json").read_text("utf-8"))
    edit(saved, architecture={**values["architecture"], "num_experts": 2})
    with pytest.raises(UserError, match=r"weights do not fit config\.json") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    model = build_classifier(card().architecture)
    with pytest.raises(UserError, match="cannot be written"):
        save_model(tmp_path / "file" / "model", model, card())
