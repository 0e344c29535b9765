from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer.models import EAF
from leaf_fer.models.eaf import EXPERTS, NoisyGate, TopGate

# spec 4.7: W is printed with one row per feature
FEATURE = [0.5, -1, 2, 0.3]
GATE = [[0.2, -0.1, 0.4, 0.3], [0.5, 0.3, -0.2, -0.4], [0.1, 0.2, 0.3, -0.3], [-0.3, 0.6, 0.1, 0.2]]
GATED = {
    1: [0.0, 0, 1, 0],
    2: [0, 0.372727, 0.627273, 0],
    3: [0, 0.279886, 0.471028, 0.249086],
    4: [0.178068, 0.230047, 0.387154, 0.204732],
}


def gate_of(weight: list[list[float]], top_k: int) -> TopGate:
    """A gate whose matrix is given with one row per feature."""
    gate = TopGate(len(weight), len(weight[0]), top_k)
    gate.weight.data = torch.tensor(weight).T.contiguous()
    return gate


def gate_by_hand(row: list[float], weight: list[list[float]], top_k: int) -> list[float]:
    """Eq. (3) for one sample: softmax over the K largest softplus scores; weight is (E, W)."""
    scores = [
        math.log(1 + math.exp(sum(w * x for w, x in zip(expert, row, strict=True))))
        for expert in weight
    ]
    kept = sorted(range(len(scores)), key=lambda j: (-scores[j], j))[:top_k]
    total = sum(math.exp(scores[j]) for j in kept)
    return [math.exp(scores[j]) / total if j in kept else 0.0 for j in range(len(scores))]


def linear_by_hand(row: list[float], weight: Tensor, bias: Tensor) -> list[float]:
    return [
        sum(w * x for w, x in zip(out, row, strict=True)) + b
        for out, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]


def expert_by_hand(eaf: EAF, j: int, row: list[float], kind: str) -> list[float]:
    """Expert j of Fig. 3 for one sample."""
    e = eaf.experts
    if kind == "linear":
        return linear_by_hand(row, e.weight[j], e.bias[j])
    hidden = [max(h, 0.0) for h in linear_by_hand(row, e.inner_weight[j], e.inner_bias[j])]
    out = linear_by_hand(hidden, e.outer_weight[j], e.outer_bias[j])
    return [x + y for x, y in zip(row, out, strict=True)] if kind == "residual" else out


def eaf_by_hand(eaf: EAF, row: list[float], kind: str) -> list[float]:
    """Eq. (2): experts that the gate drops are not even evaluated."""
    weights = gate_by_hand(row, eaf.gate.weight.tolist(), eaf.gate.top_k)
    mixed = [0.0] * len(row)
    for j, g in enumerate(weights):
        if g:
            answer = expert_by_hand(eaf, j, row, kind)
            mixed = [m + g * a for m, a in zip(mixed, answer, strict=True)]
    return mixed


def alive(eaf: EAF) -> EAF:
    """Give residual experts something to say: they start as the identity."""
    with torch.no_grad():
        for parameter in eaf.experts.parameters():
            parameter.normal_(0, 0.5)
    return eaf


