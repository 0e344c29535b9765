"""What the commands of ``leaf`` do once it is clear what is wanted."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from leaf_fer.build import computes_bfloat16
from leaf_fer.config import Config, read_yaml
from leaf_fer.data import synthetic
from leaf_fer.data.augment import normalize
from leaf_fer.data.decode import UnreadableImage, decode, resize
from leaf_fer.data.names import canonical
from leaf_fer.data.sources import read_faces
from leaf_fer.data.store import default_cache, prepare
from leaf_fer.data.table import PARTS, UNKNOWN
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import evaluate as class_scores
from leaf_fer.engine.loop import Interrupted
from leaf_fer.errors import UserError, process, say
from leaf_fer.metrics import summarize
from leaf_fer.models import save_start
from leaf_fer.models.mobilenet import MobileNetV1, load_folded
from leaf_fer.models.tfjs import layers, read_graph
from leaf_fer.predict import Prediction, find_images, load
from leaf_fer.types import MEAN, STD

if TYPE_CHECKING:
    from leaf_fer.run import Run


def train(config: Config, out: Path, *, resume: bool, given: Mapping[str, Any]) -> int:
    """Train; print the result."""
    from leaf_fer.run import Run

    status, result = _execute(config, out, Run, "train", resume, given)
    if result:
        print(report(result))
        print(f"run folder: {out}")
    return status


def pretrain(config: Config, out: Path, *, resume: bool, given: Mapping[str, Any]) -> int:
    """Train an encoder; print how to use it."""
    from leaf_fer.pretrain import Pretraining

    status, result = _execute(config, out, Pretraining, "pretrain", resume, given)
    if result:
        print(f"{out}: start from it with --backbone {config.settings.backbone} --init {out}")
    return status


def _execute(
    config: Config, out: Path, kind: type[Run], command: str, resume: bool, given: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Run to the end; return the exit status and, in the process that speaks, the result."""
    from leaf_fer.run import execute

    if resume and (out / "config.yaml").exists():
        _check_same(read_yaml(str(out / "config.yaml")), config, given)
    try:
        result = execute(config, out, resume=resume, kind=kind)
    except Interrupted as reason:
        if process():
            return 0, {}  # or the launcher takes it for a failure
        say(f"{reason}; go on with: leaf {command} --resume --out {out}")
        return 130, {}
    return 0, {} if process() else result


def _check_same(saved: Mapping[str, Any], config: Config, given: Mapping[str, Any]) -> None:
    asked = config.to_dict()
    for name in given:
        if asked[name] != saved.get(name):
            raise UserError(
                f"--{name.replace('_', '-')} {asked[name]}: the run was started with "
                f"{saved.get(name)}, and a run keeps its options"
            )


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
    return "\n".join(lines)


def evaluate(
    folder: Path,
    spec: str,
    *,
    part: str,
    style: str,
    batch_size: int,
    device: str,
    precision: str = "auto",
    cache: str | None,
) -> int:
    """Measure a model on one part of a data set; print the result."""
    predictor = load(folder, device=device, precision=precision)
    table = read_faces(spec)
    number = _correspondence(table.classes, predictor.classes, spec)
    store = prepare(
        table, predictor.card.architecture.image_size, cache=Path(cache) if cache else None
    )
    rows = table.rows(part)
    rows = rows[(table.targets[rows] != UNKNOWN) & store.valid[rows]]
    if not len(rows):
        counts = {p: int((table.targets[table.rows(p)] != UNKNOWN).sum()) for p in PARTS}
        there = ", ".join(f"{p} ({n})" for p, n in counts.items() if n) or "none"
        raise UserError(f"--part {part}: no labeled images there; parts with labels: {there}")
    probabilities = class_scores(
        predictor.model,
        Images(store.images, predictor.device),
        rows,
        batch_size=batch_size,
        autocast=predictor.autocast,
        progress=True,
    )
    result = summarize(probabilities, number[table.targets[rows]], predictor.classes)
    result = {"part": part, **result}
    print(json.dumps(result, indent=2) if style == "json" else report(result))
    return 0


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


def predict(
    folder: Path,
    paths: Sequence[str],
    *,
    style: str,
    batch_size: int,
    device: str,
    precision: str = "auto",
) -> int:
    """Classify image files; print one line each; 1 if any could not be read."""
    predictor = load(folder, device=device, precision=precision)
    files = list(find_images(paths))
    predictions = tqdm(
        predictor.predict(files, batch_size=batch_size),
        total=len(files),
        unit="image",
        disable=True if sys.stdout.isatty() else None,  # the answers themselves are progress
    )
    failed = 0
    for found in WRITERS[style](predictions, predictor.classes):
        if found.error is not None:
            failed += 1
            say(f"leaf: {found.path}: {found.error}")
    return 1 if failed else 0


