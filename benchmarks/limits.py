"""What bounds views and prediction from below, whatever their code: one core, microseconds.

    python benchmarks/limits.py [FOLDER] [--json FILE]

For a weak and a strong view of an image of 224 pixels: normalizing both, and six copies of it (a
crop, three operations, a square and a crop that would do nothing but copy). With FOLDER: reading
and decoding one of its image files at 48 pixels. Medians of 40, of 32 images each.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from leaf_fer.data.augment import normalize
from leaf_fer.data.decode import cut, decode, lenient
from leaf_fer.predict import find_images
from leaf_fer.types import MEAN, STD

SIZE, COUNT, TURNS = 224, 32, 40


def microseconds(work: Callable[[], object]) -> float:
    """Median time per image."""
    taken = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) / COUNT * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--json", type=Path)
    command = parser.parse_args()
    torch.set_num_threads(1)
    views = torch.randint(0, 256, (2, COUNT, SIZE, SIZE, 3), dtype=torch.uint8)
    copies = torch.empty_like(views[0])

    def normalizing() -> None:
        for view in views:
            normalize(view.permute(0, 3, 1, 2), MEAN, STD)

    def copying() -> None:
        for image, copy in zip(views[0], copies, strict=True):
            for _ in range(6):
                copy.copy_(image)

    facts = {"normalize_pair": microseconds(normalizing), "six_copies": microseconds(copying)}
    if command.folder:
        files = [Path(name) for name in list(find_images([command.folder]))[:COUNT]]

        def decoding() -> None:
            with lenient:
                for file in files:
                    cut(decode(file), 48)

        facts["decode"] = microseconds(decoding)
    print(json.dumps(facts, indent=2))
    if command.json:
        command.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
