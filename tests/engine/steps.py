"""Some steps of every method, written down: in one process, or in several under torchrun.

torchrun --nproc-per-node 2 tests/engine/steps.py CONFIG.yaml FOLDER
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.modules.batchnorm import _BatchNorm

from leaf_fer import processes, registry
from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.build import accelerate, build_batches, build_images, build_state, open_data
from leaf_fer.config import configure, read_yaml
from leaf_fer.engine.loop import Training
from leaf_fer.types import Clock

STEPS, EPOCH = 4, 2
PLAIN = {"dropout": 0.0, "gate": "softplus", "balance_weight": 0.01, "optimizer": "sgd"}
"""Nothing random in the network, and an optimizer that does not blow up what rounding does."""
EAGER = {"threshold": 0.14, "burn_in": 0.0, "memory": 24, "ramp": 0.0, "warmup": 0.0}
"""Options that make masks, tables and queues do something within so few steps, where there are."""


def settings_of(file, method):
    values = {**read_yaml(str(file)), **PLAIN, "method": method}
    own = {option.name: option for option in registry.method(method).options}
    given = {k: v for k, v in EAGER.items() if k in own and own[k].kind is not bool}
    return configure({**values, **given})


def trained(config, fabric):
    """Losses, terms and the state after some steps, all as tensors."""
    data = open_data(config.settings)
    state = build_state(config, data, fabric.device)
    batches = build_batches(
        config, data, build_images(config.settings, data, fabric.device), state.algorithm
    )
    training = Training(fabric, state, seed=0)
    for module in state.model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    found = {}
    for step in range(STEPS):
        loss, objective = training.step(batches.at(step), Clock(step, STEPS, EPOCH))
        found[f"loss.{step}"] = loss.detach()
        found |= {f"term.{name}.{step}": term.detach() for name, term in objective.terms.items()}
        if (step + 1) % EPOCH == 0:
            with torch.no_grad():
                labeled = batches.labeled_pass((step + 1) // EPOCH)
                clock = Clock(step + 1, STEPS, EPOCH)
                state.algorithm.after_epoch(state.averaged, labeled, clock)
    for name, module in state.modules().items():
        found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


def main(file, folder):
    fabric = accelerate(settings_of(file, "supervised").settings)
    for method in ALGORITHMS:
        found = trained(settings_of(file, method), fabric)
        save_file(found, Path(folder) / f"{method}.{processes.rank()}.safetensors")
    processes.part()


if __name__ == "__main__":
    main(*sys.argv[1:])
