"""EAF: the gated mixture of experts that LEAF puts on features and on class scores.

Shape letters: B batch, W width of the input, E experts, K experts kept, h hidden width.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.processes import gather


class Experts(nn.Module):
    """E independent maps: (B, W) -> (B, E, W)."""

    def mix(self, x: Tensor, weights: Tensor) -> Tensor:
        """Weigh the answers of all experts: (B, W), (B, E) float32 -> (B, W) float32.

        Args:
            x: the input.
            weights: of the experts for every row, which sum to 1.
        """
        answers: Tensor = self(x).float()
        return (weights.unsqueeze(2) * answers).sum(dim=1)


class LinearExperts(Experts):
    """E independent linear maps: (B, W) -> (B, E, W)."""

    def __init__(self, width: int, num_experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, width, width))
        self.bias = nn.Parameter(torch.empty(num_experts, width))
        bound = 1 / math.sqrt(width)  # what nn.Linear starts from
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply every expert to every row."""
        answers = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
        return answers.view(x.shape[0], *self.bias.shape)


class BottleneckExperts(Experts):
    """E independent Linear(W, h) - ReLU - Linear(h, W), h = max(W // 2, 4): (B, W) -> (B, E, W)."""

    def __init__(self, width: int, num_experts: int) -> None:
        super().__init__()
        hidden = max(width // 2, 4)
        self.inner_weight = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.inner_bias = nn.Parameter(torch.empty(num_experts, hidden))
        self.outer_weight = nn.Parameter(torch.empty(num_experts, width, hidden))
        self.outer_bias = nn.Parameter(torch.empty(num_experts, width))
        for parameter, fan_in in (
            (self.inner_weight, width),
            (self.inner_bias, width),
            (self.outer_weight, hidden),
            (self.outer_bias, hidden),
        ):
            nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, x: Tensor) -> Tensor:
        """Apply every expert to every row."""
        return torch.einsum("beh,ewh->bew", self._hidden(x), self.outer_weight) + self.outer_bias

    def mix(self, x: Tensor, weights: Tensor) -> Tensor:
        """Weigh what the experts' outer layers, which are linear, get instead of what they give.

        Their sum is then one matrix product, and no answer of a single expert is written down.
        """
        hidden = (self._hidden(x) * weights.unsqueeze(2)).flatten(1)
        outer = self.outer_weight.transpose(0, 1).flatten(1)
        return F.linear(hidden, outer).float() + weights @ self.outer_bias

    def _hidden(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, E, h)."""
        hidden = F.linear(x, self.inner_weight.flatten(0, 1), self.inner_bias.flatten())
        return hidden.relu().view(x.shape[0], *self.inner_bias.shape)


class ResidualExperts(BottleneckExperts):
    """E independent x + bottleneck(x), each starting as the identity: (B, W) -> (B, E, W)."""

    def __init__(self, width: int, num_experts: int) -> None:
        super().__init__(width, num_experts)
        nn.init.zeros_(self.outer_weight)
        nn.init.zeros_(self.outer_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply every expert to every row."""
        # float32 keeps the identity exact under autocast, where the bottleneck is bfloat16.
        return x.float().unsqueeze(1) + super().forward(x)

    def mix(self, x: Tensor, weights: Tensor) -> Tensor:
        """Weigh all answers; since weights sum to 1, x is in the result once."""
        return x.float() + super().mix(x, weights)


EXPERTS = {"linear": LinearExperts, "bottleneck": BottleneckExperts, "residual": ResidualExperts}


