"""LION: doubtful labels are revised, doubtful images teach which classes they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.models import Classifier, together
from leaf_fer.ranges import Fraction, NonNegative, Positive
from leaf_fer.types import Batch, Clock, Labeled, Objective, Problem, Views

SURE, CERTAIN = 0.985, 0.996
"""Weights of a class from which a labeled image has that class alone, and gets it as its label."""


class LION(PseudoLabeling):
    """LION (Du et al., 2023, IJCAI pp. 699-707), as its authors released it, with its slips mended.

        L = l_x CE(y, z_x) + l_p CE(W, z_x) + lambda [max p >= T] CE(argmax p, z_s)
            + w mean -sum_k C_k log(1 - p_k) + w / 6.5 mean BCE(max sigmoid(z_s) - sigmoid(z_s), C)

        T = T_0 + r e / E,    w = w_0 max(0, 1 - e / (E e_w)),    e = 1, ..., E the epoch

    p = p(a(u)), z_x and z_s the logits of a(x) and A(u). The terms:

    * Every unlabeled image of low confidence collects classes C that it is not: at each visit the
      least probable class not yet in C, if its probability is at most 0.01 and at least two classes
      stay. w and w / 6.5 weigh what is learned from them; they end at the share e_w of the run.
    * From the share ``relabel`` of the run on, a labeled image is ambiguous if another class is
      more probable than its label by 0.5. Its class weights W are then those of the two classes:
      first their probabilities, later moved by 0.01 a visit towards softmax(f . mu_k / 0.1) over
      the classes with W > 0. A weight of 0.985 takes all, and one of 0.996 becomes the label y; an
      image that is first doubted after the epoch of relabeling keeps its label alone. The first
      term is over images with one class, the second over the others.
    * Prototypes mu follow the features f of labeled images that are classified correctly (later:
      not ambiguous) and of confident unlabeled ones, by 0.01 an image; in the first epoch, and for
      labeled images again in the epoch of relabeling, they are plain means.

    The network of the release: dropout 0.5, L2-normalized features, a linear head; Adam with
    decoupled decay 0.02 lr.

    Batch-norm: the weak view is a pass of its own, with gradient while w > 0; labeled and strong
    view share a second pass.

    Deviations from the release: C and z_s are looked up by image, not by a mask taken for an index;
    classes without weight are left out of the softmax; the right row is normalized at relabeling;
    any class can be relabeled; prototypes carry no gradient; images of a class in a batch move its
    prototype together. Its epochs count from 1 to 30: here they are shares of the run. Its rise r =
    0.3 puts T above 1 after two thirds of the run, so that no unlabeled image counts any more.

    Args:
        weight: lambda >= 0; weight of the pseudo-label term.
        supervised_weight: l_x >= 0; weight of labeled images with one class.
        partial_weight: l_p >= 0; weight of ambiguous labeled images; the release computes this
            term and leaves it out.
        negative_weight: w_0 >= 0; weight of the excluded classes at the start.
        negative_end: e_w, fraction in [0, 1] of the run after which w is 0; 16 of 30 epochs.
        threshold: T_0 in [0, 1]; the confidence a pseudo-label needs at the start.
        rise: r >= 0; by how much that confidence rises over the run.
        relabel: fraction in [0, 1] of the run after which labels are doubted; 10 of 30 epochs.
        doubt: in [0, 1], how much more probable another class must be.
        temperature: > 0, of the similarities to prototypes.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 0, 2)
    state = "revised labels, excluded classes of every unlabeled image, prototypes"
    recipe: ClassVar[Mapping[str, object]] = {
        "normalize_features": True,
        "dropout": 0.5,
        "weight_decay": 0.02,
    }

    labels: Tensor
    weights: Tensor
    excluded: Tensor
    prototypes: Tensor
    counts: Tensor

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        weight: NonNegative = 1.2,
        supervised_weight: NonNegative = 1.6,
        partial_weight: NonNegative = 0.0,
        negative_weight: NonNegative = 0.24,
        negative_end: Fraction = 0.53333,
        threshold: Fraction = 0.8,
        rise: NonNegative = 0.15,
        relabel: Fraction = 0.33333,
        doubt: Fraction = 0.5,
        temperature: Positive = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, weight=weight, **options)
        self.supervised_weight = supervised_weight
        self.partial_weight = partial_weight
        self.negative_weight = negative_weight
        self.negative_end = negative_end
        self.threshold = threshold
        self.rise = rise
        self.relabel = relabel
        self.doubt = doubt
        self.temperature = temperature
        classes = problem.num_classes
        self.register_buffer("labels", torch.full((problem.num_labeled,), -1))
        self.register_buffer("weights", torch.zeros(problem.num_labeled, classes))
        excluded = torch.zeros(problem.num_unlabeled, classes, dtype=torch.bool)
        self.register_buffer("excluded", excluded)
        self.register_buffer("prototypes", torch.zeros(classes, model.width))
        self.register_buffer("counts", torch.zeros(classes))

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled terms, the one of the pseudo-labels and the negative ones."""
        x, u = batch.labeled, batch.unlabeled
        negative = self.negative_factor(clock)
        with torch.set_grad_enabled(negative > 0):
            weak = model(u.weak[0])
        known, strong = together(model, x.weak[0], u.strong[0])
        q = weak.detach().probabilities
        features = [F.normalize(o.features.detach().float(), dim=1) for o in (known, weak)]

        threshold = self.threshold + self.rise * (clock.epoch + 1) / clock.num_epochs
        label, mask = fn.confident(q, threshold)
        target, weights, trusted = self.revise(x, known.detach().probabilities, features[0], clock)
        if clock.step % clock.epoch_steps == 0:
            self.counts.zero_()
        first, again = clock.epoch == 0, clock.epoch + 1 == self.relabel_epoch(clock)
        self.move_prototypes(features[0], target, trusted, plain=first or again)
        self.move_prototypes(features[1], label, mask, plain=first)

        single = (weights.amax(dim=1) == 1).float()
        share = single.mean().clamp_min(1 / len(single))
        clear = fn.masked_cross_entropy(known.logits, target, single) / share
        terms = {"supervised": self.supervised_weight * clear}
        if self.partial_weight:
            partial = fn.masked_cross_entropy(known.logits, weights, 1 - single)
            share = (1 - single).mean().clamp_min(1 / len(single))
            terms["partial"] = self.partial_weight * partial / share
        terms |= self.teach(strong.logits, label, mask, q)
        if negative:
            excluded = self.exclude(u.index, q, 1 - mask)
            gap = gap_loss(strong.logits, excluded, 1 - mask)
            terms["negative"] = negative * negative_loss(weak.probabilities, excluded, 1 - mask)
            terms["gap"] = negative / 6.5 * gap
        return Objective(watch={"mask": mask.mean(), "shares": fn.shares(q)}, **terms)

    def negative_factor(self, clock: Clock) -> float:
        """Return w of the epoch."""
        share = (clock.epoch + 1) / clock.num_epochs
        rest = 1 - share / self.negative_end if self.negative_end else 0.0
        return self.negative_weight * max(rest, 0.0)

    def relabel_epoch(self, clock: Clock) -> int:
        """The epoch, counted from 1, at which labels are first doubted."""
        return max(math.ceil(self.relabel * clock.num_epochs), 1)

    @torch.no_grad()
    def revise(
        self, x: Labeled, p: Tensor, features: Tensor, clock: Clock
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Doubt the labels of a batch; return them, the class weights and who moves prototypes.

        Args:
            x: the labeled batch.
            p: (B, C), what is predicted for it.
            features: (B, D), rows of length 1.
            clock: the time.

        Returns:
            (B,) int64 labels, (B, C) weights with rows that sum to 1, (B,) of zeros and ones.
        """
        unseen = self.labels[x.index] < 0
        label = torch.where(unseen, x.target, self.labels[x.index])
        onehot = F.one_hot(label, self.num_classes).float()
        weights = torch.where(unseen[:, None], onehot, self.weights[x.index])
        confidence, winner = p.max(dim=1)
        trusted = winner == label
        epoch, relabel = clock.epoch + 1, self.relabel_epoch(clock)
        if epoch >= relabel:
            ambiguous = confidence - (onehot * p).sum(dim=1) > self.doubt
            trusted = ~ambiguous
            pair = onehot + F.one_hot(winner, self.num_classes)
            if epoch == relabel:
                revised = pair * p
            else:
                revised = torch.where(pair > 0, 0.99 * weights, weights)
                revised += 0.01 * pair * self.resemblance(features, weights > 0)
            revised = revised / revised.sum(dim=1, keepdim=True).clamp_min(1e-12)
            weights = torch.where(ambiguous[:, None], revised, weights)
            most, best = weights.max(dim=1)
            undecided = most < 1
            if epoch == relabel:  # a weight may round to 1
                undecided = undecided | ambiguous
            decided = (most > SURE) & undecided
            only = F.one_hot(best, self.num_classes).float()
            weights = torch.where(decided[:, None], only, weights)
            label = torch.where(decided & (most >= CERTAIN), best, label)
        self.labels[x.index] = label
        self.weights[x.index] = weights
        return label, weights, trusted.float()

    def resemblance(self, features: Tensor, candidates: Tensor) -> Tensor:
        """Softmax of similarities to the prototypes of candidates: (B, D), (B, C) -> (B, C)."""
        with torch.autocast(features.device.type, enabled=False):
            similarity = features @ self.prototypes.T / self.temperature
        return similarity.masked_fill(~candidates, torch.finfo(similarity.dtype).min).softmax(dim=1)

    @torch.no_grad()
    def move_prototypes(
        self, features: Tensor, label: Tensor, mask: Tensor, *, plain: bool
    ) -> None:
        """Move the prototypes towards the mean features of their classes.

        Args:
            features: (B, D).
            label: (B,) int64.
            mask: (B,) of zeros and ones, which rows count.
            plain: as means over the epoch, not by 0.01 an image.
        """
        chosen = F.one_hot(label, self.num_classes) * mask[:, None]
        number = chosen.sum(dim=0)
        with torch.autocast(features.device.type, enabled=False):
            mean = chosen.T @ features / number.clamp_min(1)[:, None]
        if plain:
            self.counts += number
            step = number / self.counts.clamp_min(1)
        else:
            step = 1 - 0.99**number
        self.prototypes.lerp_(mean, step[:, None])

    @torch.no_grad()
    def exclude(self, index: Tensor, q: Tensor, doubtful: Tensor) -> Tensor:
        """Exclude one more class of doubtful images; return all excluded so far, (B, C) bool."""
        excluded = self.excluded[index]
        chance, least = q.masked_fill(excluded, 2.0).min(dim=1)
        room = excluded.sum(dim=1) < self.num_classes - 2
        fresh = (doubtful > 0) & room & (chance <= 0.01)
        excluded = excluded | (F.one_hot(least, self.num_classes).bool() & fresh[:, None])
        self.excluded[index] = excluded
        return excluded


def negative_loss(p: Tensor, excluded: Tensor, mask: Tensor) -> Tensor:
    """Return mean_b mask_b -sum_k C_bk log(1 - p_bk), over the whole batch: a scalar >= 0.

    Args:
        p: (B, C) probabilities.
        excluded: C, (B, C) bool.
        mask: (B,) of zeros and ones.
    """
    cost = -(excluded * (1 - p).clamp(1e-5, 1).log()).sum(dim=1)
    return (mask * cost).mean()


def gap_loss(logits: Tensor, excluded: Tensor, mask: Tensor) -> Tensor:
    """Return the mean BCE(max_k s_k - s, C), s = sigmoid(logits), over classes and masked-in rows.

    Args:
        logits: (B, C).
        excluded: C, (B, C) bool.
        mask: (B,) of zeros and ones.
    """
    s = logits.float().sigmoid()
    gap = (s.amax(dim=1, keepdim=True) - s).clamp_min(1e-5)
    cost = -torch.where(excluded, gap.log(), (1 - gap).clamp_min(1e-5).log()).mean(dim=1)
    return (mask * cost).sum() / mask.sum().clamp_min(1)
