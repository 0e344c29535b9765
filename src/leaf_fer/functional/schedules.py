"""Weights as pure functions of the share of a run that is done."""

from __future__ import annotations

import math


def gaussian_ramp(share: float) -> float:
    """Return exp(-5 (1 - x)^2), x = share clipped to [0, 1]: from 0.0067 up to 1.

    Temporal ensembling (Laine & Aila, 2017, arXiv:1610.02242), section 2.

    Example:
        >>> round(gaussian_ramp(0.5), 6)
        0.286505
    """
    return math.exp(-5 * (1 - min(max(share, 0.0), 1.0)) ** 2)


def cosine_ramp(share: float) -> float:
    """Return 1/2 - cos(min(pi, 2 pi x)) / 2: from 0 up to 1, reached at x = 1/2.

    AdaMatch (Berthelot et al., 2022, arXiv:2106.04732), section 3.4.
    """
    return 0.5 - math.cos(min(math.pi, 2 * math.pi * share)) / 2
