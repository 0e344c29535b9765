"""From a row of indices to the views of a batch, on the step's device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leaf_fer.data.augment import normalize, strong, weak
from leaf_fer.data.mapped import Reader
from leaf_fer.data.stream import Stream, generator
from leaf_fer.processes import mine
from leaf_fer.types import MEAN, STD, Batch, Labeled, Unlabeled, Views


class Images:
    """Decoded images, fetched by row to a device.

    Args:
        pixels: (N, S, S, 3) uint8, usually mapped from a file.
        device: where batches are wanted.
        resident_bytes: sets up to this size are copied to an accelerator once, if they take no more
            than half of its free memory.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], device: torch.device, resident_bytes: int = 16 << 30
    ) -> None:
        self.pixels = pixels
        self.device = device
        fits = device.type != "cpu" and pixels.nbytes <= min(resident_bytes, _free(device) // 2)
        self.resident = _sent(pixels, device) if fits else None
        self._reader = Reader(pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, rows: Tensor) -> Tensor:
        """Rows (B,) int64 in host memory -> (B, 3, S, S) uint8 on the device, channels last."""
        if self.resident is not None:
            return self.resident[self.send(rows)].permute(0, 3, 1, 2)
        batch = torch.from_numpy(self._reader.take(rows.numpy()))
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return self.send(batch).permute(0, 3, 1, 2)

    def send(self, values: Tensor) -> Tensor:
        """Values from host memory on the device, without waiting for it."""
        return values.to(self.device, non_blocking=True)


def _free(device: torch.device) -> int:
    """Bytes of an accelerator that nobody uses."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return sys.maxsize
    free, _ = torch.cuda.mem_get_info(device)
    return free


def _sent(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A copy on a device, made in pieces: the set may be larger than the host's memory."""
    copy = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    rows = max(1, (64 << 20) // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), rows):
        piece = torch.from_numpy(np.array(pixels[start : start + rows]))
        copy[start : start + rows] = piece.to(device, non_blocking=True)
    return copy


class Batches:
    """The batches of a run: batch k depends on (seed, k) alone.

    Several processes have the same batches, but each makes the views of its own rows only (see
    :mod:`leaf_fer.processes`).

    Args:
        images: all images of the data set.
        labeled: rows of the labeled images.
        targets: their classes.
        unlabeled: rows of the unlabeled images; may be empty if no view of them is asked for.
        views: the views that the method declares.
        batch_size: labeled images per step.
        unlabeled_ratio: unlabeled images per labeled one.
        seed: seed of order and augmentation.
        prefetch: whether a thread reads the images of the next step in advance.
        channels_last: memory layout of the views.
        own_rows_only: whether rows of other processes are left zero.

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
        prefetch: bool = False,
        channels_last: bool = True,
        own_rows_only: bool = True,
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
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._own = mine() if own_rows_only else slice(None)
        self._labeled = Stream(len(labeled), batch_size, seed, "labeled")
        self._unlabeled = (
            Stream(len(unlabeled), batch_size * unlabeled_ratio, seed, "unlabeled")
            if views.unlabeled
            else None
        )
        # What is on the device has nothing to wait for.
        threaded = prefetch and images.resident is None
        self._reader = ThreadPoolExecutor(1, "leaf-reader") if threaded else None
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    def rows(self, step: int) -> tuple[Tensor, Tensor]:
        """Rows of the data set that step ``step`` sees: labeled (B_l,), unlabeled (B_u,)."""
        unlabeled = self._unlabeled.rows(step) if self._unlabeled else self.unlabeled[:0]
        return self.labeled[self._labeled.rows(step)], self.unlabeled[unlabeled]

    def at(self, step: int) -> Batch:
        """The batch of step ``step`` >= 0."""
        send = self.images.send
        labeled, unlabeled = self._pixels(step)
        index = self._labeled.rows(step)
        views = self._look(labeled, len(index), self.views.labeled, step, "labeled")
        x = Labeled(send(index), send(self.targets[index]), *views)
        if self._unlabeled is None:
            return Batch(x, Unlabeled(send(index[:0])))
        index = self._unlabeled.rows(step)
        views = self._look(unlabeled, len(index), self.views.unlabeled, step, "unlabeled")
        return Batch(x, Unlabeled(send(index), *views))

    def labeled_pass(self, turn: int) -> Iterator[Labeled]:
        """One lazy pass over the labeled images in their order, each in one weak view.

        Args:
            turn: number of the pass; draws its augmentation.
        """
        send = self.images.send
        index = torch.arange(len(self.labeled))
        for number, part in enumerate(torch.split(index, 4 * self.batch_size)):
            pixels = self.images.fetch(self.labeled[part])
            draw = generator(self.seed, f"pass {turn}", 0, number)
            view = normalize(weak(pixels, draw), MEAN, STD)
            yield Labeled(send(part), send(self.targets[part]), (view,))

    def _pixels(self, step: int) -> tuple[Tensor, Tensor]:
        """The images of a step that this process looks at; those of the next are on their way."""
        ready = self._next
        found = ready[1].result() if ready and ready[0] == step else self._read(step)
        if self._reader is not None:
            self._next = (step + 1, self._reader.submit(self._read, step + 1))
        return found

    def _read(self, step: int) -> tuple[Tensor, Tensor]:
        labeled, unlabeled = self.rows(step)
        return self.images.fetch(labeled[self._own]), self.images.fetch(unlabeled[self._own])

    def _look(
        self, pixels: Tensor, count: int, letters: str, step: int, name: str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Weak and strong views of a batch of ``count`` images, each with numbers of its own."""
        kinds = {"w": weak, "s": strong}
        views = []
        for place, letter in enumerate(letters):
            draw = generator(self.seed, name, place, step)
            view = kinds[letter](pixels, draw, count=count, rows=self._own)
            views.append(self._whole(normalize(view, MEAN, STD), count))
        weak_views = letters.count("w")
        return tuple(views[:weak_views]), tuple(views[weak_views:])

    def _whole(self, view: Tensor, count: int) -> Tensor:
        """A view of the whole batch, zero in the rows that this process does not have."""
        if len(view) < count:
            batch = torch.zeros((count, *view.shape[1:]), dtype=view.dtype, device=view.device)
            batch = batch.to(memory_format=torch.channels_last)
            batch[self._own] = view
            view = batch
        return view.contiguous(memory_format=self._layout)
