"""Losses. All compute in float32 or better, whatever the precision of their input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.functional.precision import at_least_single


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy: (B, C) logits, (B,) int64 or (B, C) targets -> ()."""
    return F.cross_entropy(at_least_single(logits), target)


def masked_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy averaged over the whole batch, masked rows counting as zero.

    Args:
        logits: (B, C).
        target: (B,) int64 classes, or (B, C) distributions.
        mask: (B,) weights in [0, 1].
    """
    return (mask * F.cross_entropy(at_least_single(logits), target, reduction="none")).mean()


def squared_error(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the squared difference, averaged over classes and samples: (B, C), (B, C) -> ().

    The consistency loss of Pi-model, Mean Teacher and MixMatch. It carries a factor 1 / C, which
    the large weights of these methods assume.
    """
    return F.mse_loss(at_least_single(probabilities), at_least_single(target))


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of softmax(logits) from a target.

    Args:
        target: (B, C) probabilities, rows sum to 1.
        logits: (B, C).

    Returns:
        Scalar >= 0, in nats.
    """
    logs = at_least_single(logits).log_softmax(dim=1)
    return F.kl_div(logs, at_least_single(target), reduction="batchmean")


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of softmax(logits), in nats: (B, C) -> ()."""
    logs = at_least_single(logits).log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean()


def ambiguous_loss(scores: Tensor, positive: Tensor, margin: float = 0.0) -> Tensor:
    """Return LEAF's ambiguous loss of every sample.

    LEAF (Zhang et al., 2024, arXiv:2404.15041), eq. (14) with the margin of eq. (9):

        L = log(1 + e^eps * sum_{i in P} e^{-y_i} * sum_{j in N} e^{y_j})
          = softplus(logsumexp_{i in P}(-y_i) + logsumexp_{j in N}(y_j) + eps)

    The second form, computed here, does not overflow. It pushes every positive class above every
    negative one; with a single positive class and no margin it is the cross-entropy. A sample
    without negative classes costs exactly 0 and has no gradient.

    Args:
        scores: (B, C) logits (or probabilities: the other reading of the paper).
        positive: (B, C) bool, true for the positive classes P; the others are N.
        margin: eps >= 0.

    Returns:
        (B,) float32 (float64 for float64 scores), >= 0.

    Raises:
        ValueError: ``margin`` is negative.

    Example:
        >>> y = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
        >>> ambiguous_loss(y, torch.tensor([[True, True, False, False]]))
        tensor([0.5237])
    """
    if margin < 0:
        raise ValueError(f"expected margin >= 0, got {margin}")
    y = at_least_single(scores)
    # A finite stand-in for -inf: logsumexp over an empty set then has gradient 0 and not NaN.
    nothing = torch.finfo(y.dtype).min
    weakest_positive = (-y).masked_fill(~positive, nothing).logsumexp(dim=1)
    strongest_negative = y.masked_fill(positive, nothing).logsumexp(dim=1)
    return F.softplus(weakest_positive + strongest_negative + margin)


def ambiguous_consistency(
    scores: Tensor, positive: Tensor, margin: float = 0.0, mask: Tensor | None = None
) -> Tensor:
    """Return the mean of :func:`ambiguous_loss` over the batch: the category level of LEAF.

    Args:
        scores: (B, C) scores of the view that is pulled.
        positive: (B, C) bool, the candidate set found on the other view.
        margin: eps >= 0.
        mask: (B,) weights in [0, 1] of a method's own; masked rows count as zero in a mean over
            the whole batch.

    Returns:
        Scalar, >= 0.
    """
    cost = ambiguous_loss(scores, positive, margin)
    return (cost if mask is None else mask * cost).mean()


def nt_xent(first: Tensor, second: Tensor, keep: Tensor, temperature: float = 0.07) -> Tensor:
    """Return the normalized-temperature cross-entropy between two views of the kept samples.

    SimCLR (Chen et al., 2020, arXiv:2002.05709), eq. (1), over the n samples with ``keep`` 1: each
    of their 2n features is to find its partner among the 2n - 1 others. Samples that are not kept
    are neither anchors nor negatives. The shapes do not depend on ``keep``.

    Args:
        first: (B, D) L2-normalized features of one view.
        second: (B, D) L2-normalized features of the other view.
        keep: (B,) of zeros and ones.
        temperature: tau > 0.

    Returns:
        Scalar, the mean over 2n anchors; 0 where n is 0 or 1.
    """
    features = at_least_single(torch.cat([first, second]))
    count = len(first)
    kept = torch.cat([keep, keep]).to(features.dtype)
    with torch.autocast(features.device.type, enabled=False):  # bfloat16 / 0.07 is too coarse
        similarity = features @ features.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=similarity.device)
    candidates = similarity.masked_fill(itself | (kept == 0), torch.finfo(similarity.dtype).min)
    partner = torch.arange(2 * count, device=similarity.device).roll(count)
    agreement = similarity.gather(1, partner[:, None]).squeeze(1)
    cost = candidates.logsumexp(dim=1) - agreement
    # torch.where and not a product: an anchor without candidates has an unbounded cost.
    return torch.where(kept > 0, cost, 0).sum() / kept.sum().clamp_min(1)


def graph_contrast(
    probabilities: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    edge: float = 0.8,
    temperature: float = 0.2,
) -> Tensor:
    """Return CoMatch's contrastive loss: pseudo-labels that agree should have close embeddings.

    CoMatch (Li et al., 2021, arXiv:2011.11183), eqs. (7)-(10):

        L = mean_b -sum_j Q_bj log S_bj,    S = rowwise softmax(f1 f2^T / t)

    with Q the rows of p p^T, 1 on the diagonal, entries below ``edge`` dropped, divided by
    their sum. The logarithm is that of the softmax, where the authors' code adds 1e-7 to S.

    Args:
        probabilities: p, (B, C) pseudo-labels without gradient.
        first: f1, (B, D) L2-normalized embeddings of one strong view.
        second: f2, (B, D) L2-normalized embeddings of the other one.
        edge: T in [0, 1], the least similarity of pseudo-labels that makes an edge.
        temperature: t > 0.

    Returns:
        Scalar, >= 0.
    """
    p = at_least_single(probabilities)
    with torch.autocast(p.device.type, enabled=False):  # bfloat16 / 0.2 is too coarse
        similarity = at_least_single(first) @ at_least_single(second).T / temperature
        graph = (p @ p.T).fill_diagonal_(1)
    graph = graph * (graph >= edge)
    graph = graph / graph.sum(dim=1, keepdim=True)
    return -(graph * similarity.log_softmax(dim=1)).sum(dim=1).mean()
