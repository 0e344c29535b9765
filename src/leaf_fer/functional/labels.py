"""From what the network believes to what it is taught: pseudo-labels and sets of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.functional.precision import at_least_single


def candidate_set(probabilities: Tensor, mass: float = 0.9) -> Tensor:
    """Return the fewest most probable classes that together reach ``mass``.

    LEAF (Zhang et al., 2024, arXiv:2404.15041), eqs. (6)-(8): with the classes sorted by falling
    probability, the first m are positive, where m is the smallest count whose sum reaches T.
    Ties keep the class of lower id. The most probable class is always positive, so ``mass=0``
    gives the hard pseudo-label.

    Args:
        probabilities: (B, C), rows sum to 1.
        mass: T in [0, 1].

    Returns:
        (B, C) bool, true for positive classes.

    Raises:
        ValueError: ``mass`` is outside [0, 1].

    Example:
        >>> candidate_set(torch.tensor([[0.70, 0.05, 0.15, 0.10]])).tolist()
        [[True, False, True, True]]
    """
    if not 0 <= mass <= 1:
        raise ValueError(f"expected 0 <= mass <= 1, got {mass}")
    ordered, classes = at_least_single(probabilities).sort(dim=1, descending=True, stable=True)
    # A class belongs to the set exactly if the classes before it have not reached the mass.
    chosen = F.pad(ordered.cumsum(dim=1)[:, :-1] < mass, (1, 0), value=True)
    return torch.zeros_like(chosen).scatter(1, classes, chosen)


def fuzzy_set(
    probabilities: Tensor, mass: float = 0.9, most: int = 3, curvature: float = 50.0
) -> tuple[Tensor, Tensor]:
    """Return the positive classes and the sample weights of the code released with LEAF.

    The rule comes from fuzzy positive learning (Qiao et al., 2023, arXiv:2210.08519). With the
    classes sorted, i >= 1 is the first 0-based place whose cumulative sum c reaches ``mass``, and
    at most ``most``: the i classes before it are positive, and with q the probability at i

        w = min(1, log(1 + 50 (c / (i + 1) - q)) / log(1 + 50 c / (i + 1))).

    Args:
        probabilities: (B, C), rows sum to 1.
        mass: T in [0, 1].
        most: the largest number of positive classes, at least 1; at most C - 1 are kept.
        curvature: the 50 of the formula, > 0.

    Returns:
        (B, C) bool, true for positive classes, and (B,) weights in [0, 1].

    Raises:
        ValueError: ``mass`` is outside [0, 1], or ``most`` below 1.
    """
    if not 0 <= mass <= 1:
        raise ValueError(f"expected 0 <= mass <= 1, got {mass}")
    if most < 1:
        raise ValueError(f"expected most >= 1, got {most}")
    ordered, classes = at_least_single(probabilities).sort(dim=1, descending=True, stable=True)
    total = ordered.cumsum(dim=1)
    last = min(most, probabilities.shape[1] - 1)
    place = (total[:, :last] < mass).sum(dim=1).clamp(1, last)[:, None]
    rank = torch.arange(probabilities.shape[1], device=place.device)
    positive = torch.zeros_like(ordered, dtype=torch.bool).scatter(1, classes, rank < place)
    mean = total.gather(1, place) / (place + 1)
    gap = (mean - ordered.gather(1, place)).clamp_min(0)
    weight = (curvature * gap).log1p() / (curvature * mean).log1p()
    return positive, weight.squeeze(1).clamp_max(1)


def confident(probabilities: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable class and whether it is probable enough (inclusive).

    Args:
        probabilities: (B, C), rows sum to 1.
        threshold: one value in [0, 1], or (C,) one per class.

    Returns:
        (B,) int64 labels, and (B,) float32 mask of zeros and ones.
    """
    confidence, label = probabilities.max(dim=1)
    needed = threshold[label] if isinstance(threshold, Tensor) else threshold
    return label, (confidence >= needed).float()


def shares(probabilities: Tensor) -> Tensor:
    """Return the share of the batch that each class wins: (B, C) -> (C,), sums to 1."""
    winner = probabilities.argmax(dim=1)
    hits = torch.zeros(probabilities.shape[1], device=winner.device)
    ones = torch.ones_like(winner, dtype=hits.dtype)
    return hits.scatter_add(0, winner, ones) / len(probabilities)


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Return p^(1/T) / sum p^(1/T): (B, C) -> (B, C), rows sum to 1.

    MixMatch (Berthelot et al., 2019, arXiv:1905.02249), eq. (7). A probability of 0 stays 0.

    Args:
        probabilities: (B, C), rows sum to 1.
        temperature: T > 0; below 1 makes the prediction more certain.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Example:
        >>> sharpen(torch.tensor([[0.5, 0.3, 0.2]]), 0.5)
        tensor([[0.6579, 0.2368, 0.1053]])
    """
    if temperature <= 0:
        raise ValueError(f"expected temperature > 0, got {temperature}")
    p = at_least_single(probabilities)
    logs = p.clamp_min(torch.finfo(p.dtype).tiny).log() / temperature
    return logs.masked_fill(p == 0, -torch.inf).softmax(dim=1)


def align(probabilities: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Return normalize(p * (target + 1e-6) / (seen + 1e-6)): distribution alignment.

    ReMixMatch (Berthelot et al., 2020, arXiv:1911.09785), section 3.1.

    Args:
        probabilities: p, (B, C), rows sum to 1.
        target: (C,), how often the classes should come.
        seen: (C,), how often they were predicted.

    Returns:
        (B, C), rows sum to 1.
    """
    aligned = probabilities * (target + 1e-6) / (seen + 1e-6)
    return aligned / aligned.sum(dim=1, keepdim=True)