class TestGate:
    @pytest.mark.parametrize("top_k", [1, 2, 3, 4])
    def test_it_gives_the_vectors_of_the_specification(self, top_k):
        found = gate_of(GATE, top_k)(torch.tensor([FEATURE]))
        torch.testing.assert_close(found, torch.tensor([GATED[top_k]]), atol=1e-5, rtol=1e-5)

    def test_its_scores_are_the_softplus_of_the_specification(self):
        found = gate_of(GATE, 2).scores(torch.tensor([FEATURE]))
        expected = torch.tensor([[0.558623, 0.814745, 1.335282, 0.698160]])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_it_gives_the_vector_of_the_contract(self):
        scores = torch.tensor([2.0, 1.0, 0.5, 1.5])
        before_softplus = scores.expm1().log()
        gate = gate_of(torch.eye(4).tolist(), 2)
        expected = torch.tensor([[0.622459, 0, 0, 0.377541]])
        torch.testing.assert_close(gate(before_softplus[None]), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (2, 1), (4, 2), (8, 3), (8, 8)])
    def test_it_is_equation_3(self, experts, top_k):
        torch.manual_seed(0)
        gate = TopGate(5, experts, top_k)
        x = 3 * torch.randn(40, 5)
        expected = [gate_by_hand(row, gate.weight.tolist(), top_k) for row in x.tolist()]
        torch.testing.assert_close(gate(x), torch.tensor(expected), atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 1), (4, 2), (8, 3), (8, 8)])
    def test_rows_have_exactly_k_weights_and_sum_to_1(self, experts, top_k):
        torch.manual_seed(0)
        weights = TopGate(7, experts, top_k)(10 * torch.randn(100, 7))
        assert ((weights > 0).sum(1) == top_k).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(100))

    @pytest.mark.parametrize("gate", [TopGate, NoisyGate])
    @pytest.mark.parametrize("top_k", [1, 2, 3])
    def test_ties_keep_the_expert_of_lower_index(self, gate, top_k):
        weights = gate(5, 8, top_k).eval()(torch.zeros(3, 5))
        torch.testing.assert_close(weights[:, :top_k], torch.full((3, top_k), 1 / top_k))
        assert not weights[:, top_k:].any()

    @pytest.mark.parametrize("top_k", [1, 2, 4])
    def test_it_stays_finite_for_huge_inputs(self, top_k):
        torch.manual_seed(0)
        gate = TopGate(4, 4, top_k)
        x = torch.tensor([[1e6, -1e6, 1e6, 1e6], [0, 0, 0, 0], [-1e6] * 4], requires_grad=True)
        weights = gate(x)
        weights.square().sum().backward()
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
        assert x.grad.isfinite().all()
        assert gate.weight.grad.isfinite().all()

    def test_it_stays_float32_under_autocast(self):
        torch.manual_seed(0)
        gate = TopGate(64, 4, 2)
        x = torch.randn(16, 64)
        with torch.autocast("cpu", torch.bfloat16):
            inside = gate(x)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, gate(x))

    def test_it_takes_bfloat16_features(self):
        gate = TopGate(8, 4, 2)
        x = torch.randn(3, 8).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(gate(x), gate(x.float()))

    def test_it_has_one_matrix_and_no_bias(self):
        assert {n: tuple(p.shape) for n, p in TopGate(5, 3, 2).named_parameters()} == {
            "weight": (3, 5)
        }


class TestNoisyGate:
    def test_without_training_it_is_the_softmax_of_the_kept_scores(self):
        gate = NoisyGate(4, 4, 2).eval()
        gate.weight.data = torch.tensor(GATE).T.contiguous()
        expected = torch.tensor([[0, 0.310026, 0.689974, 0]])  # spec 4.7: without softplus
        found = gate(torch.tensor([FEATURE]))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_its_matrices_start_at_zero(self):
        gate = NoisyGate(4, 3, 1)
        assert not gate.weight.any()
        assert not gate.noise_weight.any()

    def test_noise_has_the_spread_of_the_specification(self):
        torch.manual_seed(0)
        gate = NoisyGate(2, 3, 1)
        gate.noise_weight.data = torch.tensor([[0.0, 0], [1, 0], [0, 2]])
        noise = gate.scores(torch.ones(100_000, 2))
        expected = F.softplus(torch.tensor([0.0, 1, 2])) + 0.01
        torch.testing.assert_close(noise.std(0), expected, rtol=0.02, atol=0)
        torch.testing.assert_close(noise.mean(0), torch.zeros(3), rtol=0, atol=0.03)

    def test_training_spreads_rows_over_the_experts(self):
        torch.manual_seed(0)
        weights = NoisyGate(4, 8, 1)(torch.randn(4000, 4))
        torch.testing.assert_close(weights.mean(0), torch.full((8,), 1 / 8), atol=0.02, rtol=0)


