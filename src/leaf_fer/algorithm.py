"""The contract of a semi-supervised method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.models import Classifier
from leaf_fer.ranges import Fraction, NonNegative
from leaf_fer.types import Batch, Clock, Labeled, Objective, Problem, Views


class Algorithm(nn.Module):
    """A semi-supervised method: it says what it wants to see and returns its loss.

    What only training needs (extra heads, teachers, queues, thresholds) lives here, in parameters
    and buffers, so that it moves to a device and into a checkpoint by itself. What ships lives in
    the model. Options are keyword-only parameters of the constructor.

    Attributes:
        views: the augmented copies of the images that :meth:`loss` reads; an option may change
            them for an instance.
        passes: what a step costs with default options, in passes of the network: with backward per
            labeled image, without backward per unlabeled image, with backward per unlabeled image.
        state: what is remembered from step to step, in words; empty if nothing is.
        mixes: whether :meth:`loss` combines images of different rows. If not, processes that train
            together make only the images of their own rows, and all others are zero.
        recipe: settings of the model and the optimizer that belong to the method's own recipe; a
            user's choice wins over them.
    """

    views: Views = Views()
    passes: ClassVar[tuple[int, int, int]] = (1, 0, 0)
    state: ClassVar[str] = ""
    mixes: ClassVar[bool] = False
    recipe: ClassVar[Mapping[str, object]] = {}

    def __init__(self, problem: Problem, model: Classifier) -> None:
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


class PseudoLabeling(Algorithm):
    """A method that teaches pseudo-labels by a weighted cross-entropy.

        pseudo = lambda * mean_b mask_b CE(label_b, z_b)

    ``category`` puts the category level of LEAF (arXiv:2404.15041, eq. (14)) in place of this term,
    or beside it, under the method's own mask and weight (Fig. 7 of that paper):

        category = lambda * mean_b mask_b log(1 + sum_{i in P_b} e^-z_bi sum_{j not in P_b} e^z_bj)

    with P_b the fewest classes that reach ``mass`` in the prediction that the label was made from.
    Where the mask asks for a confidence of ``mass`` or more, as FixMatch's 0.95 does, P_b is one
    class and both losses are the same: raise ``mass``, or lower the method's threshold.

    Args:
        weight: lambda >= 0; weight of the term that teaches pseudo-labels.
        category: LEAF's ambiguous loss: none, in place of the cross-entropy with pseudo-labels, or
            added to it.
        mass: T in [0, 1] of the ambiguous loss; probability that the positive classes reach
            together. Only above the method's own threshold can there be more than one.
    """

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 1.0,
        category: Literal["none", "replace", "add"] = "none",
        mass: Fraction = 0.9,
    ) -> None:
        super().__init__(problem, model)
        self.weight = weight
        self.category = category
        self.mass = mass

    def teach(
        self, logits: Tensor, label: Tensor, mask: Tensor, belief: Tensor, scale: float = 1.0
    ) -> dict[str, Tensor]:
        """Return the weighted unlabeled terms by name: ``pseudo``, ``category``, or both.

        Args:
            logits: (B, C) of the view that learns.
            label: (B,) int64 classes or (B, C) distributions, without gradient.
            mask: (B,) weights in [0, 1], without gradient.
            belief: (B, C) probabilities without gradient that the label was made from.
            scale: factor of lambda, for ramps.
        """
        weight = scale * self.weight
        terms = {}
        if self.category != "replace":
            terms["pseudo"] = weight * fn.masked_cross_entropy(logits, label, mask)
        if self.category != "none":
            positive = fn.candidate_set(belief, self.mass)
            terms["category"] = weight * fn.ambiguous_consistency(logits, positive, mask=mask)
        return terms
