"""A network that learns to see in small images what it sees in large ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from leaf_fer.algorithm import Algorithm
from leaf_fer.memory import Average
from leaf_fer.models import Classifier
from leaf_fer.ranges import Count
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class Distill(Algorithm):
    """Distillation of a network into itself, from large images to small ones.

        L = mean_bd (f(x) - t(up(x)))^2 / mean_d var_b t(up(x))

    f is the network and x a weak view in the run's size; t is the network as the run began, in
    evaluation mode, and up resizes to ``teacher_size``. A network of large faces sees less in small
    ones, since its filters expect an eye of a certain size; this it can learn again without
    labels, and then training and predicting cost what small images cost.

    Our own, for FERPlus' faces of 48 pixels and networks trained at 224; a large network that
    teaches a small one by its features is FitNets (Romero et al., 2015, arXiv:1412.6550).
    From random weights there is nothing to teach: give ``--init``.

    Args:
        teacher_size: side in pixels of the images that the teacher sees.
    """

    views = Views(labeled="w")
    state = "teacher"

    def __init__(self, problem: Problem, model: Classifier, *, teacher_size: Count = 176) -> None:
        super().__init__(problem, model)
        self.teacher_size = teacher_size
        self.teacher = Average(model)  # which nothing moves

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the squared distance of the features; 2 is that of two images at random."""
        (images,) = batch.labeled.weak
        with torch.no_grad():
            large = F.interpolate(images, size=self.teacher_size, mode="bilinear")
            wanted = self.teacher(large).features.float()
        features = model(images).features.float()
        spread = wanted.var(dim=0).mean().clamp_min(1e-12)
        return Objective(distance=F.mse_loss(features, wanted) / spread)