class TestExperts:
    @pytest.mark.parametrize("kind", sorted(EXPERTS))
    @pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (3, 1), (4, 2), (4, 4)])
    def test_the_mixture_is_equation_2(self, kind, experts, top_k):
        torch.manual_seed(0)
        eaf = alive(EAF(6, experts, top_k, kind))
        x = torch.randn(8, 6)
        expected = torch.tensor([eaf_by_hand(eaf, row, kind) for row in x.tolist()])
        torch.testing.assert_close(eaf(x), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("combine", "expected"),
        [
            ("linear", [0.059090, -0.118180, 0.236361, 0.035454]),
            ("log", [0.331917, 0.562781, 3.017253, 0.134398]),
        ],
    )
    def test_it_gives_the_vectors_of_the_specification(self, combine, expected):
        eaf = EAF(4, 4, 2, "linear", combine=combine)
        eaf.gate.weight.data = torch.tensor(GATE).T.contiguous()
        eaf.experts.weight.data = torch.tensor([1, 2, -1, 0.5])[:, None, None] * torch.eye(4)
        eaf.experts.bias.data.zero_()
        found = eaf(torch.tensor([FEATURE]))
        torch.testing.assert_close(found, torch.tensor([expected]), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [("linear", 262_656), ("bottleneck", 262_912), ("residual", 262_912)],
    )
    def test_an_expert_has_the_parameters_of_the_specification(self, kind, parameters):
        assert sum(p.numel() for p in EXPERTS[kind](512, 1).parameters()) == parameters

    @pytest.mark.parametrize(("width", "hidden"), [(2, 4), (7, 4), (8, 4), (9, 4), (10, 5)])
    def test_the_hidden_layer_is_half_as_wide_but_at_least_4(self, width, hidden):
        assert EXPERTS["bottleneck"](width, 3).inner_weight.shape == (3, hidden, width)

    @pytest.mark.parametrize("kind", sorted(EXPERTS))
    def test_one_expert_is_that_expert(self, kind):
        torch.manual_seed(0)
        eaf = alive(EAF(6, 1, expert=kind))
        x = torch.randn(5, 6)
        torch.testing.assert_close(eaf(x), eaf.experts(x)[:, 0])

    @pytest.mark.parametrize("kind", ["linear", "bottleneck"])
    def test_every_expert_starts_with_its_own_parameters(self, kind):
        torch.manual_seed(0)
        for parameter in EXPERTS[kind](6, 4).parameters():
            assert len(parameter.flatten(1).unique(dim=0)) == 4

    def test_residual_experts_start_with_inner_layers_of_their_own(self):
        torch.manual_seed(0)
        experts = EXPERTS["residual"](6, 4)
        assert len(experts.inner_weight.flatten(1).unique(dim=0)) == 4

    @pytest.mark.parametrize("kind", sorted(EXPERTS))
    def test_an_expert_that_is_never_kept_gets_no_gradient(self, kind):
        torch.manual_seed(0)
        eaf = alive(EAF(6, 4, 2, kind))
        eaf.gate.weight.data = torch.tensor([[1.0] * 6, [0.5] * 6, [-1.0] * 6, [-1.0] * 6])
        eaf(torch.rand(16, 6)).square().sum().backward()
        for parameter in eaf.experts.parameters():
            assert parameter.grad[:2].any()
            assert not parameter.grad[2:].any()

    def test_a_shared_expert_stands_in_all_places(self):
        torch.manual_seed(0)
        eaf = alive(EAF(6, 8, 3, shared=True))
        x = torch.randn(5, 6)
        assert eaf.experts.inner_weight.shape[0] == 1
        torch.testing.assert_close(eaf(x), eaf.experts(x)[:, 0])

    def test_the_released_eaf_is_its_single_residual_expert(self):
        torch.manual_seed(0)
        eaf = alive(EAF(6, 8, 1, gate="noisy", shared=True, combine="log"))
        x = torch.randn(32, 6)
        torch.testing.assert_close(eaf(x), eaf.experts(x)[:, 0])

    def test_the_released_form_does_not_overflow(self):
        eaf = EAF(4, 8, 1, gate="noisy", shared=True, combine="log")
        x = torch.tensor([[500.0, -500, 100, 0]])
        torch.testing.assert_close(eaf(x), x)

    def test_an_expert_that_is_not_kept_does_not_leak_through_exponentials(self):
        eaf = EAF(2, 2, 1, "linear", combine="log").eval()
        eaf.gate.weight.data = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        eaf.experts.weight.data.zero_()
        eaf.experts.bias.data = torch.tensor([[1.0, 2.0], [1000.0, 1000.0]])
        torch.testing.assert_close(eaf(torch.ones(1, 2)), torch.tensor([[1.0, 2.0]]))

    @pytest.mark.parametrize("combine", ["linear", "log"])
    @pytest.mark.parametrize("kind", sorted(EXPERTS))
    @pytest.mark.parametrize("top_k", [1, 2, 4])
    def test_nothing_is_nan_in_value_or_gradient(self, combine, kind, top_k):
        torch.manual_seed(0)
        eaf = alive(EAF(5, 4, top_k, kind, combine=combine, balance=0.1))
        x = torch.cat([torch.zeros(1, 5), 1e3 * torch.randn(8, 5)]).requires_grad_()
        out = eaf(x)
        (out.square().mean() + eaf.penalty).backward()
        assert out.isfinite().all()
        assert x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in eaf.parameters() if p.grad is not None)


