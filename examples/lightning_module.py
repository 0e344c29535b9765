"""A method of leaf_fer in PyTorch Lightning's loop: `python examples/lightning_module.py`.

`leaf train` has a loop of its own. Where your project already has Lightning's, this module keeps
the contract of `leaf_fer.algorithm.Algorithm` in it. Faces are drawn, so there is nothing to
download; needs the package pytorch-lightning.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from leaf_fer.algorithms import ALGORITHMS, Algorithm
from leaf_fer.build import architecture
from leaf_fer.config import configure
from leaf_fer.data import synthetic
from leaf_fer.data.augment import normalize
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.data.views import Batches, Images
from leaf_fer.engine.loop import balance
from leaf_fer.memory import Average
from leaf_fer.models import Classifier, build_classifier
from leaf_fer.types import MEAN, STD, Clock, Problem

SIZE, LABELED, UNLABELED, TEST, TEST_BATCH = 32, 400, 1200, 800, 200


class FaceModule(pl.LightningModule):
    """Trains a classifier by any method, and evaluates the moving average of its weights.

    Network, method and average are submodules: devices and checkpoints need no code. One batch is
    one optimizer step (`accumulate_grad_batches=1`).

    Args:
        model: the network to train.
        algorithm: the method.
        batches: makes batch k, in the views that the method declares.
        total_steps: of the whole run.
        epoch_steps: of an epoch.
        lr: learning rate.
        weight_decay: decay of the weights per step, times the learning rate.
    """

    def __init__(
        self,
        model: Classifier,
        algorithm: Algorithm,
        batches: Batches,
        *,
        total_steps: int,
        epoch_steps: int,
        lr: float,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.algorithm = algorithm
        self.average = Average(model)
        self.batches = batches
        self.total_steps = total_steps
        self.epoch_steps = epoch_steps
        self.lr = lr
        self.weight_decay = weight_decay

    @property
    def clock(self) -> Clock:
        """The time of the run, from the optimizer steps that Lightning counts and saves."""
        return Clock(self.global_step, self.total_steps, self.epoch_steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train the network, and what the method has of its own, such as a projection head."""
        both = [*self.model.parameters(), *self.algorithm.parameters()]
        trained = [parameter for parameter in both if parameter.requires_grad]
        return torch.optim.AdamW(trained, self.lr, weight_decay=self.weight_decay)

    def train_dataloader(self) -> range:
        """Nothing but numbers: a batch is made on the device, from the step alone."""
        return range(self.epoch_steps)

    def training_step(self, *_: int) -> Tensor:
        """Return the loss of a step, with the load-balancing loss of EAF if it has one."""
        batch = self.batches.at(self.global_step)
        objective = self.algorithm.loss(batch, self.model, self.clock)
        self.terms = {name: term.detach() for name, term in objective.terms.items()}
        return objective.total + balance(self.model)

    def on_train_batch_end(self, *_: object) -> None:
        """Move what follows the weights, after the optimizer."""
        self.average.update(self.model)
        self.algorithm.after_step(self.model)

    def on_train_epoch_end(self) -> None:
        """Let the method look at the labeled images, and say how it goes."""
        with torch.no_grad():
            labeled = self.batches.labeled_pass(self.clock.epoch)
            self.algorithm.after_epoch(self.average.model, labeled, self.clock)
        terms = "  ".join(f"{name} {value:.4f}" for name, value in self.terms.items())
        print(f"step {self.global_step}  {terms}  accuracy {self.accuracy:.1%}")

    def val_dataloader(self) -> range:
        """The first row of every batch of test faces."""
        return range(LABELED + UNLABELED, len(self.batches.images), TEST_BATCH)

    def validation_step(self, first: int, _: int) -> None:
        """Measure the averaged network."""
        rows = torch.arange(first, first + TEST_BATCH)
        images = normalize(self.batches.images.fetch(rows), MEAN, STD)
        answer = self.average(images).logits.argmax(dim=1).cpu()
        truth = torch.from_numpy(synthetic.labels(0, rows))
        self.log("accuracy", (answer == truth).float().mean(), batch_size=TEST_BATCH)

    @property
    def accuracy(self) -> float:
        """Of the averaged network, as measured last."""
        return float(self.trainer.callback_metrics["accuracy"])


def build(method: str, epochs: int, epoch_steps: int, device: torch.device) -> FaceModule:
    """Make a module for drawn faces, with the settings that belong to the method's recipe."""
    rows = np.arange(LABELED + UNLABELED + TEST)
    targets = synthetic.labels(0, rows[:LABELED])
    prior = torch.bincount(torch.from_numpy(targets), minlength=len(EXPRESSIONS)) / LABELED
    problem = Problem(len(EXPRESSIONS), LABELED, UNLABELED, prior)

    config = configure({"method": method, "image_size": SIZE, "backbone": "conv4", "lr": 1e-3})
    settings = config.settings
    model = build_classifier(architecture(settings, problem.num_classes)).to(device)
    algorithm = ALGORITHMS[method](problem, model, **config.options)
    batches = Batches(
        Images(synthetic.render(0, rows, SIZE), device),
        labeled=rows[:LABELED],
        targets=targets,
        unlabeled=rows[LABELED : LABELED + UNLABELED],
        views=algorithm.views,
        batch_size=32,
    )
    return FaceModule(
        model,
        algorithm,
        batches,
        total_steps=epochs * epoch_steps,
        epoch_steps=epoch_steps,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
    )


def main(method: str, epochs: int, epoch_steps: int, checkpoint: Path | None) -> None:
    """Train from the checkpoint if there is one, and save to it."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # Lightning 2.6 in new torch
    warnings.filterwarnings("ignore", ".*in eval mode.*")  # the average is, and is to be
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = build(method, epochs, epoch_steps, device)
    trainer = pl.Trainer(
        accelerator=device.type,
        devices=1,
        max_epochs=epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(module, verbose=False)
    before = module.accuracy
    saved = checkpoint if checkpoint and checkpoint.exists() else None
    trainer.fit(module, ckpt_path=saved)
    if checkpoint:
        trainer.save_checkpoint(checkpoint)
    print(f"{method}: accuracy before {before:.1%}, after {module.accuracy:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=ALGORITHMS, default="leaf")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--epoch-steps", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path, help="file to go on from, and to save to")
    main(**vars(parser.parse_args()))
