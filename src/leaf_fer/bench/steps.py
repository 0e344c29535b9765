"""What ``leaf bench speed`` times of this package, in a process of its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from leaf_fer.bench import pillow
from leaf_fer.bench.usb import STEPS, Asked, Work, serve
from leaf_fer.build import accelerate, build_batches, build_images, build_state, open_data
from leaf_fer.config import configure
from leaf_fer.data.augment import normalize, strong, weak
from leaf_fer.data.stream import Stream, generator
from leaf_fer.data.views import Images
from leaf_fer.engine.loop import State, Training
from leaf_fer.errors import UserError
from leaf_fer.types import MEAN, STD, Batch, Clock, Labeled, Unlabeled

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Part = TypeVar("Part", Labeled, Unlabeled)


def main() -> None:
    """Serve the parent; what a user did wrong is told in one line."""
    try:
        serve(build)
    except UserError as error:
        sys.exit(str(error))


def build(asked: Asked) -> tuple[Work, dict[str, Any]]:
    """All of a run but its records, and the usual way to make views.

    Raises:
        UserError: an option of the run is not usable.
    """
    config = configure(asked["options"])
    settings = config.settings
    data, fabric = open_data(settings), accelerate(settings)
    state = build_state(config, data, fabric.device)
    images = build_images(settings, data, fabric.device)
    batches = build_batches(config, data, images, state.algorithm)
    step = stepper(fabric, state)
    resident = noise(batches.at(0))
    number = itertools.count(1)
    work: Work = {
        "data": lambda: batches.at(next(number)),
        "step": lambda: step(batches.at(next(number))),
        "computing": partial(step, resident),
        **views(images, torch.from_numpy(data.split.unlabeled), settings.batch_size),
    }
    half = str(fabric._precision.precision) == "bf16-mixed"
    return work, {
        "precision": "bfloat16" if half else "float32",
        "compiled": settings.compile,
    }


def stepper(fabric: Fabric, state: State) -> Callable[[Batch], object]:
    """A step as a run makes it."""
    training = Training(fabric, state, seed=0)
    return lambda batch: training.step(batch, Clock(state.step, STEPS, 100))


def noise(batch: Batch) -> Batch:
    """The batch with normal random numbers for images, in the same places in memory."""

    def part(of: Part) -> Part:
        return replace(of, weak=numbers(of.weak), strong=numbers(of.strong))

    def numbers(views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(map(torch.randn_like, views))

    return Batch(part(batch.labeled), part(batch.unlabeled))


def views(images: Images, unlabeled: Tensor, batch_size: int) -> Work:
    """One weak and one strong view of every unlabeled image of a step, as here and as usual."""
    stream = Stream(len(unlabeled), batch_size, 0, "views")
    number, random = itertools.count(), Random(0)

    def pairs() -> list[Tensor]:
        step = next(number)
        pixels = images.fetch(unlabeled[stream.rows(step)])
        made = weak(pixels, generator(0, step)), strong(pixels, generator(1, step))
        return [normalize(view, MEAN, STD) for view in made]

    def usual() -> list[Tensor]:
        rows = unlabeled[stream.rows(next(number))]
        return pillow.pairs(images.pixels[rows.numpy()], random)

    return {"pairs": pairs, "pillow": usual}