class TestEAF:
    @pytest.mark.parametrize("width", [2, 7, 8, 512])
    @pytest.mark.parametrize("experts", [1, 2, 8])
    def test_it_starts_as_the_identity(self, width, experts):
        torch.manual_seed(0)
        x = 10 * torch.randn(16, width)
        torch.testing.assert_close(EAF(width, experts)(x), x, atol=1e-6, rtol=1e-6)

    def test_it_starts_as_the_identity_under_autocast(self):
        torch.manual_seed(0)
        x = torch.randn(16, 32)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(EAF(32)(x), x, atol=1e-6, rtol=1e-6)

    def test_residual_experts_of_zero_weights_are_the_identity_for_any_gate(self):
        x = torch.randn(16, 6)
        for top_k in (1, 2, 4):
            eaf = EAF(6, 4, top_k)
            eaf.gate.weight.data.normal_(0, 5)
            torch.testing.assert_close(eaf(x), x, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("experts", [1, 2, 5])
    def test_it_keeps_two_experts_unless_there_is_one(self, experts):
        assert EAF(6, experts).gate.top_k == min(2, experts)

    def test_it_has_4_residual_experts_by_default(self):
        eaf = EAF(6)
        assert eaf.num_experts == 4
        assert isinstance(eaf.experts, EXPERTS["residual"])

    @pytest.mark.parametrize(("top_k", "learns"), [(1, False), (2, True), (3, True), (4, True)])
    def test_the_gate_learns_exactly_if_two_experts_are_kept(self, top_k, learns):
        torch.manual_seed(0)
        eaf = alive(EAF(6, 4, top_k))
        eaf(torch.randn(16, 6)).square().sum().backward()
        gradient = eaf.gate.weight.grad
        assert bool(gradient.abs().max() > 1e-6) == learns

    def test_it_answers_in_float32_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            assert EAF(6)(torch.randn(3, 6).bfloat16()).dtype == torch.float32

    def test_a_row_does_not_depend_on_the_others(self):
        torch.manual_seed(0)
        eaf = alive(EAF(6))
        x = torch.randn(9, 6)
        torch.testing.assert_close(torch.cat([eaf(row[None]) for row in x]), eaf(x))

    def test_an_empty_batch_stays_empty(self):
        assert EAF(6).eval()(torch.zeros(0, 6)).shape == (0, 6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": 0}, "width"),
            ({"num_experts": 0}, "num_experts >= 1"),
            ({"top_k": 0}, "1 <= top_k <= num_experts=4, got 0"),
            ({"top_k": 5}, "1 <= top_k <= num_experts=4, got 5"),
            ({"expert": "cubic"}, "linear, bottleneck, residual"),
            ({"gate": "open"}, "softplus, noisy"),
            ({"combine": "sum"}, "linear or log"),
        ],
    )
    def test_what_is_not_possible_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            EAF(**{"width": 6, **options})


