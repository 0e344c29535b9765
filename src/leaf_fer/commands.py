"""What the commands of ``leaf`` do once it is clear what is wanted."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from leaf_fer.allocator import keep_memory
from leaf_fer.answers import Answer, columns
from leaf_fer.build import computes_bfloat16
from leaf_fer.config import Config, read_yaml
from leaf_fer.data import synthetic
from leaf_fer.data.augment import normalize
from leaf_fer.data.decode import UnreadableImage, decode, resize
from leaf_fer.data.sources import read_faces
from leaf_fer.data.store import Store, default_cache, prepare
from leaf_fer.data.table import PARTS, UNKNOWN, FaceTable
from leaf_fer.engine.loop import Interrupted
from leaf_fer.errors import UserError, process, say
from leaf_fer.export import describe, export_onnx, export_torch, quantize
from leaf_fer.measure import report, score
from leaf_fer.metrics import summarize
from leaf_fer.models import Classifier, save_start
from leaf_fer.models.mobilenet import MobileNetV1, load_folded
from leaf_fer.models.tfjs import layers, read_graph
from leaf_fer.predict import find_images, load
from leaf_fer.recipe import check_whole
from leaf_fer.rows import Rows
from leaf_fer.types import MEAN, STD

if TYPE_CHECKING:
    from leaf_fer.run import Run

CALIBRATION_FACES = 256
"""Faces that show how large the numbers in a network get."""


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
    from leaf_fer.training import execute

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


def predict(
    folder: Path,
    paths: Sequence[str],
    *,
    style: str,
    out: Path | None = None,
    batch_size: int,
    device: str,
    precision: str = "auto",
    coverage: float | None = None,
    per_class: bool = False,
    abstain: bool = False,
) -> int:
    """Classify image files; print or write a row each; 1 if any could not be read."""
    keep_memory()
    predictor = load(folder, device=device, precision=precision)
    files = list(find_images(paths))
    check_whole(predictor.card.alignment, files)
    answers = predictor.predict(
        files, batch_size=batch_size, coverage=coverage, per_class=per_class
    )
    predictions = tqdm(
        (one.unsure() for one in answers) if abstain else answers,
        total=len(files),
        unit="image",
        # Printed, the answers themselves are progress.
        disable=True if out is None and sys.stdout.isatty() else None,
    )
    failed = 0
    with Rows(style, columns(predictor.classes), out) as rows:
        for found in predictions:
            rows.add(Answer(found, predictor.classes))
            if found.error is not None:
                failed += 1
                say(f"leaf: {found.path}: {found.error}")
    return 1 if failed else 0


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
        for number, name in [*enumerate(table.classes), (UNKNOWN, "unlabeled")]:
            rows = np.flatnonzero((table.targets == number) & store.valid)[:12]
            if len(rows):
                faces[name] = store.gather(rows)
        if not faces:
            raise UserError(f"--sheet {sheet}: no image of {spec} can be read")
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


def some_of(store: Store, table: FaceTable) -> NDArray[np.uint8]:
    """Training faces from all over a table, :data:`CALIBRATION_FACES` at most: (N, S, S, 3)."""
    rows = table.rows("train")
    rows = rows[store.valid[rows]]
    return store.gather(rows[:: max(1, len(rows) // CALIBRATION_FACES)][:CALIBRATION_FACES])


def export(
    folder: Path,
    out: Path,
    *,
    style: str,
    int8: bool,
    data: str | None,
    part: str,
    cache: str | None,
    batch_size: int,
) -> int:
    """Write a model for other programs; print what it is, and with int8 what it costs."""
    predictor = load(folder, device="cpu", precision="float32")
    network, card = predictor.model, predictor.card
    if not isinstance(network, Classifier):
        raise UserError(f"{folder}: is exported already; expected a model folder")
    faces = None
    if data is not None:
        table = read_faces(data)
        store = prepare(table, card.architecture.image_size, cache=Path(cache) if cache else None)
        faces = some_of(store, table)
    write = {"onnx": export_onnx, "torch": export_torch}[style]
    gap = write(network, card, out, predictor.calibration, faces)
    print(
        f"{out}: {', '.join(card.classes)}; {describe(card)['input']}; probabilities differ "
        f"from the model's by at most {gap:.1g}"
    )
    if int8 and data is not None and faces is not None:
        small = out.with_suffix(".int8.onnx")
        quantize(out, small, faces)
        for file in (out, small):
            probabilities, targets = score(load(file), data, part, cache, batch_size=batch_size)
            result = summarize(probabilities, targets, card.classes)
            print(
                f"{file}: {file.stat().st_size / 1e6:.1f} MB, {part} part: "
                f"overall {100 * result['overall_accuracy']:.2f} %, "
                f"balanced {100 * result['balanced_accuracy']:.2f} %"
            )
    return 0


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
