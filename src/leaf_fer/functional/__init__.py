"""Pure tensor functions: losses and pseudo-labels. Nothing here holds state."""

from leaf_fer.functional.labels import candidate_set, confident, fuzzy_set, shares
from leaf_fer.functional.losses import (
    ambiguous_consistency,
    ambiguous_loss,
    cross_entropy,
    masked_cross_entropy,
    nt_xent,
)

__all__ = [
    "ambiguous_consistency",
    "ambiguous_loss",
    "candidate_set",
    "confident",
    "cross_entropy",
    "fuzzy_set",
    "masked_cross_entropy",
    "nt_xent",
    "shares",
]
