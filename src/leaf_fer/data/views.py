"""From a row of indices to the views of a batch, on the step's device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leaf_fer.data.augment import normalize, strong, weak
from leaf_fer.data.stream import Stream, generator
from leaf_fer.types import Batch, Labeled, Unlabeled, Views

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Images:
    """Decoded images, fetched by row to a device.

    Args:
        pixels: (N, S, S, 3) uint8, usually mapped from a file.
        device: where batches are wanted.
        resident_bytes: sets up to this size are copied to an accelerator once.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], device: torch.device, resident_bytes: int = 16 << 30
    ) -> None:
        self.pixels = pixels
        self.device = device
        resident = device.type != "cpu" and pixels.nbytes <= resident_bytes
        self.resident = torch.from_numpy(np.array(pixels)).to(device) if resident else None

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, rows: Tensor) -> Tensor:
        """Rows (B,) int64 in host memory -> (B, 3, S, S) uint8 on the device, channels last."""
        if self.resident is not None:
            return self.resident[rows.to(self.device, non_blocking=True)].permute(0, 3, 1, 2)
        batch = torch.from_numpy(self.pixels[rows.numpy()])
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


class Batches:
    """The batches of a run: batch k depends on (seed, k) alone.

    Args:
        images: all images of the data set.
        labeled: rows of the labeled images.
        targets: their classes.
        unlabeled: rows of the unlabeled images; may be empty if no view of them is asked for.
        views: the views that the method declares.
        batch_size: labeled images per step.
        unlabeled_ratio: unlabeled images per labeled one.
        seed: seed of order and augmentation.

    Raises:
        ValueError: views of unlabeled images are asked for, and there are none.
    """

    def __init__(
        self,
        images: Images,
        labeled: NDArray[np.int64],
        targets: NDArray[np.int64],
        unlabeled: NDArray[np.int64],
        views: Views,
        *,
        batch_size: int,
        unlabeled_ratio: int = 1,
        seed: int = 0,
    ) -> None:
        if views.unlabeled and not len(unlabeled):
            raise ValueError("the method needs unlabeled images, and there are none")
        self.images = images
        self.labeled = torch.from_numpy(labeled)
        self.targets = torch.from_numpy(targets)
        self.unlabeled = torch.from_numpy(unlabeled)
        self.views = views
        self.seed = seed
        self.batch_size = batch_size
        self._labeled = Stream(len(labeled), batch_size, seed, "labeled")
        self._unlabeled = (
            Stream(len(unlabeled), batch_size * unlabeled_ratio, seed, "unlabeled")
            if views.unlabeled
            else None
        )

    def rows(self, step: int) -> tuple[Tensor, Tensor]:
        """Rows of the data set that step ``step`` sees: labeled (B_l,), unlabeled (B_u,)."""
        unlabeled = self._unlabeled.rows(step) if self._unlabeled else self.unlabeled[:0]
        return self.labeled[self._labeled.rows(step)], self.unlabeled[unlabeled]

    def at(self, step: int) -> Batch:
        """The batch of step ``step`` >= 0."""
        device = self.images.device
        index = self._labeled.rows(step)
        weak_l, strong_l = self._look(self.labeled[index], self.views.labeled, step, "labeled")
        x = Labeled(index.to(device), self.targets[index].to(device), weak_l, strong_l)
        if self._unlabeled is None:
            return Batch(x, Unlabeled(index[:0].to(device)))
        index = self._unlabeled.rows(step)
        weak_u, strong_u = self._look(
            self.unlabeled[index], self.views.unlabeled, step, "unlabeled"
        )
        return Batch(x, Unlabeled(index.to(device), weak_u, strong_u))

    def labeled_pass(self, turn: int) -> Iterator[Labeled]:
        """One lazy pass over the labeled images in their order, each in one weak view.

        Args:
            turn: number of the pass; draws its augmentation.
        """
        device = self.images.device
        index = torch.arange(len(self.labeled))
        for number, part in enumerate(torch.split(index, 4 * self.batch_size)):
            views, _ = self._look(self.labeled[part], "w", number, f"pass {turn}")
            yield Labeled(part.to(device), self.targets[part].to(device), views)

    def _look(
        self, rows: Tensor, letters: str, step: int, name: str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Weak and strong views of some rows, each with random numbers of its own."""
        pixels = self.images.fetch(rows)
        kinds = {"w": weak, "s": strong}
        views = [
            normalize(kinds[letter](pixels, generator(self.seed, name, place, step)), MEAN, STD)
            for place, letter in enumerate(letters)
        ]
        count = letters.count("w")
        return tuple(views[:count]), tuple(views[count:])