class TestLoad:
    def fixed(self, **options: object) -> EAF:
        """Three experts, two kept; the sign of the input decides which."""
        eaf = EAF(1, 3, 2, **options)
        eaf.gate.weight.data = torch.tensor([[2.0], [1.0], [-2.0]])
        return eaf

    def test_it_is_the_mean_weight_and_the_frequency_of_every_expert(self):
        eaf = self.fixed()
        x = torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
        eaf(x)
        weights = torch.tensor([gate_by_hand(r, eaf.gate.weight.tolist(), 2) for r in x.tolist()])
        torch.testing.assert_close(eaf.importance, weights.mean(0))
        assert eaf.frequency.tolist() == [0.75, 1.0, 0.25]

    def test_it_shows_a_collapse(self):
        eaf = self.fixed()
        eaf(torch.ones(10, 1))
        assert eaf.frequency.tolist() == [1, 1, 0]
        assert eaf.importance[2] == 0

    def test_it_is_of_the_latest_training_batch(self):
        eaf = self.fixed()
        eaf(torch.ones(4, 1))
        eaf(-torch.ones(4, 1))
        assert eaf.frequency.tolist() == [0, 1, 1]
        eaf.eval()(torch.ones(4, 1))
        assert eaf.frequency.tolist() == [0, 1, 1]

    def test_it_carries_no_gradient_and_is_not_saved(self):
        eaf = self.fixed()
        eaf(torch.ones(4, 1))
        assert not eaf.importance.requires_grad
        assert not eaf.frequency.requires_grad
        assert {key.split(".")[0] for key in eaf.state_dict()} == {"gate", "experts"}

    def test_there_is_no_penalty_by_default(self):
        eaf = self.fixed()
        eaf(torch.ones(4, 1))
        assert eaf.penalty is None

    def test_the_penalty_is_the_squared_variation_of_importance_and_load(self):
        eaf = self.fixed(balance=0.5)
        x = torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
        eaf(x)
        rows = [gate_by_hand(row, eaf.gate.weight.tolist(), 2) for row in x.tolist()]
        expected = 0.0
        for values in (
            [sum(row[j] for row in rows) for j in range(3)],
            [sum(row[j] > 0 for row in rows) for j in range(3)],
        ):
            mean = sum(values) / 3
            expected += 0.5 * sum((v - mean) ** 2 for v in values) / 3 / mean**2
        assert eaf.penalty.item() == pytest.approx(expected, rel=1e-5)

    def test_equal_use_costs_nothing(self):
        eaf = EAF(2, 2, 1, balance=1.0)
        eaf.gate.weight.data = torch.tensor([[1.0, 0], [0, 1]])
        eaf(torch.eye(2))
        assert eaf.penalty.item() == 0

    def test_one_of_n_experts_used_alone_costs_n_minus_1_twice(self):
        eaf = EAF(1, 5, 1, balance=1.0)
        eaf.gate.weight.data = torch.arange(5.0)[:, None]
        eaf(torch.ones(8, 1))
        assert eaf.penalty.item() == pytest.approx(8, rel=1e-5)

    def test_the_penalty_teaches_the_gate(self):
        torch.manual_seed(0)
        eaf = EAF(6, 4, 2, balance=1.0)
        eaf(torch.randn(32, 6))
        eaf.penalty.backward()
        assert eaf.gate.weight.grad.any()

    def test_a_pass_without_gradient_leaves_the_penalty(self):
        eaf = self.fixed(balance=1.0)
        eaf(torch.ones(4, 1))
        before = eaf.penalty
        with torch.no_grad():
            eaf(-torch.ones(4, 1))
        assert eaf.penalty is before

    def test_a_copy_does_without_the_penalty_and_its_graph(self):
        eaf = self.fixed(balance=1.0)
        eaf(torch.ones(4, 1))
        twin = copy.deepcopy(eaf)
        assert twin.penalty is None
        assert eaf.penalty is not None
        torch.testing.assert_close(twin(torch.ones(4, 1)), eaf(torch.ones(4, 1)))
        torch.testing.assert_close(twin.penalty, eaf.penalty)
