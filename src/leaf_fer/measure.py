"""``leaf evaluate`` and ``leaf calibrate``: a model and labeled faces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaf_fer.allocator import keep_memory
from leaf_fer.conformal import Calibration, describe_sets
from leaf_fer.data.aligned import recipe_of
from leaf_fer.data.names import canonical
from leaf_fer.data.sources import read_faces
from leaf_fer.data.store import prepare
from leaf_fer.data.table import PARTS, UNKNOWN
from leaf_fer.data.views import Images
from leaf_fer.errors import UserError, say
from leaf_fer.metrics import summarize
from leaf_fer.predict import Predictor, load, write_calibration
from leaf_fer.recipe import compare


def report(result: Mapping[str, Any]) -> str:
    """Metrics as a few lines of text."""
    if "overall_accuracy" not in result:
        return "trained; no labeled images to evaluate on"
    lines = []
    for found in (result, *result.get("others", ())):
        where = f"{found['part']} ({found['selection']})" if "selection" in found else found["part"]
        shown = {
            "overall": found["overall_accuracy"],
            "balanced": found["balanced_accuracy"],
            "macro F1": found["macro_f1"],
            "AUC": found.get("auc"),
            "ECE": found["ece"],
        }
        known = (f"{k} {100 * v:.2f} %" for k, v in shown.items() if v is not None)
        lines.append(f"{where}: {', '.join(known)}")
    recall = ((name, value) for name, value in result["per_class_recall"].items())
    lines.append(
        "recall: " + ", ".join(f"{n} {'-' if v is None else f'{100 * v:.1f} %'}" for n, v in recall)
    )
    if "sets" in result:
        lines.append(_sets(result["sets"]))
    return "\n".join(lines)


def _sets(found: Mapping[str, Any]) -> str:
    """Candidate sets as a line for all faces and one for each class."""
    width = max(map(len, found["per_class"]))
    lines = []
    for name, one in [("all faces", found), *found["per_class"].items()]:
        words = "-"
        if one is not None:
            words = f"{100 * one['coverage']:5.1f} % hold it, {one['size']:.2f} classes on average"
        lines.append(f"{name:{max(width, 9)}}  {words}")
    return "\n".join(["candidate sets and the true class:", *lines])


def evaluate(
    folder: Path,
    spec: str,
    *,
    part: str,
    style: str,
    coverage: float | None,
    per_class: bool,
    cache: str | None,
    **machine: Any,
) -> int:
    """Measure a model on one part of a data set; print the result."""
    predictor, probabilities, targets = _scored(folder, spec, part, cache, **machine)
    result = {"part": part, **summarize(probabilities, targets, predictor.classes)}
    if coverage is not None:
        chosen = predictor.sets(probabilities, coverage, per_class=per_class)
        result["sets"] = describe_sets(chosen, targets, predictor.classes)
    print(json.dumps(result, indent=2) if style == "json" else report(result))
    return 0


def calibrate(folder: Path, spec: str, *, part: str, cache: str | None, **machine: Any) -> int:
    """Learn from labeled faces how large candidate sets must be; print how large they are."""
    _, probabilities, targets = _scored(folder, spec, part, cache, **machine)
    if part == "train":
        say("leaf: warning: where the model was trained on these faces, sets are too small")
    known = Calibration.of(probabilities, targets, f"{part} part of {spec.split(':')[0]}")
    write_calibration(folder, known)
    print(f"{folder}: candidate sets learned from {len(targets)} faces ({known.origin})")
    for coverage in (0.8, 0.9, 0.95):
        sizes = known.sets(probabilities, coverage).sum(axis=1)
        print(
            f"--coverage {coverage:g}: {sizes.mean():.2f} classes on average, "
            f"one for {100 * (sizes == 1).mean():.0f} % of the faces"
        )
    return 0


def _scored(
    folder: Path,
    spec: str,
    part: str,
    cache: str | None,
    *,
    batch_size: int,
    device: str,
    precision: str = "auto",
) -> tuple[Predictor, NDArray[np.float32], NDArray[np.int64]]:
    """A model, its class scores of the labeled images of a part, and their classes in its order."""
    keep_memory()
    predictor = load(folder, device=device, precision=precision)
    return predictor, *score(predictor, spec, part, cache, batch_size=batch_size)


def score(
    predictor: Predictor, spec: str, part: str, cache: str | None, *, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Classify the labeled images of a part of a data set.

    Returns:
        (N, C) probabilities, and (N,) true classes in the order of the model.

    Raises:
        UserError: the part has none, or the model does not know one of the classes.
    """
    table = read_faces(spec)
    number = _correspondence(table.classes, predictor.classes, spec)
    compare(predictor.card.alignment, recipe_of(table), spec)
    store = prepare(
        table, predictor.card.architecture.image_size, cache=Path(cache) if cache else None
    )
    rows = table.rows(part)
    rows = rows[(table.targets[rows] != UNKNOWN) & store.valid[rows]]
    if not len(rows):
        counts = {p: int((table.targets[table.rows(p)] != UNKNOWN).sum()) for p in PARTS}
        there = ", ".join(f"{p} ({n})" for p, n in counts.items() if n) or "none"
        raise UserError(f"--part {part}: no labeled images there; parts with labels: {there}")
    probabilities = predictor.score(Images(store.images, predictor.device), rows, batch_size)
    return probabilities, number[table.targets[rows]]


def _correspondence(
    data: Sequence[str], model: Sequence[str], spec: str
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Class numbers of the data -> class numbers of the model, by name."""
    place = {canonical(name) or name: number for number, name in enumerate(model)}
    missing = [name for name in data if (canonical(name) or name) not in place]
    if missing:
        raise UserError(
            f"{spec}: the model does not know the classes {', '.join(missing)}; "
            f"it knows {', '.join(model)}"
        )
    return np.array([place[canonical(name) or name] for name in data], dtype=np.int64)
