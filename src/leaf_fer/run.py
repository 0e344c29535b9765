"""What a training run consists of, and how it goes from its first step to a full run folder."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from leaf_fer import processes
from leaf_fer.algorithm import Algorithm
from leaf_fer.algorithms import ALGORITHMS
from leaf_fer.build import (
    Data,
    architecture,
    build_batches,
    build_images,
    build_state,
    find_start,
    laid_out,
    open_data,
)
from leaf_fer.config import Config, configure, write_yaml
from leaf_fer.data import split as splits
from leaf_fer.data.aligned import recipe_of
from leaf_fer.data.views import Batches, Images
from leaf_fer.engine import watch
from leaf_fer.engine.checkpoint import load_checkpoint
from leaf_fer.engine.evaluate import evaluate
from leaf_fer.engine.hooks import Follower, Recorder, Validate
from leaf_fer.engine.loop import Diverged, State, cosine, fit
from leaf_fer.engine.record import RunFolder
from leaf_fer.engine.signals import stopping
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_atomically, write_json
from leaf_fer.metrics import summarize
from leaf_fer.models import Card, Classifier, Start, load_model, save_model, write_card
from leaf_fer.types import MEAN, STD
from leaf_fer.version import __version__

if TYPE_CHECKING:
    from lightning_fabric import Fabric


INIT = "init.json"
"""In a run folder: origin and SHA-256 of the starting weights."""


class Run:
    """The parts of a run while it goes on."""

    methods: ClassVar[Mapping[str, type[Algorithm]]] = ALGORITHMS

    def __init__(self, config: Config, folder: RunFolder, fabric: Fabric) -> None:
        self.config = config
        self.folder = folder
        settings = config.settings
        saved = folder.split if folder.started else None
        self.opened = open_data(settings, saved)
        self.data = self.used(self.opened)
        self.alignment = recipe_of(self.data.table)
        if settings.select == "best-on-validation" and not len(self.data.split.validation):
            raise UserError(
                "--select best-on-validation: there are no labeled validation images; "
                "give --validation a share to hold out, or take last"
            )
        self.watched = None
        if settings.watch_unlabeled:
            count, seed = settings.watch_unlabeled, settings.split_seed
            self.watched = watch.draw(self.data.table, self.data.split, count, seed)
        self.fabric = fabric
        self.device = fabric.device
        self.init, start = _start(config, folder)
        self.state: State = build_state(config, self.data, self.device, start, self.methods)
        self.images: Images = build_images(settings, self.data, self.device)
        self.batches: Batches = build_batches(config, self.data, self.images, self.state.algorithm)
        self.total, self.epoch = lengths(config, self.data)
        self.first = processes.rank() == 0
        self.autocast = str(self.fabric._precision.precision) == "bf16-mixed"
        self._begin()

    @staticmethod
    def configured(values: Mapping[str, Any]) -> Config:
        """The configuration that a run folder holds."""
        return configure(values)

    def used(self, data: Data) -> Data:
        """What is trained and measured on, of what is there."""
        return data

    def described(self) -> str:
        """What the run has to work with."""
        return describe(self.data, self.config, self.total)

    def _begin(self) -> None:
        """Write down what will be done, or find out where it stopped."""
        folder = self.folder
        if folder.checkpoint.exists():
            facts = load_checkpoint(folder.checkpoint, self.state.modules(), self.state.optimizer)
            self.state.step = int(facts.pop("step"))
            self.state.facts.update(facts)
            say(f"resuming {folder.path} at step {self.state.step} of {self.total}")
        if self.first:
            self._write_down()
        say(self.described())
        count = processes.world()
        where = self.device.type if count == 1 else f"{count} x {self.device.type}"
        say(f"computing on {where} in {'bfloat16' if self.autocast else 'float32'}")

    def _write_down(self) -> None:
        folder, data = self.folder, self.opened
        folder.rewind(self.state.step if folder.checkpoint.exists() else -1)
        if not folder.started:
            splits.save(data.split, data.table, data.store.hashes, folder.split)
            if self.init is not None:
                write_json(folder.path / INIT, self.init)
            # Last: a folder with a configuration has all that is needed to go on.
            write_atomically(folder.config, write_yaml(self.config).encode())

    def go(self) -> dict[str, Any]:
        """Train to the end, then evaluate and write everything."""
        settings = self.config.settings
        hooks = self._recorder() if self.first else Follower(self._validate(), self._watch())
        scale: Callable[[float], float] = cosine if settings.schedule == "cosine" else lambda _: 1.0

        def rate(progress: float) -> float:
            warm = min(1.0, (progress + 1 / self.total) / settings.warmup) if settings.warmup else 1
            return settings.lr * warm * scale(progress)

        try:
            with stopping() as stop:
                fit(
                    self.fabric,
                    self.state,
                    self.batches,
                    hooks,
                    total_steps=self.total,
                    epoch_steps=self.epoch,
                    rate=rate,
                    seed=settings.seed,
                    stop=stop,
                )
        except Diverged as error:
            raise self._explain(error) from None
        finally:
            hooks.close()
        return self._finish()

    def _validate(self) -> Validate | None:
        if not len(self.data.split.validation):
            return None
        return lambda model: self.measure(model, "validation")

    def _watch(self) -> Validate | None:
        if self.watched is None:
            return None
        rows, table = self.watched, self.data.table
        mass = float(self.config.options.get("mass", watch.MASS))
        return lambda model: watch.quality(
            self._scores(model, rows), table.targets[rows], table.classes, mass
        )

    def _recorder(self) -> Recorder:
        classes, folder = self.data.table.classes, self.folder
        counts = np.bincount(self.data.split.targets, minlength=len(classes))
        return Recorder(
            folder,
            self.state,
            total_steps=self.total,
            validate=self._validate(),
            keep=self._keep,
            classes=classes,
            even=bool(counts.max() <= 0.5 * counts.sum()),
            log_steps=max(1, min(self.epoch, self.total // 100)),
            watch=self._watch(),
        )

    def _keep(self, state: State) -> None:
        """Save the best model so far."""
        self._save_model(self.folder.best, state.averaged, state.step)

    def measure(self, model: nn.Module, part: str) -> dict[str, Any]:
        """Metrics of a network on the validation or the test part."""
        rows = getattr(self.data.split, part)
        return self._summary(self._scores(model, rows), rows)

    def _scores(self, model: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Class probabilities of some images, (N, C), computed by all processes together."""
        # The first rows come twice if need be, so that all processes have as many.
        shared = np.resize(rows, math.ceil(len(rows) / processes.world()) * processes.world())
        own = evaluate(
            model,
            self.images,
            shared[processes.mine()],
            batch_size=self.config.settings.eval_batch_size,
            autocast=self.autocast,
        )
        gathered = processes.gather(torch.from_numpy(own).to(self.device))
        probabilities: NDArray[np.float32] = gathered[: len(rows)].cpu().numpy()
        if not np.isfinite(probabilities).all():
            step = self.state.step
            raise Diverged(
                f"the averaged weights give no finite scores after step {step}", step - 1
            )
        return probabilities

    def _save_model(self, path: Path, model: Classifier, step: int) -> Card:
        settings = self.config.settings
        names = ("data", "method", "labels", "seed", "split_seed")
        facts = {name: getattr(settings, name) for name in names}
        facts.update(step=step, effective_labels=len(self.data.split.labeled), version=__version__)
        facts["init"] = self.init
        built = architecture(settings, len(self.data.table.classes))
        card = Card(built, self.data.table.classes, MEAN, STD, facts, self.alignment)
        save_model(path, model, card)
        return card

    def _finish(self) -> dict[str, Any]:
        """Evaluate once, write the model, the metrics and the pictures."""
        folder, settings = self.folder, self.config.settings
        processes.told(None)  # the best model is written by now
        part = settings.final if len(getattr(self.data.split, settings.final)) else "validation"
        rows = getattr(self.data.split, part)
        measured = len(rows) > 0
        found, scores = {}, {}
        networks = {"last": (self.state.averaged, self.state.step)}
        if folder.best.exists():
            best, card = load_model(folder.best)
            best = laid_out(best, settings).to(self.device)
            networks["best-on-validation"] = (best, card.facts["step"])
        for selection, (model, step) in networks.items():
            scores[selection] = self._scores(model, rows) if measured else None
            metrics = self._summary(scores[selection], rows)
            found[selection] = {"selection": selection, "part": part, "step": step, **metrics}
        chosen = settings.select
        result = {
            **found[chosen],
            **self._speed(),
            "device": hardware(self.device, self.autocast),
            "init": self.init,
            "others": [value for key, value in found.items() if key != chosen],
        }
        if self.first:
            result["warnings"] = [line for line in folder.lines() if "warning" in line]
            written = self._save_model(folder.model, *networks[chosen])
            write_card(folder.model, written, found[chosen])
            if folder.best.exists():
                write_card(folder.best, card, found["best-on-validation"])
            self._draw(result)
            write_json(folder.metrics, result)  # a folder with metrics is finished
            if settings.report:
                from leaf_fer import reports

                reports.write_at_end(
                    folder.path,
                    data=self.opened,
                    probabilities=scores[chosen],
                    device=self.device.type,
                )
        return result

    def _summary(
        self, scores: NDArray[np.float32] | None, rows: NDArray[np.int64]
    ) -> dict[str, Any]:
        """Metrics of class probabilities (N, C) of some images, if there are any."""
        table = self.data.table
        return {} if scores is None else summarize(scores, table.targets[rows], table.classes)

    def _speed(self) -> dict[str, float]:
        settings, seconds = self.config.settings, self.state.facts.get("seconds", math.nan)
        shown = settings.batch_size * (
            1 + settings.unlabeled_ratio * bool(self.state.algorithm.views.unlabeled)
        )
        return {"seconds": seconds, "images_per_second": shown * self.total / seconds}

    def _draw(self, result: Mapping[str, Any]) -> None:
        from leaf_fer.report import confusion_matrix, learning_curves

        folder, method = self.folder, self.config.settings.method
        if "confusion_matrix" in result:
            title = f"{method}, {result['part']} part, {result['selection']}"
            matrix = np.asarray(result["confusion_matrix"])
            confusion_matrix(matrix, self.data.table.classes, folder.path / "confusion.png", title)
        learning_curves({method: folder.lines()}, folder.path / "curves.png")

    def _explain(self, error: Diverged) -> Diverged:
        """Add the names of the images of the batch."""
        text, step = error.args
        rows = torch.cat(self.batches.rows(step)).tolist()
        names = [self.data.table.names[row] for row in rows]
        if self.first:
            about = {"step": step, "reason": text, "batch": names}
            write_json(self.folder.path / "diverged.json", about)
        return Diverged(
            f"{text}; the batch, listed in {self.folder.path / 'diverged.json'}: "
            f"{', '.join(names[:4])}, ...; try a smaller --lr or --precision float32",
            step,
        )


