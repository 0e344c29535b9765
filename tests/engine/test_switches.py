"""What makes a run faster leaves its losses alone: every switch, against the plain path."""

import pytest
import torch
from torch import nn

from leaf_fer.build import accelerate, build_batches, build_images, build_state, open_data
from leaf_fer.engine.loop import Training
from leaf_fer.types import Clock

STEPS = 4
PLAIN = {
    "precision": "float32",
    "channels_last": False,
    "fused": False,
    "prefetch": False,
    "compile": False,
}
EXACT = {"prefetch": True}
ROUNDED = {"channels_last": True, "fused": True}


def losses(config):
    """The loss of every step: (STEPS,) float32."""
    fabric, data = accelerate(config.settings), open_data(config.settings)
    state = build_state(config, data, fabric.device)
    images = build_images(config.settings, data, fabric.device)
    batches = build_batches(config, data, images, state.algorithm)
    training = Training(fabric, state, seed=0)
    steps = range(STEPS)
    found = [training.step(batches.at(k), Clock(k, STEPS, STEPS))[0].detach() for k in steps]
    return torch.stack(found)


@pytest.fixture
def plain(tiny):
    return losses(tiny(**PLAIN))


@pytest.mark.parametrize("name", EXACT)
def test_what_only_moves_images_keeps_every_bit(name, tiny, plain):
    assert torch.equal(losses(tiny(**{**PLAIN, name: EXACT[name]})), plain)


@pytest.mark.parametrize("name", ROUNDED)
def test_another_order_of_sums_only_rounds(name, tiny, plain):
    found = losses(tiny(**{**PLAIN, name: ROUNDED[name]}))
    torch.testing.assert_close(found, plain, rtol=2e-4, atol=0)


def test_bfloat16_rounds_as_bfloat16_does(tiny, plain):
    found = losses(tiny(**{**PLAIN, "precision": "bfloat16"}))
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0)
    assert not torch.equal(found, plain)


def test_a_compiled_network_is_captured_whole_and_once_per_kind_of_pass(tiny, plain, monkeypatch):
    """With the graphs run as they are: a C++ compiler takes a minute and changes only rounding."""
    from torch._dynamo.utils import counters

    compiled = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda m, **kwargs: compiled(m, backend="aot_eager", **kwargs)
    )
    torch._dynamo.reset()
    counters.clear()
    found = losses(tiny(**{**PLAIN, "compile": True}))
    torch.testing.assert_close(found, plain, rtol=2e-4, atol=0)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 2  # with gradient and without


def test_all_switches_together(tiny, plain):
    found = losses(tiny(**{**PLAIN, **EXACT, **ROUNDED, "precision": "bfloat16"}))
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0)