def _write_table(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    width = max(map(len, classes))
    for one in found:
        if one.scores is None:
            print(f"{'error':{width}}      -  {one.path}  ({one.error})")
        else:
            rest = sorted(one.scores.items(), key=lambda item: -item[1])[1:3]
            others = ", ".join(f"{name} {100 * p:.0f} %" for name, p in rest)
            print(
                f"{one.label:{width}}  {100 * (one.confidence or 0):3.0f} %  {one.path}  ({others})"
            )
        yield one


def _write_json(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    print("[", end="")
    for number, one in enumerate(found):
        text = json.dumps({**vars(one), "path": str(one.path)})
        print(f"{',' if number else ''}\n  {text}", end="")
        yield one
    print("\n]")


def _write_csv(found: Iterable[Prediction], classes: Sequence[str]) -> Iterable[Prediction]:
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "label", "confidence", *classes, "error"])
    for one in found:
        scores = one.scores or {}
        writer.writerow(
            [one.path, one.label, one.confidence, *(scores.get(c) for c in classes), one.error]
        )
        yield one


WRITERS = {"table": _write_table, "json": _write_json, "csv": _write_csv}


def data(
    spec: str, size: int, *, sheet: Path | None, cache: str | None, workers: int | None
) -> int:
    """Prepare a data set; print how many images of which class it has."""
    table = read_faces(spec)
    store = prepare(table, size, cache=Path(cache) if cache else None, workers=workers)
    width = max(map(len, (*table.classes, "unlabeled")))
    print(f"{'':{width}}" + "".join(f"{part:>12}" for part in PARTS))
    for number, name in [*enumerate(table.classes), (UNKNOWN, "unlabeled")]:
        counts = [int((table.targets[table.rows(part)] == number).sum()) for part in PARTS]
        print(f"{name:{width}}" + "".join(f"{count:12,}" for count in counts))
    print(f"{'all':{width}}" + "".join(f"{len(table.rows(part)):12,}" for part in PARTS))
    reasons = Counter(reason for _, reason in store.quarantine)
    if reasons:
        print(
            f"{len(store.quarantine)} cannot be read, listed in {store.folder / 'quarantine.csv'}:"
        )
        for reason, count in reasons.most_common(5):
            print(f"  {count} x {reason}")
    print(f"decoded to {store.size} x {store.size} in {store.folder}")
    if sheet is not None:
        from leaf_fer.report import contact_sheet

        faces = {}
        for number, name in enumerate(table.classes):
            rows = np.flatnonzero((table.targets == number) & store.valid)[:12]
            if len(rows):
                faces[name] = store.gather(rows)
        contact_sheet(faces, sheet)
        print(f"sheet of faces: {sheet}")
    return 0


def import_weights(file: Path, out: Path, *, faces: Path | None) -> int:
    """Turn a graph model of TensorFlow.js into starting weights; print what was written.

    Args:
        file: the graph, with its weight files beside it.
        out: the folder to write.
        faces: image files to calibrate batch normalization with; None draws some.
    """
    graph = read_graph(file)
    network, images = MobileNetV1(), calibration_faces(faces)
    try:
        load_folded(network, layers(graph), images)
    except ValueError as error:
        raise UserError(f"{file}: not MobileNet-V1: {error}") from None
    made_from = f" from {graph.source}" if graph.source else ""
    save_start(
        out,
        network,
        "mobilenetv1_vggface2",
        origin=f"{file.name}{made_from}, weights with SHA-256 {graph.sha256}",
        license=graph.license,
        mean=MEAN,
        std=STD,
    )
    print(f"{out}: start from it with --backbone mobilenetv1_vggface2 --init {out}")
    return 0


def calibration_faces(folder: Path | None, count: int = 64, size: int = 224) -> torch.Tensor:
    """Faces, normalized as in training: (N, 3, size, size) float32, N <= ``count``.

    Args:
        folder: image files, of which every N/64th is taken; None draws faces, always the same.
        count: how many at most.
        size: side in pixels.

    Raises:
        UserError: no image can be read.
    """
    if folder is None:
        pixels = synthetic.render(0, np.arange(count), size)
    else:
        files = list(find_images([folder]))
        chosen = files[:: math.ceil(len(files) / count)]
        read = []
        for path in chosen:
            try:
                read.append(resize(decode(Path(path)), size))
            except UnreadableImage as error:
                say(f"leaf: {path} {error}")
        if not read:
            raise UserError(f"--faces {folder}: none of {len(chosen)} images can be read")
        pixels = np.stack(read)
    return normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), MEAN, STD)


def env() -> int:
    """Print what a bug report should have."""
    print(
        f"leaf-fer {version('leaf-fer')}, Python {platform.python_version()}, {platform.platform()}"
    )
    for package in ("torch", "timm", "lightning-fabric", "safetensors", "numpy", "pillow"):
        print(f"{package} {version(package)}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            print(f"GPU {number}: {torch.cuda.get_device_name(number)}")
    else:
        print("GPU: none")
    print(f"CPU: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"precision auto: {'bfloat16' if computes_bfloat16(kind) else 'float32'}")
    print(f"decoded images: {default_cache()}")
    return 0