def _start(config: Config, folder: RunFolder) -> tuple[dict[str, str] | None, Start | None]:
    """What is known of the starting weights of a run, and they, unless there is a checkpoint.

    Raises:
        UserError: they cannot be read, or are not those that the run was started with.
    """
    started, file = folder.started, folder.path / INIT  # in this order: the first process writes
    known = json.loads(file.read_text()) if file.exists() else None
    if folder.checkpoint.exists():
        return known, None
    start = find_start(config.settings)
    facts = start.facts if start else None
    if started and known != facts:
        raise UserError(
            f"--init {config.settings.init}: holds other weights than when the run was started "
            f"(SHA-256 {known and known['sha256']})"
        )
    return facts, start


def hardware(device: torch.device, half: bool) -> str:
    """What a run computes on and in which precision, which may depend on it, in words."""
    name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{name}, {'bfloat16' if half else 'float32'}"


def lengths(config: Config, data: Data) -> tuple[int, int]:
    """Steps of the run and of an epoch, the same for every method on the same data."""
    settings = config.settings
    pool = len(data.split.unlabeled) or len(data.split.labeled)
    once = math.ceil(pool / (settings.batch_size * settings.unlabeled_ratio))
    if settings.steps is None:
        epoch = settings.epoch_steps or once
        return settings.epochs * epoch, epoch
    return settings.steps, settings.epoch_steps or max(1, settings.steps // 20)


def describe(data: Data, config: Config, total: int) -> str:
    """What a run has to work with, in one paragraph."""
    split, settings = data.split, config.settings
    text = (
        f"{settings.method} on {settings.data}: {len(split.labeled)} labeled, "
        f"{len(split.unlabeled)} unlabeled, {len(split.validation)} validation, "
        f"{len(split.test)} test images of {len(data.table.classes)} classes; {total} steps"
    )
    if (
        settings.labels
        and settings.labels.isdecimal()
        and int(settings.labels) != len(split.labeled)
    ):
        text += f"\nlabels: {settings.labels} asked for, {len(split.labeled)} drawn"
        text += " (the same number of every class)" if settings.balance == "equal" else ""
    if split.notes.get("duplicates"):
        dropped = "dropped" if split.notes["dropped"] else "kept"
        names = ", ".join(data.table.names[row] for row in split.duplicates[:3])
        text += (
            f"\n{split.notes['duplicates']} training images are also in the test or validation "
            f"part: {dropped} ({names}{', ...' if len(split.duplicates) > 3 else ''})"
        )
    return text
