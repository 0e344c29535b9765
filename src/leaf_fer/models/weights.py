"""Model folders: weights in safetensors, everything else in JSON, and no other file needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from leaf_fer.errors import UserError
from leaf_fer.files import write_atomically, write_json
from leaf_fer.models.architecture import Architecture, build_classifier
from leaf_fer.models.classifier import Classifier
from leaf_fer.models.starting import serialized
from leaf_fer.recipe import Recipe

FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a model folder says about its weights.

    Attributes:
        architecture: how the network is built.
        classes: names of the C classes, in the order of the scores.
        mean, std: per channel (RGB in [0, 1]), what images are normalized with.
        facts: origin, for people: data set, method, labels, step, version.
        alignment: how the faces were cut out that it has learned from; None where not known.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    facts: dict[str, Any] = field(default_factory=dict)
    alignment: Recipe | None = None


def save_model(folder: Path, model: Classifier, card: Card) -> None:
    """Write ``model.safetensors`` and ``config.json`` to a folder, each atomically.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    write_atomically(folder / "model.safetensors", serialized(model.state_dict()))
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "classes": list(card.classes),
            "image_size": card.architecture.image_size,
            "normalization": {"mean": list(card.mean), "std": list(card.std)},
            "architecture": card.architecture.to_dict(),
            "alignment": card.alignment and card.alignment.to_dict(),
            "facts": card.facts,
        },
    )


def load_model(folder: Path) -> tuple[Classifier, Card]:
    """Read a model folder.

    Returns:
        The classifier in evaluation mode, in host memory, and its card.

    Raises:
        UserError: a file is missing, damaged, of another format, or the two do not fit.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load((folder / "model.safetensors").read_bytes())
    except OSError as error:
        name = Path(error.filename or "").name
        raise UserError(
            f"{folder}: not a model folder: {name}: {error.strerror}; "
            "expected config.json and model.safetensors"
        ) from None
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: a file is damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{folder}/config.json: expected format {FORMAT} of leaf-fer")
    try:
        card = _card(values)
        with torch.random.fork_rng(devices=[]):
            model = build_classifier(card.architecture)
    except KeyError as error:
        raise UserError(f"{folder}/config.json: incomplete: no {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{folder}/config.json: {error}") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder}: weights do not fit config.json: {reason}") from None
    return model.eval(), card


def _card(values: dict[str, Any]) -> Card:
    """What ``config.json`` says."""
    scale = values["normalization"]
    mean, std = (tuple(map(float, scale[name])) for name in ("mean", "std"))
    classes = tuple(map(str, values["classes"]))
    network = Architecture.from_dict(values["architecture"])
    if len(classes) != network.num_classes:
        raise ValueError(f"{len(classes)} classes for {network.num_classes} class scores")
    if len(mean) != 3 or len(std) != 3:
        raise ValueError("expected mean and std of 3 channels")
    known = values.get("alignment")  # models of earlier versions say nothing
    alignment = None if known is None else Recipe.from_dict(known)
    return Card(network, classes, mean, std, values.get("facts", {}), alignment)
