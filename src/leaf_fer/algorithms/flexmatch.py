"""FlexMatch: FixMatch with lower thresholds for classes that are not learned yet."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.memory import LabelTable
from leaf_fer.models import Classifier, guess, together
from leaf_fer.ranges import Fraction
from leaf_fer.types import Batch, Clock, Objective, Problem, Views


class FlexMatch(PseudoLabeling):
    """FlexMatch (Zhang et al., 2021, arXiv:2110.08263), eqs. (4)-(11).

        L = CE(y, p(a(x))) + lambda [max q >= tau_c] CE(c, p(A(u))),    q = p(a(u)), c = argmax q

        tau_c = tau beta_c / (2 - beta_c),    beta_c = sigma_c / max(max_k sigma_k, unused)

    sigma_c counts the unlabeled images whose latest prediction of confidence tau or more was c, and
    unused those that had none yet. A class that nothing was ever sure of has threshold 0.

    Batch-norm: the weak view is a pass of its own without gradient; labeled and strong view share a
    second pass.

    Deviations from the paper: none.

    Args:
        threshold: tau in [0, 1]; of the best learned class.
        threshold_warmup: count ``unused``; without it, beta_c = sigma_c / max_k sigma_k.
    """

    views = Views(labeled="w", unlabeled="ws")
    passes = (1, 1, 1)
    state = "last confident label of every unlabeled image"

    def __init__(
        self,
        problem: Problem,
        model: Classifier,
        *,
        threshold: Fraction = 0.95,
        threshold_warmup: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(problem, model, **options)
        self.threshold = threshold
        self.threshold_warmup = threshold_warmup
        self.table = LabelTable(problem.num_unlabeled, problem.num_classes)

    def loss(self, batch: Batch, model: nn.Module, clock: Clock) -> Objective:
        """Return the labeled term and the one of the pseudo-labels."""
        x, u = batch.labeled, batch.unlabeled
        q = guess(model, u.weak[0]).probabilities
        known, strong = together(model, x.weak[0], u.strong[0])
        thresholds = self.thresholds()
        label, mask = fn.confident(q, thresholds)
        self.table.write(u.index, *fn.confident(q, self.threshold))
        return Objective(
            supervised=fn.cross_entropy(known.logits, x.target),
            **self.teach(strong.logits, label, mask, q),
            watch={"mask": mask.mean(), "shares": fn.shares(q), "thresholds": thresholds},
        )

    def thresholds(self) -> Tensor:
        """tau_c of every class, (C,): eqs. (7), (10) and (11)."""
        learned, unused = self.table.counts[:-1], self.table.counts[-1]
        most = learned.max()
        if self.threshold_warmup:
            most = most.maximum(unused)
        beta = learned / most.clamp_min(1)
        return self.threshold * beta / (2 - beta)
