"""LEAF+: LEAF that also learns its labels from strong views."""

from __future__ import annotations

from typing import Any, Literal

from leaf_fer.algorithms.leaf import LEAF
from leaf_fer.models import Classifier
from leaf_fer.ranges import Fraction
from leaf_fer.types import Problem, Views


class LEAFPlus(LEAF):
    """LEAF+, our own: LEAF (Zhang et al., 2024, arXiv:2404.15041) and two changes that measured.

        L = mean (CE(y, p(a(x))) + CE(y, p(A(x)))) / 2
            + lambda * mean M log(1 + e^eps sum_P e^-z_i sum_N e^z_j)

        M = [max q(a(u)) >= tau],  P, N, z and q as in LEAF

    Labels are also learned from strong views, as in AdaMatch (Berthelot et al., 2022,
    arXiv:2106.04732), section 3.1: where all strong views are unlabeled, the network takes "strong"
    for a domain whose classes it only guesses. The threshold is the same for all classes:
    Ada-CM's are learned where the network is right by heart. What each change brings is in
    docs/findings.md.

    Batch-norm: labeled weak, labeled strong and pulled view share a pass.

    Args:
        mask: which samples count.
        threshold: tau in [0, 1].
        options: see :class:`LEAF`.
    """

    views = Views(labeled="ws", unlabeled="ws")
    passes = (2, 1, 1)
    state = "averaged weights"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        mask: Literal["none", "fixed", "adaptive"] = "fixed",
        threshold: Fraction = 0.8,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, mask=mask, threshold=threshold, **options)
