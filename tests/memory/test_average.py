from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from leaf_fer.memory import Average


class Number(nn.Module):
    """One parameter, one floating-point and one integer buffer."""

    value: Tensor
    count: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("value", torch.tensor([value]))
        self.register_buffer("count", torch.tensor(int(value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def stir(model: nn.Module) -> None:
    """Give every parameter and running statistic new values."""
    for value in (*model.parameters(), *model.buffers()):
        if value.is_floating_point():
            value.data = torch.randn(value.shape)
        else:
            value.data = value + 1


def test_three_steps_towards_2_give_the_vector_of_the_specification():
    average = Average(Number(1.0), 0.999, warmup=False)
    for _ in range(3):
        average.update(Number(2.0))
    torch.testing.assert_close(average.model.weight, torch.tensor([1.002997]), atol=1e-6, rtol=0)


def test_it_starts_as_a_copy():
    torch.manual_seed(0)
    model = network()
    for mine, theirs in zip(
        Average(model).model.state_dict().values(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("warmup", [True, False])
def test_it_is_the_loop_of_the_definition(warmup):
    torch.manual_seed(0)
    model = network()
    average = Average(model, 0.9, warmup=warmup)
    expected = {k: v.double().numpy() for k, v in model.state_dict().items()}
    for t in range(120):
        stir(model)
        average.update(model)
        a = min(0.9, (1 + t) / (10 + t)) if warmup else 0.9
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = a * expected[name] + (1 - a) * value.double().numpy()
            else:
                expected[name] = value.double().numpy()
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(
            value.double(), torch.as_tensor(expected[name]), atol=1e-5, rtol=1e-5
        )


def test_running_statistics_are_averaged_and_counters_copied():
    average = Average(Number(1.0), 0.5, warmup=False)
    average.update(Number(3.0))
    assert average.model.value.item() == 2
    assert average.model.count.item() == 3


def test_a_decay_of_0_is_a_plain_copy():
    torch.manual_seed(0)
    model = network()
    average = Average(model, 0.0)
    for _ in range(3):
        stir(model)
        average.update(model)
    for mine, theirs in zip(
        average.model.state_dict().values(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_constant_network_is_its_own_average():
    model = Number(0.3)
    average = Average(model)
    for _ in range(50):
        average.update(model)
    assert torch.equal(average.model.weight, model.weight)


def test_the_first_updates_forget_the_start_faster_than_the_decay():
    average = Average(Number(0.0), 0.999)
    average.update(Number(1.0))
    torch.testing.assert_close(average.model.weight.detach(), torch.tensor([0.9]))


def test_an_update_leaves_the_network_alone():
    torch.manual_seed(0)
    model = network()
    average = Average(model)
    stir(model)
    before = copy.deepcopy(model.state_dict())
    average.update(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_copy_shares_no_memory_with_the_network():
    model = Number(1.0)
    average = Average(model)
    with torch.no_grad():
        model.weight.fill_(7.0)
    assert average.model.weight.item() == 1


def test_the_copy_is_never_trained():
    average = Average(network())
    average.train()
    assert not any(m.training for m in average.modules())
    assert not any(p.requires_grad for p in average.parameters())


def test_it_answers_as_the_averaged_network():
    average = Average(Number(2.0))
    assert average(torch.tensor([3.0])).tolist() == [6]


def test_saving_and_loading_continues_with_equal_bits():
    torch.manual_seed(0)
    model = network()
    first = Average(model)
    steps = [copy.deepcopy(model) for _ in range(8)]
    for step in steps:
        stir(step)
    for step in steps[:4]:
        first.update(step)
    second = Average(network())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in steps[4:]:
        first.update(step)
        second.update(step)
    assert second.updates == 8
    for mine, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_its_state_is_tensors_only():
    assert all(isinstance(v, Tensor) for v in Average(network()).state_dict().values())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match="0 <= decay < 1"):
        Average(Number(1.0), decay)


def test_a_network_with_other_parameters_is_an_error():
    with pytest.raises((KeyError, RuntimeError)):
        Average(Number(1.0)).update(network())
