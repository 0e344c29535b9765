"""What classifying images costs besides computing.

    python benchmarks/predict.py [FOLDER] [--size 48 112 224] [--images 1024] [--rounds 5]

Four rates are taken in turns in one process, so that a change of the machine's speed meets all of
them, and their medians are printed: the network on a resident random batch, `evaluate` on a store
of decoded images, `Predictor.predict` on the files of a folder, and `leaf predict` on it, less
what it takes for a single file. Ratios are rates / that of the network, medians over rounds.
Without FOLDER faces are drawn and saved as JPEG files of 100 x 100 pixels.

Then --memory paths, the files again and again, are classified at the first size; the process's
peak of resident memory is noted after 1,000 of them and after all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from leaf_fer import cli
from leaf_fer.data import synthetic
from leaf_fer.data.store import prepare
from leaf_fer.data.table import EXPRESSIONS, FaceTable
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import evaluate
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.predict import Predictor, find_images, load
from leaf_fer.types import MEAN, STD


def collect(source: str | None, count: int, folder: Path) -> list[str]:
    """A folder of links to the first ``count`` images of another, or of drawn faces."""
    folder.mkdir()
    if source is None:
        for row, face in enumerate(synthetic.render(0, range(count), 100)):
            Image.fromarray(face).save(folder / f"{row:06}.jpg")
    else:
        for row, name in enumerate(list(find_images([source]))[:count]):
            (folder / f"{row:06}{Path(name).suffix}").symlink_to(Path(name).resolve())
    return list(find_images([folder]))


def make_model(folder: Path, size: int) -> Path:
    """A model folder with random weights."""
    network = Architecture(num_classes=len(EXPRESSIONS), image_size=size)
    save_model(folder, build_classifier(network), Card(network, EXPRESSIONS, MEAN, STD))
    return folder


def computing(predictor: Predictor, batch: int, count: int) -> Callable[[], None]:
    """The network alone on ``count`` images that are on the device and normalized."""
    size = predictor.card.architecture.image_size
    images = torch.randn(batch, 3, size, size, device=predictor.device)
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> None:
        kind = predictor.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=predictor.autocast):
            for start in range(0, count, batch):
                predictor.model(images[: count - start])
        if kind == "cuda":
            torch.cuda.synchronize()

    return work


def evaluating(
    predictor: Predictor, files: list[str], batch: int, cache: Path
) -> Callable[[], object]:
    """All images of a store."""
    zeros = np.zeros(len(files), dtype=np.int64)
    names = [Path(file).name for file in files]
    table = FaceTable(("face",), names, zeros, zeros.astype(np.uint8), Path(files[0]).parent)
    size = predictor.card.architecture.image_size
    images = Images(prepare(table, size, cache=cache, progress=False).images, predictor.device)
    rows, half = np.arange(len(files)), predictor.autocast
    return lambda: evaluate(predictor.model, images, rows, batch_size=batch, autocast=half)


def predicting(predictor: Predictor, files: list[str], batch: int) -> Callable[[], object]:
    """All files, for Python."""
    return lambda: sum(1 for _ in predictor.predict(files, batch_size=batch))


def commanding(model: Path, path: str, batch: int) -> Callable[[], object]:
    """All files, on the command line."""
    words = ["predict", str(model), path, "--format", "csv", "--batch-size", str(batch)]

    def work() -> None:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            assert cli.main(words) == 0

    return work


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(model: Path, files: list[str], batch: int, rounds: int, cache: Path) -> dict[str, Any]:
    """Images per second of each way, and ratios to the first."""
    predictor = load(model)
    ways = {
        "compute": computing(predictor, batch, len(files)),
        "evaluate": evaluating(predictor, files, batch, cache),
        "predict": predicting(predictor, files, batch),
        "command": commanding(model, str(Path(files[0]).parent), batch),
        "single": commanding(model, files[0], batch),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            taken = seconds(work)
            if turn:  # the first warms up
                times[name].append(taken)
    single = times.pop("single")
    times["command"] = [all_ - one for all_, one in zip(times["command"], single, strict=True)]
    ratios = {
        name: statistics.median(c / t for c, t in zip(times["compute"], taken, strict=True))
        for name, taken in times.items()
    }
    rates = {name: len(files) / statistics.median(taken) for name, taken in times.items()}
    return {
        "size": predictor.card.architecture.image_size,
        "precision": "bfloat16" if predictor.autocast else "float32",
        "images_per_second": rates,
        "best_images_per_second": {name: len(files) / min(taken) for name, taken in times.items()},
        "ratio": ratios,
    }


def memory(model: Path, files: list[str], batch: int, count: int) -> dict[str, float]:
    """Peak of resident memory in MiB after 1,000 of ``count`` paths and after all."""
    paths = (files * (count // len(files) + 1))[:count]
    peak = {}
    for number, _ in enumerate(load(model).predict(paths, batch_size=batch), 1):
        if number in (1000, count):
            peak[str(number)] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--size", type=int, nargs="+", default=[48, 112, 224])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    facts: dict[str, Any] = {
        "images": command.images,
        "batch": command.batch,
        "rounds": command.rounds,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        files = collect(command.folder, command.images, root / "faces")
        if command.memory:  # first: the peak is that of the process
            model = make_model(root / "memory", command.size[0])
            facts["peak_mib"] = memory(model, files, command.batch, command.memory)
            print("peak MiB after paths:", facts["peak_mib"])
        print(
            f"{'size':>5}"
            + "".join(f"{n:>18}" for n in ("compute", "evaluate", "predict", "command"))
        )
        for size in command.size:
            model = make_model(root / str(size), size)
            row = measure(model, files, command.batch, command.rounds, root / "cache")
            facts["rows"].append(row)
            cells = (
                f"{r:8.0f}/s ({row['ratio'][n]:.2f})" for n, r in row["images_per_second"].items()
            )
            print(f"{size:5}" + "".join(f"{cell:>18}" for cell in cells))
    if command.json:
        command.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
