"""The contract of a semi-supervised method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import nn

from leaf_fer.types import Batch, Clock, Labeled, Objective, Problem, Views


class Algorithm(nn.Module):
    """A semi-supervised method: it says what it wants to see and returns its loss.

    What only training needs (extra heads, teachers, queues, thresholds) lives here, in parameters
    and buffers, so that it moves to a device and into a checkpoint by itself. What ships lives in
    the model. Options are keyword-only parameters of the constructor.

    Attributes:
        views: the augmented copies of the images that :meth:`loss` reads.
        recipe: settings of the model and the optimizer that belong to the method's own recipe; a
            user's choice wins over them.
    """

    views: ClassVar[Views] = Views()
    recipe: ClassVar[Mapping[str, object]] = {}

    def __init__(self, problem: Problem, model: nn.Module) -> None:
        """Remember the class count. ``model`` is for reading shapes or copying; never stored."""
        super().__init__()
        self.num_classes = problem.num_classes

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the terms of this step's loss.

        Args:
            batch: the views declared in :attr:`views`, and nothing else.
            model: images (B, 3, H, W) -> :class:`~leaf_fer.types.Output`, in training mode.
            clock: the time of the run.
        """
        raise NotImplementedError

    def after_step(self, model: nn.Module) -> None:
        """Called after the optimizer moved ``model``; for teachers and banks."""

    def after_epoch(self, model: nn.Module, labeled: Iterable[Labeled], clock: Clock) -> None:
        """Called at the end of every epoch, without gradient.

        Args:
            model: the averaged (EMA) weights in evaluation mode.
            labeled: one lazy pass over the labeled images in weak views; reading it costs a
                forward pass only if the method runs one.
            clock: the time; ``clock.epoch`` counts the epochs completed, this one included.
        """
