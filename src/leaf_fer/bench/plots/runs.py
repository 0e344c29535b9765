"""What the model of a finished run says about the faces that it was tested on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    from leaf_fer import evidence
    from leaf_fer.build import open_data
    from leaf_fer.predict import load

    folder = RunFolder(path)
    settings = configure(read_yaml(str(folder.config))).settings
    data = open_data(settings, folder.split)
    rows = getattr(data.split, settings.final)
    rows = np.sort(rows if len(rows) else data.split.validation)  # the part that the run takes
    predictor = load(path)
    found = evidence.look(predictor, data.store.images, rows, FACES)
    return Answers(
        predictor.classes,
        rows,
        data.table.targets[rows],
        found.probabilities,
        found.features,
        found.gates,
    )
