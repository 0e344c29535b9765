import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from leaf_fer.engine.checkpoint import load_checkpoint, save_checkpoint
from leaf_fer.errors import UserError


def make(width=4):
    torch.manual_seed(width)
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten())
    model = model.to(memory_format=torch.channels_last)
    return model, torch.optim.AdamW(model.parameters(), 0.1, fused=True)


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    model(torch.randn(2, 3, 6, 6)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    model, optimizer = make()
    step(model, optimizer, 1)
    save_checkpoint(tmp_path / "c", {"model": model}, optimizer, {"step": 1, "best": 0.5})
    step(model, optimizer, 2)

    other, another = make()
    assert load_checkpoint(tmp_path / "c", {"model": other}, another) == {"step": 1, "best": 0.5}
    step(other, another, 2)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_optimizer_state_keeps_the_memory_layout_of_its_parameter(tmp_path):
    model, optimizer = make()
    step(model, optimizer, 1)
    save_checkpoint(tmp_path / "c", {"model": model}, optimizer, {})
    other, another = make()
    load_checkpoint(tmp_path / "c", {"model": other}, another)
    weight = other[0].weight
    assert another.state[weight]["exp_avg"].stride() == weight.stride()


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_file_is_a_clear_error(tmp_path, keep):
    model, optimizer = make()
    step(model, optimizer, 1)
    path = tmp_path / "c"
    save_checkpoint(path, {"model": model}, optimizer, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a checkpoint, or damaged"):
        load_checkpoint(path, {"model": model}, optimizer)


def test_a_foreign_file_is_a_clear_error(tmp_path):
    model, optimizer = make()
    save_file({"x": torch.zeros(1)}, tmp_path / "c", {"format": "pt"})
    with pytest.raises(UserError, match="not a checkpoint of leaf-fer"):
        load_checkpoint(tmp_path / "c", {"model": model}, optimizer)


def test_a_checkpoint_of_another_model_is_a_clear_error(tmp_path):
    model, optimizer = make()
    save_checkpoint(tmp_path / "c", {"model": model}, optimizer, {})
    other, another = make(5)
    with pytest.raises(UserError, match=r"belongs to another model: .*size mismatch"):
        load_checkpoint(tmp_path / "c", {"model": other}, another)


def test_facts_are_json_in_the_header(tmp_path):
    model, optimizer = make()
    save_checkpoint(tmp_path / "c", {"model": model}, optimizer, {"step": 7})
    raw = (tmp_path / "c").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["facts"]) == {"step": 7}
