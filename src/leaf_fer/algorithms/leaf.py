"""LEAF: the ambiguous consistency loss, on a network with expression-aware experts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import Algorithm
from leaf_fer.memory import Alignment, Average, ClassMargin
from leaf_fer.models import Classifier, together
from leaf_fer.ranges import Fraction, Natural, NonNegative, Positive, ProperFraction
from leaf_fer.types import Batch, Clock, Labeled, Objective, Output, Problem, Views


class LEAF(Algorithm):
    """LEAF (Zhang et al., 2024, arXiv:2404.15041), eqs. (1), (6)-(9), (14) and algorithm 1.

        L = mean CE(y, p(a(x))) + lambda * mean M log(1 + e^eps sum_P e^-z_i sum_N e^z_j)

        P = the fewest classes with probability T in all in q(a(u)), N = the others
        z = logits of the strong view A(u),  M = [max q(a(u)) >= threshold of its class]
        q = the moving average of the network, in evaluation mode

    The other two levels, EAF on features and on class scores, are slots of the classifier, which
    this method's recipe fills.

    Batch-norm: the view that makes the partition is a pass of its own without gradient; with
    ``partition_by=student`` in training mode, so it normalizes with its own statistics and moves
    the running ones. The labeled and the pulled view share a second pass.

    Deviations from the paper: M, because the bare objective collapses when few images are labeled
    (the lowest class is pushed down for everyone); q, where the paper has the network itself, whose
    dropout and small batches make partitions that teach less (docs/findings.md); the weak view
    makes the partition and the strong one is pulled, as in the released code, where the text has it
    the other way round; the loss takes logits, where the text may be read as probabilities.
    ``leaf_literal`` is the text to the letter, ``leaf_release`` the released code, ``leaf_plus``
    goes beyond both; all are this class.

    Args:
        weight: lambda >= 0; weight of the unlabeled term.
        supervised_weight: weight >= 0 of the labeled term.
        mass: T in [0, 1]; probability that the positive classes reach together. 0 makes it the
            cross-entropy with the hard pseudo-label.
        margin: eps >= 0, in logits; how far positive classes should be above negative ones.
        score: what the loss ranks: logits or probabilities.
        partition_view: the view that makes the partition; the other one is pulled.
        partition_by: the network that makes it: the student or its moving average (decay 0.999).
        partition_rule: mass (eq. 8), or fuzzy: the released code's, one class fewer, at most 3,
            with sample weights (see :func:`leaf_fer.functional.fuzzy_set`).
        mask: M; none: 1, fixed: [confidence >= threshold], adaptive: Ada-CM's threshold per class.
        threshold: in [0, 1]; of the fixed mask, and the floor of the adaptive ones.
        max_positives: >= 0; samples with more positive classes count as 0; 0 sets no limit.
        ramp: fraction in [0, 1] of the run over which lambda grows linearly from 0.
        align: make all classes equally frequent in the partition, on average.
        align_momentum: in [0, 1); of the running mean behind ``align``.
        rescale: give the unlabeled term the size of the cross-entropy with the hard pseudo-label
            times the share of M, as released; needs no gradient of either.
        contrast: weight >= 0 of NT-Xent between the two weak views of samples with M = 0.
        temperature: tau > 0 of NT-Xent.

    Raises:
        ValueError: ``contrast`` without two views of the student that make the partition.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "averaged weights, threshold per class"
    recipe: ClassVar[Mapping[str, object]] = {"eaf": "semantic,instance"}

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 1.0,
        supervised_weight: NonNegative = 1.0,
        mass: Fraction = 0.9,
        margin: NonNegative = 0.0,
        score: Literal["logits", "probabilities"] = "logits",
        partition_view: Literal["weak", "strong"] = "weak",
        partition_by: Literal["student", "average"] = "average",
        partition_rule: Literal["mass", "fuzzy"] = "mass",
        mask: Literal["none", "fixed", "adaptive"] = "adaptive",
        threshold: Fraction = 0.8,
        max_positives: Natural = 0,
        ramp: Fraction = 0.0,
        align: bool = False,
        align_momentum: ProperFraction = 0.99,
        rescale: bool = False,
        contrast: NonNegative = 0.0,
        temperature: Positive = 0.07,
    ) -> None:
        super().__init__(problem, model)
        guides = self.views.unlabeled.count(partition_view[0])
        if contrast and (guides < 2 or partition_by == "average"):
            raise ValueError(
                f"contrast={contrast:g} needs two views of the student that make the partition, as "
                "in leaf_release; expected 0 here"
            )
        self.weight = weight
        self.supervised_weight = supervised_weight
        self.mass = mass
        self.margin = margin
        self.score = score
        self.partition_view = partition_view
        self.partition_rule = partition_rule
        self.mask = mask
        self.max_positives = max_positives
        self.ramp = ramp
        self.rescale = rescale
        self.contrast = contrast
        self.temperature = temperature
        classes = problem.num_classes
        self.thresholds = ClassMargin(classes, floor=0.0 if mask == "none" else threshold)
        self.align = Alignment(torch.ones(classes) / classes, align_momentum) if align else None
        self.average = Average(model) if partition_by == "average" else None

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled and the unlabeled term of eq. (1), and the contrast if asked for."""
        x, u = batch.labeled, batch.unlabeled
        weak_guides = self.partition_view == "weak"
        guides, (pulled, *_) = (u.weak, u.strong) if weak_guides else (u.strong, u.weak)
        guide_model = model if self.average is None else self.average
        with torch.set_grad_enabled(self.contrast > 0):
            views: list[Output] = [guide_model(view) for view in guides]
        named = x.weak + x.strong if "s" in self.views.labeled else x.weak
        *known, pupil = together(model, *named, pulled)

        belief = torch.stack([view.detach().probabilities for view in views]).mean(0)
        belief = belief if self.align is None else self.align(belief)
        label, mask = self.thresholds.confident(belief)
        positive, trust = self.partition(belief, views)
        if self.max_positives:
            mask = mask * (positive.sum(dim=1) <= self.max_positives)

        scores = pupil.logits if self.score == "logits" else pupil.probabilities
        ranking = trust * fn.ambiguous_loss(scores, positive, self.margin)
        if self.rescale:
            size = fn.cross_entropy(pupil.logits, label) / ranking.mean().clamp_min(1e-12)
            category = size.detach() * ranking.mean() * mask.mean()
        else:
            category = (mask * ranking).mean()
        errors = [fn.cross_entropy(view.logits, x.target) for view in known]
        terms = {
            "supervised": self.supervised_weight * torch.stack(errors).mean(),
            "category": self.weight * clock.ramp(self.ramp) * category,
        }
        if self.contrast:
            first, second = (F.normalize(view.features.float(), dim=1) for view in views[:2])
            contrast = fn.nt_xent(first, second, 1 - mask, self.temperature)
            terms["contrast"] = self.contrast * contrast
        watch = {
            "mask": mask.mean(),
            "positives": positive.sum(dim=1).float().mean(),
            "shares": fn.shares(belief),
            "thresholds": self.thresholds.threshold,
        }
        return Objective(watch=watch, **terms)

    def partition(self, belief: Tensor, views: list[Output]) -> tuple[Tensor, Tensor]:
        """Return the positive classes, (B, C) bool, and the weight of every sample, (B,)."""
        if self.partition_rule == "mass":
            return fn.candidate_set(belief, self.mass), torch.ones_like(belief[:, 0])
        if self.align is None:
            logits = torch.stack([view.logits.detach().float() for view in views]).mean(0)
            belief = logits.softmax(dim=1)
        return fn.fuzzy_set(belief, self.mass)

    def after_step(self, model: nn.Module) -> None:
        """Move the network that makes the partition."""
        if self.average is not None:
            self.average.update(model)

    def after_epoch(self, model: nn.Module, labeled: Iterable[Labeled], clock: Clock) -> None:
        """Learn the thresholds of the adaptive mask from the labeled images."""
        if self.mask == "adaptive":
            self.thresholds.update(model, labeled, clock.epoch)


class LEAFLiteral(LEAF):
    """LEAF (Zhang et al., 2024, arXiv:2404.15041), the text to the letter.

        L = mean CE(y, p(a(x))) + mean log(1 + sum_P e^-z_i sum_N e^z_j)

        P = the fewest classes with probability T in all in p(A(u)), N = the others
        z = logits of the weak view a(u)

    The strong view makes the partition, the weak one is pulled, and all samples count. With few
    labels this collapses (see :class:`LEAF`); it is here so that the text can be measured.

    Args:
        partition_view: the view that makes the partition; the other one is pulled.
        partition_by: the network that makes it: the student or its moving average (decay 0.999).
        mask: which samples count.
        options: see :class:`LEAF`.
    """

    state = "threshold per class"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        partition_view: Literal["weak", "strong"] = "strong",
        partition_by: Literal["student", "average"] = "student",
        mask: Literal["none", "fixed", "adaptive"] = "none",
        **options: Any,
    ) -> None:
        super().__init__(
            problem,
            model,
            partition_view=partition_view,
            partition_by=partition_by,
            mask=mask,
            **options,
        )


class LEAFRelease(LEAF):
    """LEAF (Zhang et al., 2024, arXiv:2404.15041), as released: Ada-CM with the ambiguous loss.

        L = 0.5 CE(y, p(a(x))) + R mean(w L14) mean(M) + 0.1 NT-Xent(f(a1(u)), f(a2(u)); M = 0)

        R = mean CE(argmax p, z) / mean(w L14), a number without gradient
        p = mean of the two weak views' probabilities, z = logits of the strong view
        P = classes of softmax(mean weak logits) before 0.9 is reached, 1 to 3 of them

    The network of the release: dropout 0.5, then an EAF, L2-normalized features, a second EAF, a
    linear head; in each EAF one residual expert stands in all 8 places and a noisy gate keeps one
    place. Adam with decoupled decay 0.02 lr, as in Ada-CM.

    Deviations from the release: the epoch is not chosen on the test set; labeled and strong view
    share one pass, each weak view has its own; thresholds are learned from all labeled images, not
    from full batches of them; batch-norm statistics do not decay; the averaged weights are warmed
    up (see :class:`~leaf_fer.memory.Average`); its learning rate of 5e-4 per 16 images and its
    1,600 steps an epoch are the user's to set.

    Args:
        supervised_weight: weight >= 0 of the labeled term.
        partition_by: see :class:`LEAF`.
        partition_rule: see :class:`LEAF`.
        rescale: see :class:`LEAF`.
        contrast: weight >= 0 of the contrastive term.
        options: see :class:`LEAF`.
    """

    views = Views(labeled="w", unlabeled="wws")
    passes = (1, 0, 3)
    state = "threshold per class"
    recipe: ClassVar[Mapping[str, object]] = {
        "eaf": "semantic,instance",
        "num_experts": 8,
        "top_k": 1,
        "gate": "noisy",
        "shared_expert": True,
        "combine": "log",
        "instance_level": "feature",
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
        partition_by: Literal["student", "average"] = "student",
        partition_rule: Literal["mass", "fuzzy"] = "fuzzy",
        rescale: bool = True,
        contrast: NonNegative = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(
            problem,
            model,
            supervised_weight=supervised_weight,
            partition_by=partition_by,
            partition_rule=partition_rule,
            rescale=rescale,
            contrast=contrast,
            **options,
        )