class TopGate(nn.Module):
    """The gate of LEAF, eq. (3): softmax(TopK(softplus(W x))), (B, W) -> (B, E).

    Exactly ``top_k`` weights of a row are non-zero and they sum to 1; on ties the expert of lower
    index is kept. Computed in float32, also under autocast.
    """

    def __init__(self, width: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.weight = nn.Parameter(torch.empty(num_experts, width))
        nn.init.uniform_(self.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def scores(self, x: Tensor) -> Tensor:
        """The values that experts compete with: (B, W) float32 -> (B, E)."""
        return F.softplus(F.linear(x, self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weight of every expert for every row."""
        with torch.autocast(x.device.type, enabled=False):
            ordered, expert = self.scores(x.float()).sort(dim=1, descending=True, stable=True)
            kept = ordered[:, : self.top_k].softmax(dim=1)
            return torch.zeros_like(ordered).scatter(1, expert[:, : self.top_k], kept)


class NoisyGate(TopGate):
    """The gate of the code released with LEAF: noisy top-k of Shazeer et al., 2017.

    Scores are W x without softplus; in training Gaussian noise of standard deviation
    softplus(W_noise x) + 0.01 is added. Both matrices start at zero.
    """

    def __init__(self, width: int, num_experts: int, top_k: int) -> None:
        super().__init__(width, num_experts, top_k)
        nn.init.zeros_(self.weight)
        self.noise_weight = nn.Parameter(torch.zeros(num_experts, width))

    def scores(self, x: Tensor) -> Tensor:
        """The values that experts compete with: (B, W) float32 -> (B, E)."""
        scores = F.linear(x, self.weight)
        if not self.training:
            return scores
        spread = F.softplus(F.linear(x, self.noise_weight)) + 0.01
        return scores + spread * torch.randn_like(scores)


GATES = {"softplus": TopGate, "noisy": NoisyGate}


class EAF(nn.Module):
    """Expression-aware mixture of experts with a top-K gate: (B, W) -> (B, W).

    LEAF (Zhang et al., 2024, arXiv:2404.15041), eqs. (2)-(5):

        EAF(x) = sum_j G_j(x) E_j(x),    G(x) = softmax(TopK(softplus(W x)))

    All experts are computed for all rows, in a few batched products: with so few experts this is
    faster on every device than sending rows around. The paper gives no widths: ours are in
    :class:`BottleneckExperts`. Residual experts start as the identity, so an EAF can be put into a
    trained network without changing what it says. ``gate="noisy"``, ``shared=True`` and
    ``combine="log"`` are what the code released with the paper does.

    Args:
        width: W >= 1, of input and output.
        num_experts: E >= 1.
        top_k: K in [1, E]; None means min(2, E), since with K = 1 the only weight is always 1 and
            the gate gets no gradient.
        expert: ``linear``, ``bottleneck`` or ``residual`` (Fig. 3).
        gate: ``softplus`` (eq. 3) or ``noisy`` (released code).
        shared: one expert module in all E places, as released.
        combine: ``linear`` (eq. 2) or ``log``, log sum_j G_j exp(E_j(x)), as released.
        balance: weight >= 0 of the load-balancing loss of Shazeer et al., 2017 (arXiv:1701.06538):
            squared coefficients of variation of importance and of load. Load is a count and has
            no gradient.

    Attributes:
        importance: (E,), mean gate weights of the latest training batch, or of the rows of it that
            this process had.
        frequency: (E,), how often experts were kept in it; sums to K.
        penalty: the weighted load-balancing loss of the latest batch with gradient.

    Raises:
        ValueError: a count is out of range or a name is unknown.
    """

    importance: Tensor
    frequency: Tensor

    def __init__(
        self,
        width: int,
        num_experts: int = 4,
        top_k: int | None = None,
        expert: Literal["linear", "bottleneck", "residual"] = "residual",
        *,
        gate: Literal["softplus", "noisy"] = "softplus",
        shared: bool = False,
        combine: Literal["linear", "log"] = "linear",
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        if width < 1 or num_experts < 1:
            raise ValueError(f"expected width, num_experts >= 1, got {width}, {num_experts}")
        top_k = min(2, num_experts) if top_k is None else top_k
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"expected 1 <= top_k <= num_experts={num_experts}, got {top_k}")
        if expert not in EXPERTS:
            raise ValueError(f"expected expert to be one of {', '.join(EXPERTS)}, got {expert!r}")
        if gate not in GATES:
            raise ValueError(f"expected gate to be one of {', '.join(GATES)}, got {gate!r}")
        if combine not in ("linear", "log"):
            raise ValueError(f"expected combine to be linear or log, got {combine!r}")
        self.num_experts = num_experts
        self.shared = shared
        self.combine = combine
        self.balance = balance
        self.gate = GATES[gate](width, num_experts, top_k)
        self.experts = EXPERTS[expert](width, 1 if shared else num_experts)
        self.register_buffer("importance", torch.zeros(num_experts), persistent=False)
        self.register_buffer("frequency", torch.zeros(num_experts), persistent=False)
        self.penalty: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Mix the experts of every row of x, (B, W)."""
        weights: Tensor = self.gate(x)
        if self.training:
            self._observe(weights)
        if self.combine == "log":
            answers: Tensor = self.experts(x).float()
            # Finite stand-ins for log 0 = -inf, which would make gradients NaN.
            limits = torch.finfo(weights.dtype)
            chances = weights.clamp_min(limits.tiny).log().masked_fill(weights == 0, limits.min)
            return (answers + chances.unsqueeze(2)).logsumexp(dim=1)
        if self.shared:  # the only expert has all the weight
            weights = weights.sum(dim=1, keepdim=True)
        mixed: Tensor = self.experts.mix(x, weights)
        return mixed

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graph of the latest batch out of copies: it cannot be copied."""
        return {**self.__dict__, "penalty": None}

    def _observe(self, weights: Tensor) -> None:
        """Keep what the gate did, so that experts that are never used can be seen."""
        frequency = (weights > 0).float().mean(dim=0)
        self.importance.copy_(weights.detach().mean(dim=0))
        self.frequency.copy_(frequency)
        if self.balance and torch.is_grad_enabled():
            weights = gather(weights)
            importance, frequency = weights.mean(dim=0), (weights > 0).float().mean(dim=0)
            self.penalty = self.balance * (_variation(importance) + _variation(frequency))


def _variation(x: Tensor) -> Tensor:
    """The squared coefficient of variation: (E,) -> ()."""
    return x.var(unbiased=False) / (x.mean().square() + 1e-10)
