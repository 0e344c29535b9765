"""Saving and loading what a run needs to go on: tensors and JSON in one file, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically

FORMAT = "leaf-fer checkpoint 1"


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write parameters, buffers, optimizer state and some facts to one file, atomically.

    Args:
        path: the file.
        modules: what to save, by name.
        optimizer: its state is saved by parameter number.
        facts: JSON-ready values.
    """
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{number}.{key}": value for key, value in state.items()})
    # A format of its own would be needed for strides and shared memory: plain copies do.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    about = {"format": FORMAT, "facts": json.dumps(facts)}
    write_atomically(path, save(plain, about))


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Read a checkpoint back into the modules and the optimizer it was made from.

    Returns:
        The facts saved with it.

    Raises:
        UserError: the file is damaged, is no checkpoint, or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise UserError(f"{path}: not a checkpoint of leaf-fer ({FORMAT})")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint, or damaged: {error}") from None
    for name, module in modules.items():
        _load_module(path, name, module, _under(tensors, name))
    _load_optimizer(optimizer, _under(tensors, "optimizer"))
    facts: dict[str, Any] = json.loads(about["facts"])
    return facts


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_module(path: Path, name: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: belongs to another {name}: {reason}") from None


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            # In the parameter's memory layout: fused optimizers walk both in storage order.
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][name] = value
