"""The other side of a comparison: FixMatch of the package semilearn (USB), step by step.

It runs as a script in an environment of its own and imports nothing of leaf_fer, which takes
:func:`serve` from here, so both sides are timed by the same lines. The parent writes a JSON object
that says what to build, then names of pieces of work, each on a line. The answer to the first is
what was found while building, to the others the seconds that the work took. Whatever is printed
meanwhile goes to stderr.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

Work = dict[str, Callable[[], object]]
Asked = dict[str, Any]

ONE_CORE = ("pairs", "pillow")
"""Work that is timed with one thread."""

NETWORKS = {"resnet18": ("BasicBlock", [2, 2, 2, 2]), "resnet50": ("Bottleneck", [3, 4, 6, 3])}
STEPS = 10_000
"""Length of the run that a step believes to be in."""


def serve(build: Callable[[Asked], tuple[Work, dict[str, Any]]]) -> None:
    """Answer the parent until it closes the pipe.

    Args:
        build: makes the pieces of work by name, one of them ``step``, and facts to report, of
            what the parent asks for: at least ``threads`` and ``device``.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    device, threads = asked["device"], asked["threads"]
    torch.set_num_threads(threads)
    work, facts = build(asked)
    first, second = timed(work["step"], device), timed(work["step"], device)
    found = {"first": first, "second": second, "memory": peak_memory(device)}
    print(json.dumps({**facts, **found}), file=answers)
    for line in sys.stdin:
        name = line.strip()
        torch.set_num_threads(1 if name in ONE_CORE else threads)
        print(timed(work[name], device), file=answers)


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds until a piece of work is done, on the device too."""
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_memory(device: str) -> int | None:
    """The most bytes in use so far, of the GPU or of this process; None where nobody knows."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def build_fixmatch(asked: Asked) -> tuple[Work, dict[str, Any]]:
    """FixMatch and its data as semilearn makes them, of the images that the other side has."""
    import semilearn  # type: ignore[import-not-found]

    if asked["backbone"] not in NETWORKS:
        known = ", ".join(NETWORKS)
        sys.exit(f"--backbone {asked['backbone']}: expected one of {known} in a comparison")
    arguments = semilearn.get_config(settings(asked))
    algorithm = semilearn.get_algorithm(arguments, network(asked["backbone"]), None, None)
    algorithm.model.to(asked["device"])
    algorithm.ema_model.to(asked["device"])
    del algorithm.hooks_dict["TimerHook"]  # needs a GPU, and would wait for it at every step
    algorithm.model.train()
    algorithm.call_hook("before_run")
    step = stepper(algorithm, asked["device"])
    labeled, unlabeled = (loader(arguments, asked, part) for part in (False, True))
    resident = {**next(labeled), **next(unlabeled)}
    alone = loader(arguments, {**asked, "workers": 0}, True)
    packages = ("semilearn", "torch", "torchvision", "pillow", "numpy")
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    work: Work = {
        "pairs": lambda: next(alone),
        "data": lambda: (next(labeled), next(unlabeled)),
        "step": lambda: step({**next(labeled), **next(unlabeled)}),
        "computing": lambda: step(resident),
    }
    return awake_only_in(("data", "step"), work), {"precision": "float32", "versions": versions}


def settings(asked: Asked) -> dict[str, Any]:
    """The configuration of semilearn: its defaults but for what both sides must have in common."""
    return {
        "algorithm": "fixmatch",
        "dataset": "none",  # it gets images from us
        "num_classes": asked["classes"],
        "img_size": asked["image_size"],
        "batch_size": asked["batch_size"],
        "num_workers": asked["workers"],
        "num_train_iter": STEPS,
        "num_eval_iter": STEPS,
        "num_log_iter": STEPS,
        "optim": "AdamW",
        "lr": 5e-4,
        "weight_decay": 0.0,
        "gpu": 0 if asked["device"] == "cuda" else None,
        "distributed": False,
        "rank": 0,
        "world_size": 1,
    }


def network(name: str) -> Callable[..., torch.nn.Module]:
    """A maker of networks: semilearn's ResNet, that of torchvision, with other blocks."""
    from semilearn.nets.resnet import resnet  # type: ignore[import-not-found]

    block, layers = NETWORKS[name]

    def make(num_classes: int, **_: Any) -> torch.nn.Module:
        made: torch.nn.Module = resnet.ResNet50(
            block=getattr(resnet, block), layers=layers, num_classes=num_classes
        )
        return made

    return make


def stepper(algorithm: Any, device: str) -> Callable[[dict[str, torch.Tensor]], None]:
    """The body of the loop of semilearn's ``train``."""
    names = ("x_lb", "y_lb", "x_ulb_w", "x_ulb_s")

    def step(batch: dict[str, torch.Tensor]) -> None:
        algorithm.call_hook("before_train_step")
        sent = {name: batch[name].to(device) for name in names}
        algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**sent)
        algorithm.call_hook("after_train_step")
        algorithm.it += 1

    return step


def loader(arguments: Any, asked: Asked, is_ulb: bool) -> Iterator[dict[str, Any]]:
    """Batches of labeled or unlabeled images, with the views of semilearn's ``get_cifar``."""
    from semilearn import BasicDataset, get_data_loader
    from semilearn.datasets.augmentation import RandAugment  # type: ignore[import-not-found]
    from torchvision import transforms

    size = asked["image_size"]
    padding = int(size * (1 - arguments.crop_ratio))
    crop = [
        transforms.Resize(size),
        transforms.RandomCrop(size, padding=padding, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
    ]
    tensor = [transforms.ToTensor(), transforms.Normalize(asked["mean"], asked["std"])]
    weak = transforms.Compose([*crop, *tensor])
    strong = transforms.Compose([*crop, RandAugment(3, 5), *tensor])
    rows = asked["unlabeled" if is_ulb else "labeled"]
    images = np.load(asked["images"], mmap_mode="r")[rows]
    targets = [0] * len(rows) if is_ulb else asked["targets"]
    dataset = BasicDataset(
        arguments.algorithm, images, targets, asked["classes"], weak, is_ulb, strong
    )
    return iter(
        get_data_loader(
            arguments,
            dataset,
            arguments.batch_size,
            num_workers=asked["workers"] * (2 if is_ulb else 1),
        )
    )


def awake_only_in(names: tuple[str, ...], work: Work) -> Work:
    """Stop the processes that load images unless it is for them that the clock runs.

    Otherwise they would fill their queues while other work is timed, and be free of charge when
    it is theirs that is.
    """

    def send(number: int) -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, number)

    def awake(name: str) -> Callable[[], object]:
        def run() -> None:
            send(signal.SIGCONT)
            work[name]()
            send(signal.SIGSTOP)

        return run

    return {**work, **{name: awake(name) for name in names}}


if __name__ == "__main__":
    try:
        serve(build_fixmatch)
    finally:
        for child in multiprocessing.active_children():
            child.kill()
