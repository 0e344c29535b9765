"""Pure tensor functions: losses, pseudo-labels, mixup, ramps. Nothing here holds state."""

from leaf_fer.functional.labels import align, candidate_set, confident, fuzzy_set, shares, sharpen
from leaf_fer.functional.losses import (
    ambiguous_consistency,
    ambiguous_loss,
    cross_entropy,
    divergence,
    entropy,
    graph_contrast,
    masked_cross_entropy,
    nt_xent,
    squared_error,
)
from leaf_fer.functional.mixing import mixing_weights, mixup
from leaf_fer.functional.schedules import cosine_ramp, gaussian_ramp

__all__ = [
    "align",
    "ambiguous_consistency",
    "ambiguous_loss",
    "candidate_set",
    "confident",
    "cosine_ramp",
    "cross_entropy",
    "divergence",
    "entropy",
    "fuzzy_set",
    "gaussian_ramp",
    "graph_contrast",
    "masked_cross_entropy",
    "mixing_weights",
    "mixup",
    "nt_xent",
    "shares",
    "sharpen",
    "squared_error",
]
