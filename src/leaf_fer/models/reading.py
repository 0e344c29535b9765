"""Reading starting weights, whoever wrote them."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from leaf_fer.errors import UserError
from leaf_fer.models.backbone import create_timm
from leaf_fer.models.starting import FORMAT, Start, digest, serialized

CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put a state dict."""

NETWORKS = (OSError, RuntimeError, ValueError)
"""What timm and the hub raise; errors of connections are OSErrors."""


def read_start(path: Path) -> Start:
    """Read starting weights from a file or a folder.

    A folder is one of :func:`save_start`, a model folder, or the folder of a finished run. A file
    ending in ``.safetensors`` is that; any other is read as PyTorch's, without running code that it
    may hold, and its state dict may lie under one of :data:`CONTAINERS`.

    Raises:
        UserError: nothing is there, or it holds no weights, or something else than weights.
    """
    if not path.is_dir():
        content = _bytes(path)
        return Start(_tensors(path, content), path.name, digest(content))
    if (path / "weights.json").is_file():
        return _read_neutral(path)
    model = path / "model" if (path / "model").is_dir() else path
    if (model / "config.json").is_file():
        return _read_model(model, path.absolute().name)
    raise UserError(
        f"--init {path}: expected weights.json and weights.safetensors there, "
        "or config.json and model.safetensors"
    )


def _read_neutral(folder: Path) -> Start:
    about, content = _json(folder / "weights.json"), _bytes(folder / "weights.safetensors")
    if about.get("sha256") != digest(content):
        raise UserError(
            f"--init {folder}: weights.safetensors is not the file that weights.json describes: "
            "its SHA-256 is another"
        )
    return _described(about, _tensors(folder / "weights.safetensors", content), content, folder)


def _read_model(folder: Path, name: str) -> Start:
    """A model folder, with whatever belongs to the encoder; :func:`fill` leaves out the rest."""
    values, content = _json(folder / "config.json"), _bytes(folder / "model.safetensors")
    architecture, facts = values.get("architecture"), values.get("facts")
    if not isinstance(architecture, dict):
        raise UserError(f"--init {folder / 'config.json'}: expected format 1 of leaf-fer")
    trained = " ".join(str((facts or {}).get(key, "")) for key in ("method", "step")).strip()
    before = (facts or {}).get("init") or {}
    about = {
        **values,
        "backbone": architecture.get("backbone"),
        "origin": f"{name} ({trained} steps)" if trained else name,
        "license": before.get("license", ""),
    }
    return _described(about, _tensors(folder / "model.safetensors", content), content, folder)


def _described(
    about: Mapping[str, Any], tensors: Mapping[str, Tensor], content: bytes, folder: Path
) -> Start:
    try:
        scale = about["normalization"]
        mean, std = (tuple(map(float, scale[key])) for key in ("mean", "std"))
        texts = [str(about[key]) for key in ("origin", "backbone", "license")]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"--init {folder}: its JSON file has no usable backbone, origin or normalization"
        ) from None
    origin, backbone, terms = texts
    return Start(tensors, origin, digest(content), backbone, terms, mean, std)


def pretrained(name: str, image_size: int) -> Start:
    """The weights that timm has of a model, from the hub's cache on this machine or downloaded.

    Args:
        name: of a model of timm, perhaps with a tag, such as ``resnet18.a1_in1k``.
        image_size: where the weights depend on it, timm fits them to it.

    Raises:
        UserError: timm does not know the name, or its weights cannot be had.
    """
    if not timm.is_model(name):
        raise UserError(
            f"--init {name}: expected none, a file, a folder, or a model of timm such as "
            "resnet18.a1_in1k"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            network = create_timm(name, image_size, pretrained=True)
    except NETWORKS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"--init {name}: no weights from timm: {reason} (a file works without a network)"
        ) from error
    about: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})
    tensors = network.state_dict()
    tag = about.get("tag")
    return Start(
        tensors,
        f"timm {name.split('.')[0]}{f'.{tag}' if tag else ''}",
        digest(serialized(tensors)),
        name.split(".")[0],
        about.get("license") or "",
        tuple(about.get("mean", ())),
        tuple(about.get("std", ())),
    )


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    try:
        values: Any = load(content) if path.suffix == ".safetensors" else _unpickled(content)
    except SafetensorError as error:
        raise UserError(f"--init {path}: damaged, or not a safetensors file: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds a {found[1]}, and code is never run" if found else "damaged"
        raise UserError(
            f"--init {path}: cannot be read as a state dict of PyTorch: {reason}"
        ) from None
    for key in CONTAINERS:
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    tensors = {}
    if isinstance(values, dict):
        tensors = {str(k): v for k, v in values.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"--init {path}: holds no tensors by name: expected a state dict")
    return tensors


def _unpickled(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer pickles, which are read or refused all the same
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"--init {path}: cannot be read: {error.strerror}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_bytes(path))
    except ValueError:
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"--init {path}: expected format {FORMAT} of leaf-fer")
    return values
