"""The main job from end to end on drawn faces: `make demo`.

Prepares the data, trains a supervised baseline and LEAF with the same eight labels per class and
the same number of steps, evaluates both on faces that neither has seen, and predicts on image
files. Everything is written to runs/demo; run it again to see the result again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import leaf_fer
from leaf_fer.config import configure
from leaf_fer.data.sources import read_faces
from leaf_fer.engine.record import RunFolder
from leaf_fer.report import learning_curves, prediction_sheet
from leaf_fer.training import execute

OUT = Path("runs") / "demo"
METHODS = ("supervised", "leaf")
SETTINGS: dict[str, Any] = {
    "data": "synthetic",
    "labels": 64,
    "image_size": 48,
    "backbone": "conv4",
    "steps": 500,
    "epoch_steps": 50,
    "seed": 0,
    "split_seed": 0,
}
SHOWN = 24


def train(method: str) -> dict[str, Any]:
    """Train one method, or read its result if it is finished."""
    folder = OUT / method
    given = configure({**SETTINGS, "method": method})
    return execute(given, folder, resume=RunFolder(folder).started)


def predict(model: Path) -> None:
    """Write some test faces to files, predict on the files, and draw a sheet of the answers."""
    table = read_faces("synthetic")
    assert table.render is not None
    rows = table.rows("test")[:SHOWN]
    faces = OUT / "faces"
    faces.mkdir(parents=True, exist_ok=True)
    paths = [faces / f"{table.names[row]}.png" for row in rows]
    for path, pixels in zip(paths, table.render(rows, 112), strict=True):
        Image.fromarray(pixels).save(path)

    found = list(leaf_fer.load(model).predict(paths))
    prediction_sheet(
        np.stack([np.asarray(Image.open(path)) for path in paths]),
        [table.classes[target] for target in table.targets[rows]],
        [str(one.label) for one in found],
        [one.confidence or 0.0 for one in found],
        OUT / "faces.png",
    )


def main() -> None:
    """Run the demo and print its table."""
    begin = time.perf_counter()
    results = {method: train(method) for method in METHODS}
    predict(OUT / "leaf")
    learning_curves({m: RunFolder(OUT / m).lines() for m in METHODS}, OUT / "curves.png")
    (OUT / "confusion.png").write_bytes((OUT / "leaf" / "confusion.png").read_bytes())
    record = {"settings": SETTINGS, "results": results}
    (OUT / "results.json").write_text(json.dumps(record, indent=2) + "\n")

    print(f"\n{'method':12} {'overall':>9} {'balanced':>9} {'seconds':>8}")
    for method, result in results.items():
        overall, balanced = result["overall_accuracy"], result["balanced_accuracy"]
        print(f"{method:12} {overall:9.1%} {balanced:9.1%} {result['seconds']:8.0f}")
    print(
        f"\n{SETTINGS['labels']} labels, {SETTINGS['steps']} steps each, accuracy on "
        f"{results['leaf']['count']:,} test faces; {time.perf_counter() - begin:.0f} s in all\n"
        f"pictures: {OUT}/confusion.png, {OUT}/curves.png, {OUT}/faces.png"
    )


if __name__ == "__main__":
    main()
