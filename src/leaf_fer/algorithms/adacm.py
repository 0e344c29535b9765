"""Ada-CM: confident images are labeled, the others are contrasted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import ClassMargin
from leaf_fer.models import Classifier, together
from leaf_fer.ranges import Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Labeled, Objective, Output, Problem, Views


class AdaCM(PseudoLabeling):
    """Ada-CM (Li et al., 2022, arXiv:2203.12341), eqs. (1)-(8).

        L = l_x CE(y, p(a(x))) + lambda M CE(c, p(A(u))) + l_c NT-Xent(f(a1(u)), f(a2(u)); M = 0)

        q = (p(a1(u)) + p(a2(u))) / 2,    c = argmax q,    M = [max q >= T_c]

    T_c is learned after every epoch from the labeled images of class c that the averaged network
    classifies correctly (see :class:`~leaf_fer.memory.ClassMargin`).

    The network of the paper's code: dropout 0.5, L2-normalized features, a linear head; Adam with
    decoupled decay 0.02 lr.

    Batch-norm: both weak views are passes of their own, with gradient for the contrast; labeled and
    strong view share a third one.

    Deviations from the paper's code: the epoch is not chosen on the test set; thresholds are
    learned from all labeled images, not from full batches of them; batch-norm statistics do not
    decay; images are RGB where the code reads BGR.

    Args:
        supervised_weight: l_x >= 0; weight of the labeled term.
        contrast: l_c >= 0; weight of NT-Xent; 0 also saves the backward passes of the weak views.
        temperature: tau > 0 of NT-Xent.
        floor: in [0, 1], the lowest threshold and the first.
    """

    views = Views(labeled="w", unlabeled="wws")
    passes = (1, 0, 3)
    state = "threshold per class"
    recipe: ClassVar[Mapping[str, object]] = {
        "normalize_features": True,
        "dropout": 0.5,
        "weight_decay": 0.02,
    }

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        supervised_weight: NonNegative = 0.5,
        contrast: NonNegative = 0.1,
        temperature: Positive = 0.07,
        floor: Fraction = 0.8,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.supervised_weight = supervised_weight
        self.contrast = contrast
        self.temperature = temperature
        self.thresholds = ClassMargin(problem.num_classes, floor=floor)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term, the one of the pseudo-labels and the contrast."""
        x, u = batch.labeled, batch.unlabeled
        with torch.set_grad_enabled(self.contrast > 0):
            weak: list[Output] = [model(view) for view in u.weak]
        known, strong = together(model, x.weak[0], u.strong[0])
        q = torch.stack([view.detach().probabilities for view in weak]).mean(dim=0)
        label, mask = self.thresholds.confident(q)
        terms = self.teach(strong.logits, label, mask, q)
        if self.contrast:
            first, second = (F.normalize(view.features.float(), dim=1) for view in weak)
            contrast = fn.nt_xent(first, second, 1 - mask, self.temperature)
            terms["contrast"] = self.contrast * contrast
        return Objective(
            supervised=self.supervised_weight * fn.cross_entropy(known.logits, x.target),
            **terms,
            watch={
                "mask": mask.mean(),
                "shares": fn.shares(q),
                "thresholds": self.thresholds.threshold,
            },
        )

    def after_epoch(self, model: nn.Module, labeled: Iterable[Labeled], clock: Clock) -> None:
        """Learn the thresholds from the labeled images."""
        self.thresholds.update(model, labeled, clock.epoch)
