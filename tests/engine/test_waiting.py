"""A training step never waits for the device: nothing in it needs a number on the host."""

import numpy as np
import pytest
import torch

from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.build import architecture
from leaf_fer.config import configure
from leaf_fer.data.views import Batches, Images
from leaf_fer.engine.hooks import Recorder
from leaf_fer.engine.loop import State, Watchdog, balance
from leaf_fer.memory import Average
from leaf_fer.models import build_classifier
from leaf_fer.types import Clock, Problem

from . import far

CLASSES, LABELED, UNLABELED, TOTAL, EPOCH = 4, 8, 24, 8, 4

pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")


def prepared(method, device):
    """Batches and state of a tiny run on the device."""
    config = configure(
        {"method": method, "backbone": "test_resnet", "image_size": 32, "balance_weight": 0.01}
    )
    torch.manual_seed(0)
    model = build_classifier(architecture(config.settings, CLASSES))
    problem = Problem(CLASSES, LABELED, UNLABELED, torch.ones(CLASSES) / CLASSES)
    algorithm = ALGORITHMS[method](problem, model, **config.options)
    average = Average(model)
    for module in (model, algorithm, average):
        far.sent(module)
    optimizer = torch.optim.SGD([p for m in (model, algorithm) for p in m.parameters()], 0.01)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    batches = Batches(
        Images(pixels, device),
        np.arange(LABELED),
        np.arange(LABELED) % CLASSES,
        np.arange(LABELED, LABELED + UNLABELED),
        algorithm.views,
        batch_size=4,
    )
    return batches, State(model.train(), algorithm, average, optimizer)


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("method", ALGORITHMS)
def test_no_method_waits(method, step):
    with far.accelerator() as device:
        batches, state = prepared(method, device)
        watchdog, clock = Watchdog(device), Clock(step, TOTAL, EPOCH)
        batch = batches.at(step)
        objective = state.algorithm.loss(batch, state.model, clock)
        loss = objective.total + balance(state.model)
        watchdog.look(step, loss, objective)
        loss.backward()
        state.average.update(state.model)
        state.algorithm.after_step(state.model)
        recorder = object.__new__(Recorder)
        recorder._sums, recorder._count, recorder.log_steps = {}, 0, 100
        recorder.bar = _Bar()
        recorder.step(clock, objective, state)
        assert isinstance(loss, far.Far)
        assert all(isinstance(p.grad, far.Far) for p in state.model.parameters())


class _Bar:
    def update(self):
        """Show nothing."""


WAITING = {
    "a number": lambda x: x.sum().item(),
    "a truth": lambda x: bool(x[0] > 1),
    "a list": lambda x: x.tolist(),
    "a mask": lambda x: x[x > 1],
    "a masked write": lambda x: x.__setitem__(x > 1, 0.0),
    "places": lambda x: x.nonzero(),
    "a copy": lambda x: x.cpu(),
    "a copy by name": lambda x: x.to("cpu"),
    "an array": lambda x: x.numpy(),
    "another device": lambda x: x + torch.ones(6),
    "an index from another device": lambda x: x.index_select(0, torch.tensor([1])),
    "a count": lambda x: x.long().bincount(),
    "a copy to the device": lambda x: torch.ones(6).to(x.device),
    "numbers for the device": lambda x: torch.tensor([1.0, 2.0], device=x.device),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_is_noticed(what):
    with far.accelerator() as device:
        x = torch.arange(6.0, device=device)
        with pytest.raises(far.Waits):
            WAITING[what](x)


@pytest.mark.parametrize("bytes_allowed", [32 * 32 * 32 * 3, 32 * 32 * 32 * 3 - 1])
def test_a_set_that_fits_is_copied_to_the_device_once(bytes_allowed):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    with far.accelerator() as device:
        images = Images(pixels, device, resident_bytes=bytes_allowed)
        if bytes_allowed < pixels.nbytes:
            assert images.resident is None
            return
        rows = torch.tensor([3, 1, 3])
        fetched = images.fetch(rows)
        assert isinstance(fetched, far.Far)
    assert np.array_equal(fetched.held.permute(0, 2, 3, 1).numpy(), pixels[[3, 1, 3]])
