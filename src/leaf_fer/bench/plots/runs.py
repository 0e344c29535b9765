"""What the model of a finished run says about the faces that it was tested on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.bench.records import Record
from leaf_fer.config import configure, read_yaml
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError

FACES = 256
"""Faces computed at a time."""


@dataclass(frozen=True)
class Answers:
    """What a model says; N faces, C classes, D features, E experts.

    Attributes:
        classes: names.
        rows: (N,) int64, of the faces in the table of the data set.
        targets: (N,) int64, true classes.
        probabilities: (N, C), rows sum to 1.
        features: (N, D), after the semantic EAF.
        gates: by place in the network, (N, E) weights of the experts, rows sum to 1.
    """

    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    gates: dict[str, NDArray[np.float32]]


def answers(record: Record) -> Answers:
    """Compute what the model that a run has left says about the part it was tested on.

    Raises:
        UserError: the folder of the run or its data is not here.
    """
    if not RunFolder(record.folder).model.is_dir():
        raise UserError(f"{record.folder}: no model there; expected the folder of the run")
    return _answers(record.folder)


@cache
def _answers(path: Path) -> Answers:
    import torch

    from leaf_fer.build import open_data
    from leaf_fer.data.augment import normalize
    from leaf_fer.models.eaf import EAF
    from leaf_fer.predict import load

    folder = RunFolder(path)
    settings = configure(read_yaml(str(folder.config))).settings
    data = open_data(settings, folder.split)
    rows = getattr(data.split, settings.final)
    rows = np.sort(rows if len(rows) else data.split.validation)  # the part that the run takes
    predictor = load(path)
    found: dict[str, list[Any]] = {"features": [], "probabilities": []}

    def keep(name: str, *call: Any) -> None:
        found.setdefault(name, []).append(call[-1].float().cpu())

    for name, module in predictor.model.named_modules():
        if isinstance(module, EAF):
            module.gate.register_forward_hook(partial(keep, name))
    kind, card = predictor.device.type, predictor.card
    half = torch.autocast(kind, torch.bfloat16, enabled=predictor.autocast)
    with torch.inference_mode(), half:
        for start in range(0, len(rows), FACES):
            faces = torch.from_numpy(data.store.gather(rows[start : start + FACES]))
            images = faces.to(predictor.device).permute(0, 3, 1, 2)
            output = predictor.model(normalize(images, card.mean, card.std))
            keep("features", output.features)
            keep("probabilities", output.probabilities)
    whole = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    return Answers(
        card.classes,
        rows,
        data.table.targets[rows],
        whole.pop("probabilities"),
        whole.pop("features"),
        whole,
    )
