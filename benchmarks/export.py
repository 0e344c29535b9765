"""What exported files are worth: how far from the network they are, how large, how accurate.

    python benchmarks/export.py MODEL --data DATA [--part validation] [--json FILE]

MODEL is a model folder, DATA as for `leaf evaluate`. Files are compared with the network on faces
of the part, one at a time and seven at a time.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leaf_fer import load
from leaf_fer.allocator import keep_memory
from leaf_fer.bench.machine import commit, hardware
from leaf_fer.commands import some_of
from leaf_fer.data.sources import read_faces
from leaf_fer.data.store import prepare
from leaf_fer.export import BATCHES, OnnxNetwork, colors, export_onnx, export_torch, quantize
from leaf_fer.measure import score
from leaf_fer.metrics import summarize

COMPARED = 70  # a multiple of what comes at a time


def gap(answer: Any, reference: Any, faces: np.ndarray) -> dict[str, float]:
    """Largest difference of a probability over all faces, by how many come at a time."""
    largest = {}
    for count in BATCHES:
        largest[f"{count} at a time"] = max(
            float(np.abs(answer(colors(batch)) - reference(batch)).max())
            for batch in np.split(faces, len(faces) // count)
        )
    return largest


def measure(command: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Export in all formats, compare and score."""
    predictor = load(command.model, device="cpu", precision="float32")
    network, card = predictor.model, predictor.card
    table = read_faces(command.data)
    store = prepare(table, card.architecture.image_size)
    rows = table.rows(command.part)
    asked = np.random.default_rng(0).choice(rows[store.valid[rows]], COMPARED, replace=False)
    faces = store.gather(np.sort(asked))

    whole, program, small = folder / "m.onnx", folder / "m.pt2", folder / "m.int8.onnx"
    export_onnx(network, card, whole, None, faces)
    export_torch(network, card, program, None, faces)
    quantize(whole, small, some_of(store, table))
    again = torch.export.load(program).module()
    reference = predictor.probabilities
    gaps = {
        "onnx": gap(OnnxNetwork(whole).probabilities, reference, faces),
        "torch": gap(lambda batch: again(torch.from_numpy(batch)).numpy(), reference, faces),
        "int8": gap(OnnxNetwork(small).probabilities, reference, faces),
    }
    model = Path(command.model)
    sizes = {"model": model / "model.safetensors", "onnx": whole, "torch": program, "int8": small}
    accuracy = {}
    for name, one in (("model", predictor), ("onnx", load(whole)), ("int8", load(small))):
        probabilities, targets = score(one, command.data, command.part, None, batch_size=256)
        result = summarize(probabilities, targets, card.classes)
        accuracy[name] = {k: result[k] for k in ("overall_accuracy", "balanced_accuracy")}
    return {
        "commit": commit(),
        "hardware": hardware("cpu", torch.get_num_threads()),
        "model": {name: card.facts.get(name) for name in ("method", "labels", "seed", "step")},
        "part": command.part,
        "faces compared": COMPARED,
        "largest difference of a probability": gaps,
        "megabytes": {name: round(file.stat().st_size / 1e6, 2) for name, file in sizes.items()},
        "accuracy": accuracy,
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--part", choices=("validation", "test"), default="validation")
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(measure(command, Path(folder)), indent=2)
    print(text)
    if command.json:
        command.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
