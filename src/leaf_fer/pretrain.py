"""Self-supervised training of an encoder on faces, from a configuration to starting weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from leaf_fer.build import Data
from leaf_fer.config import Config, configure_pretraining, pretraining_options
from leaf_fer.engine.hooks import Validate
from leaf_fer.errors import UserError
from leaf_fer.files import write_json
from leaf_fer.models import save_start
from leaf_fer.pretraining import PRETRAINING
from leaf_fer.run import Run, hardware
from leaf_fer.training import execute
from leaf_fer.types import MEAN, STD
from leaf_fer.version import __version__


def pretrain(data: str | Path, *, out: str | Path, **options: Any) -> dict[str, Any]:
    """Train an encoder without labels: ``leaf pretrain`` for Python.

    Args:
        data: as on the command line; labels are not read.
        out: the run folder; ``train`` takes it as ``init``.
        options: any option of ``leaf pretrain`` with underscores: method, backbone, steps, ...

    Returns:
        What ``metrics.json`` holds.

    Raises:
        UserError: an option or the data is not usable, or the folder holds another run.
    """
    config = configure_pretraining({"data": str(data), **options})
    return execute(config, Path(out), kind=Pretraining)


class Pretraining(Run):
    """A run whose images have no labels, and whose result is an encoder.

    All training images take part, labeled or not, but for those that are also in the validation
    or the test part. They are what the engine calls labeled, all of one class that no method reads.
    """

    methods = PRETRAINING

    @staticmethod
    def configured(values: Mapping[str, Any]) -> Config:
        """The configuration that a run folder holds, which has settings of ``leaf train`` too."""
        names = {option.name for option in pretraining_options(str(values["method"]))}
        return configure_pretraining({k: v for k, v in values.items() if k in names})

    def used(self, data: Data) -> Data:
        """The data set with all of its training images, and nothing to measure on."""
        split = data.split
        pool = np.union1d(split.labeled, split.unlabeled)
        size = self.config.settings.batch_size
        if len(pool) < size:
            raise UserError(
                f"--batch-size {size}: expected at most the {len(pool)} images there are"
            )
        none = pool[:0]
        split = replace(
            split,
            labeled=pool,
            targets=np.zeros_like(pool),
            unlabeled=none,
            validation=none,
            test=none,
        )
        classes = (*data.table.classes, "face", "other")[: max(2, len(data.table.classes))]
        return Data(replace(data.table, classes=classes), data.store, split)

    def described(self) -> str:
        """What the run has to work with."""
        settings, count = self.config.settings, len(self.data.split.labeled)
        name = f"{settings.method} on {settings.data}"
        return f"{name}: {count} images, without labels; {self.total} steps"

    def _validate(self) -> Validate | None:
        return None

    def _finish(self) -> dict[str, Any]:
        """Write the encoder, the curve and what is known of the run."""
        folder, settings = self.folder, self.config.settings
        last: dict[str, Any] = next(
            (line for line in reversed(folder.lines()) if "loss" in line), {}
        )
        result = {
            "selection": "last",
            "step": self.state.step,
            "loss": last.get("loss"),
            **self._speed(),
            "device": hardware(self.device, self.autocast),
            "init": self.init,
        }
        if self.first:
            encoder = self.state.averaged.backbone
            began = self.init["origin"] if self.init else "random weights"
            count = len(self.data.split.labeled)
            origin = (
                f"{settings.method} on {count} unlabeled images, {self.state.step} steps "
                f"of {settings.batch_size}, from {began}; leaf-fer {__version__}"
            )
            # Weights that began from others are under their license.
            terms = (self.init or {}).get("license", "")
            save_start(
                folder.path,
                encoder,
                settings.backbone,
                origin=origin,
                license=terms,
                mean=MEAN,
                std=STD,
            )
            self._draw(result)
            write_json(folder.metrics, result)
        return result
