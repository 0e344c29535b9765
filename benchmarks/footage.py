"""Memory and speed of `leaf predict` on videos of a minute and of ten, at 25 pictures a second.

    python benchmarks/footage.py [--minutes 1 10] [--size 320 240] [--weights FILE] [--json FILE]

The video shows the photo of Grace Hopper that matplotlib carries, moving, and is annotated as well.
Peaks are VmHWM of the process. The model has random weights; what it computes does not depend on
them.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

from leaf_fer.bench.machine import commit, hardware
from leaf_fer.data.decode import decode
from leaf_fer.faces.film import RATE, Film
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.recipe import Recipe
from leaf_fer.types import MEAN, STD


def shoot(path: Path, minutes: float, width: int, height: int) -> None:
    """Write a video of a face that moves in a circle."""
    photo = decode(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    face = np.asarray(Image.fromarray(photo[40:440, 60:460]).resize((height * 3 // 4,) * 2))
    side = len(face)
    with Film(path) as film:
        for number in range(round(minutes * 60 * RATE)):
            image = np.full((height, width, 3), 110, np.uint8)
            angle = 2 * math.pi * number / (8 * RATE)
            left = round((width - side) * (1 + math.sin(angle)) / 2)
            top = round((height - side) * (1 + math.cos(angle)) / 2)
            image[top : top + side, left : left + side] = face
            film.add(image, number / RATE)


def measure(model: Path, video: Path, extra: list[str]) -> dict[str, float]:
    """Peak memory in MiB, seconds and faces of one command."""
    out = video.with_suffix(".csv")
    words = ["predict", str(model), str(video), "--annotate", str(video.parent / "drawn")]
    words += ["--detector", "auto", "--device", "cpu", "--out", str(out), *extra]
    begin, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "leaf_fer", *words], stderr=subprocess.PIPE, text=True
    )
    errors: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        peak = max(peak, *(int(line.split()[1]) / 1024 for line in found), 0.0)
        time.sleep(0.1)
    reader.join()
    if process.returncode:
        sys.exit("".join(errors))
    faces = out.read_text().count("\n") - 1
    return {"peak_mib": round(peak, 1), "seconds": time.perf_counter() - begin, "faces": faces}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--size", nargs=2, type=int, default=[320, 240])
    parser.add_argument("--weights", help="of the detector")
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    extra = ["--detector-weights", command.weights] if command.weights else []
    facts = {}
    with tempfile.TemporaryDirectory() as folder:
        network = Architecture(backbone="resnet18", num_classes=7, image_size=112)
        classes = tuple(f"class {number}" for number in range(7))
        card = Card(network, classes, MEAN, STD, alignment=Recipe())
        torch.manual_seed(0)
        save_model(Path(folder) / "model", build_classifier(network), card)
        for minutes in command.minutes:
            video = Path(folder) / f"{minutes:g}.mp4"
            shoot(video, minutes, *command.size)
            found = measure(Path(folder) / "model", video, extra)
            found["pictures"] = round(minutes * 60 * RATE)
            facts[f"{minutes:g} minutes"] = found
            print(
                f"{minutes:g} minutes: {found['peak_mib']:.0f} MiB at most, "
                f"{found['pictures'] / found['seconds']:.1f} pictures a second, "
                f"{found['faces']} faces",
                flush=True,
            )
    if command.json:
        machine = hardware("cpu", torch.get_num_threads())
        about = {"commit": commit(), "size": command.size, "machine": machine}
        command.json.write_text(json.dumps({**about, **facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
