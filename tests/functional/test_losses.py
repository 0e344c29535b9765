"""Oracles: plain loops in float64, written from the papers' definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leaf_fer import functional as fn

# spec 0.3, test inputs TV-A
WEAK = [[4, 0, 0], [3, 0, 0], [0.5, 1.5, 0.2]]
STRONG = [[2, 1, 0.1], [0.5, 1.5, 0.2], [0.3, 0.9, -0.4]]
HARD_CE = [0.417030, 1.494947, 0.599574]

# spec 3.6
MIXED_LOGITS = [[1, 0.2, -0.3]]
MIXED_TARGET = [[0.897368, 0.071053, 0.031579]]

# spec 3.3: a linear network, an input, and the direction that changes its prediction most
NETWORK = [[1, 0.5], [-0.5, 2], [0.3, -1]]
INPUT = [0.4, -0.2]
DIRECTION = [0.066538, 0.997784]

# spec 4.7, eq. (14)
SCORES = [2, 1.2, 0.3, -0.5, -1, -0.2, 0.1]
RANKINGS = [
    ({0, 1}, 1.048880, [-0.201414, -0.448256, 0.206433, 0.092756, 0.056260, 0.125208, 0.169013]),
    ({0}, 0.705202, [-0.505991, 0.221972, 0.090247, 0.040551, 0.024595, 0.054738, 0.073888]),
    (
        {0, 1, 2},
        1.484401,
        [-0.088897, -0.197845, -0.486620, 0.161842, 0.098162, 0.218463, 0.294895],
    ),
    (
        {0, 1, 2, 3, 4, 5},
        2.137394,
        [-0.017643, -0.039266, -0.096579, -0.214941, -0.354377, -0.159232, 0.882038],
    ),
    ({3, 4}, 4.128158, [0.519919, 0.233615, 0.094981, -0.371458, -0.612430, 0.057609, 0.077764]),
    (set(range(7)), 0.0, [0.0] * 7),
]


def chosen(classes: set[int], count: int = 7) -> Tensor:
    return torch.tensor([[c in classes for c in range(count)]])


def random_sets(rows: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores in float64, and positive sets of every size from 1 to all classes."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    order = torch.rand(rows, classes, generator=generator).argsort(1).argsort(1)
    return scores, order < (torch.arange(rows) % classes + 1)[:, None]


def ranking_by_hand(y: list[float], positive: list[bool], margin: float = 0.0) -> float:
    """Eq. (14) term by term, with the margin of eq. (9)."""
    up = sum(math.exp(-v) for v, p in zip(y, positive, strict=True) if p)
    down = sum(math.exp(v) for v, p in zip(y, positive, strict=True) if not p)
    return math.log(1 + math.exp(margin) * up * down)


def entropy_by_hand(logits: list[float], target: list[float]) -> float:
    total = sum(math.exp(z) for z in logits)
    return -sum(t * math.log(math.exp(z) / total) for t, z in zip(target, logits, strict=True))


def random_logits(rows: int, classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


class TestCrossEntropy:
    def test_it_is_the_mean_over_the_batch(self):
        loss = fn.cross_entropy(torch.tensor(STRONG), torch.tensor(WEAK).argmax(1))
        torch.testing.assert_close(loss, torch.tensor(sum(HARD_CE) / 3), atol=1e-5, rtol=0)

    def test_soft_targets_weigh_the_log_probabilities(self):
        logits = torch.tensor(STRONG, dtype=torch.float64)
        target = torch.tensor(WEAK, dtype=torch.float64).softmax(1)
        expected = sum(map(entropy_by_hand, logits.tolist(), target.tolist())) / 3
        assert fn.cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-12)

    def test_mixed_targets_give_the_vector_of_the_specification(self):
        loss = fn.cross_entropy(torch.tensor(MIXED_LOGITS), torch.tensor(MIXED_TARGET))
        torch.testing.assert_close(loss, torch.tensor(0.641300), atol=1e-5, rtol=0)

    def test_uniform_logits_cost_the_log_of_the_class_count(self):
        loss = fn.cross_entropy(torch.zeros(4, 7), torch.tensor([0, 2, 4, 6]))
        assert loss.item() == pytest.approx(math.log(7))

    def test_its_gradient_is_right(self):
        logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        target = torch.tensor([0, 1, 4, 4])
        assert torch.autograd.gradcheck(lambda z: fn.cross_entropy(z, target), logits)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        logits = torch.tensor([[50.0, -50, 0]], dtype=dtype)
        loss = fn.cross_entropy(logits, torch.tensor([1]))
        assert loss.dtype == torch.float32
        assert loss.item() == 100

    def test_a_class_that_does_not_exist_is_an_error(self):
        with pytest.raises(IndexError):
            fn.cross_entropy(torch.zeros(1, 3), torch.tensor([3]))


class TestMaskedCrossEntropy:
    def test_masked_rows_count_as_zero_in_a_mean_over_all_rows(self):
        target, mask = torch.tensor(WEAK).argmax(1), torch.tensor([1.0, 0.0, 0.5])
        loss = fn.masked_cross_entropy(torch.tensor(STRONG), target, mask)
        expected = (HARD_CE[0] + 0.5 * HARD_CE[2]) / 3
        torch.testing.assert_close(loss, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_soft_targets_are_taken_too(self):
        logits = torch.tensor(STRONG, dtype=torch.float64)
        target = torch.tensor(WEAK, dtype=torch.float64).softmax(1)
        rows = list(map(entropy_by_hand, logits.tolist(), target.tolist()))
        loss = fn.masked_cross_entropy(logits, target, torch.tensor([0.0, 1.0, 1.0]))
        assert loss.item() == pytest.approx((rows[1] + rows[2]) / 3, rel=1e-12)

    def test_a_full_mask_is_cross_entropy(self):
        logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
        masked = fn.masked_cross_entropy(logits, target, torch.ones(6))
        torch.testing.assert_close(masked, fn.cross_entropy(logits, target))

    def test_an_empty_mask_costs_nothing_and_has_no_gradient(self):
        logits = torch.randn(3, 4, requires_grad=True)
        loss = fn.masked_cross_entropy(logits, torch.tensor([0, 1, 2]), torch.zeros(3))
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()

    def test_its_gradient_is_right(self):
        logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
        target, mask = torch.tensor([0, 1, 4]), torch.tensor([1.0, 0.3, 0.0])
        assert torch.autograd.gradcheck(
            lambda z: fn.masked_cross_entropy(z, target, mask.double()), logits
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        logits = torch.tensor([[50.0, -50, 0]], dtype=dtype)
        loss = fn.masked_cross_entropy(logits, torch.tensor([1]), torch.ones(1))
        assert loss.dtype == torch.float32
        assert loss.item() == 100

    def test_a_class_that_does_not_exist_is_an_error(self):
        with pytest.raises(IndexError):
            fn.masked_cross_entropy(torch.zeros(1, 3), torch.tensor([3]), torch.ones(1))


class TestSquaredError:
    def test_it_is_the_mean_over_classes_and_samples(self):
        p, q = random_logits(6, 5).softmax(1), random_logits(6, 5, seed=1).softmax(1)
        total = sum(
            (a - b) ** 2
            for row, other in zip(p.tolist(), q.tolist(), strict=True)
            for a, b in zip(row, other, strict=True)
        )
        assert fn.squared_error(p, q).item() == pytest.approx(total / 30, rel=1e-12)

    def test_it_gives_the_vector_of_the_specification(self):
        loss = fn.squared_error(torch.tensor(STRONG).softmax(1), torch.tensor(WEAK).softmax(1))
        torch.testing.assert_close(loss, torch.tensor(0.106991), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("row", "loss"), [(0, 0.050164), (1, 0.267515), (2, 0.003293)])
    def test_each_row_gives_its_vector_of_the_specification(self, row, loss):
        p, q = torch.tensor(STRONG).softmax(1), torch.tensor(WEAK).softmax(1)
        found = fn.squared_error(p[row : row + 1], q[row : row + 1])
        torch.testing.assert_close(found, torch.tensor(loss), atol=1e-5, rtol=0)

    def test_mixed_targets_give_the_vector_of_the_specification(self):
        p = torch.tensor(MIXED_LOGITS).softmax(1)
        loss = fn.squared_error(p, torch.tensor(MIXED_TARGET))
        torch.testing.assert_close(loss, torch.tensor(0.050784), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("classes", [2, 7, 8])
    def test_opposite_certainties_cost_2_over_the_class_count(self, classes):
        p, q = F.one_hot(torch.tensor([[0], [1]]), classes).float()
        assert fn.squared_error(p, q).item() == pytest.approx(2 / classes)

    def test_equal_distributions_cost_nothing(self):
        p = random_logits(4, 7).softmax(1)
        assert fn.squared_error(p, p.clone()).item() == 0

    def test_both_sides_may_have_a_gradient(self):
        p, q = random_logits(3, 4).softmax(1), random_logits(3, 4, seed=1).softmax(1)
        assert torch.autograd.gradcheck(fn.squared_error, (p.requires_grad_(), q.requires_grad_()))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        p, q = torch.tensor([[0.75, 0.25]], dtype=dtype), torch.tensor([[0.5, 0.5]], dtype=dtype)
        loss = fn.squared_error(p, q)
        assert loss.dtype == torch.float32
        assert loss.item() == 0.0625

    def test_different_class_counts_are_an_error(self):
        with pytest.warns(UserWarning, match="target size"), pytest.raises(RuntimeError):
            fn.squared_error(torch.zeros(2, 3), torch.zeros(2, 4))


def divergence_by_hand(target: list[float], logits: list[float]) -> float:
    """Sum of q log(q / p), where a q of 0 adds nothing."""
    total = sum(math.exp(z) for z in logits)
    pairs = zip(target, (math.exp(z) / total for z in logits), strict=True)
    return sum(q * math.log(q / p) for q, p in pairs if q > 0)


class TestDivergence:
    def test_it_is_the_mean_over_the_batch(self):
        q, z = random_logits(20, 7).softmax(1), random_logits(20, 7, seed=1)
        expected = sum(map(divergence_by_hand, q.tolist(), z.tolist())) / 20
        assert fn.divergence(q, z).item() == pytest.approx(expected, rel=1e-12)

    def test_sharpened_targets_give_the_vector_of_the_specification(self):
        # spec 3.4: the third row is not confident and counts as zero in a mean over three
        q, z = (torch.tensor(WEAK) / 0.4).softmax(1)[:2], torch.tensor(STRONG)[:2]
        found = fn.divergence(q, z) * 2 / 3
        torch.testing.assert_close(found, torch.tensor(0.633777), atol=1e-5, rtol=0)

    def test_the_cross_entropy_form_gives_the_vector_of_the_specification(self):
        q, z = (torch.tensor(WEAK) / 0.4).softmax(1), torch.tensor(STRONG)
        found = fn.masked_cross_entropy(z, q, torch.tensor([1.0, 1, 0]))
        torch.testing.assert_close(found, torch.tensor(0.637241), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("radius", "loss"), [(0.5, 0.148950), (1.0, 0.579558)])
    def test_an_adversarial_shift_gives_the_vectors_of_the_specification(self, radius, loss):
        weight, x = torch.tensor(NETWORK), torch.tensor(INPUT)
        clean = weight @ x
        moved = weight @ (x + radius * torch.tensor(DIRECTION))
        found = fn.divergence(clean.softmax(0)[None], moved[None])
        torch.testing.assert_close(found, torch.tensor(loss), atol=1e-5, rtol=0)

    def test_the_prediction_itself_costs_nothing(self):
        z = random_logits(10, 7)
        assert fn.divergence(z.softmax(1), z).item() == pytest.approx(0, abs=1e-15)

    def test_it_is_never_negative(self):
        for seed in range(20):
            q, z = random_logits(1, 7, seed).softmax(1), random_logits(1, 7, seed + 100)
            assert fn.divergence(q, z).item() >= 0

    def test_a_certain_target_makes_it_cross_entropy(self):
        z, label = random_logits(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
        found = fn.divergence(F.one_hot(label, 4).double(), z)
        torch.testing.assert_close(found, fn.cross_entropy(z, label))

    def test_it_is_cross_entropy_less_the_entropy_of_the_target(self):
        z, other = random_logits(6, 4), random_logits(6, 4, seed=1)
        expected = fn.cross_entropy(z, other.softmax(1)) - fn.entropy(other)
        torch.testing.assert_close(fn.divergence(other.softmax(1), z), expected)

    def test_it_has_the_gradient_of_cross_entropy(self):
        q = random_logits(6, 4).softmax(1)
        y, z = (random_logits(6, 4, seed=1).requires_grad_() for _ in range(2))
        fn.divergence(q, y).backward()
        fn.cross_entropy(z, q).backward()
        torch.testing.assert_close(y.grad, z.grad)

    def test_its_gradient_is_right(self):
        q, z = random_logits(3, 4).softmax(1), random_logits(3, 4, seed=1)
        assert torch.autograd.gradcheck(lambda z: fn.divergence(q, z), z.requires_grad_())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        target = torch.tensor([[0.0, 1, 0]], dtype=dtype)
        loss = fn.divergence(target, torch.tensor([[50.0, -50, 0]], dtype=dtype))
        assert loss.dtype == torch.float32
        assert loss.item() == 100

    def test_different_class_counts_are_an_error(self):
        with pytest.raises(RuntimeError):
            fn.divergence(torch.full((2, 4), 0.25), torch.zeros(2, 3))


class TestEntropy:
    def test_it_is_the_mean_over_the_batch(self):
        z = random_logits(20, 7)
        rows = z.softmax(1).tolist()
        expected = -sum(p * math.log(p) for row in rows for p in row) / 20
        assert fn.entropy(z).item() == pytest.approx(expected, rel=1e-12)

    def test_it_gives_the_vector_of_the_specification(self):
        logits = torch.tensor(NETWORK) @ torch.tensor(INPUT)
        found = fn.entropy(logits[None])
        torch.testing.assert_close(found, torch.tensor(1.028935), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("classes", [2, 7, 8])
    def test_uniform_logits_have_the_log_of_the_class_count(self, classes):
        assert fn.entropy(torch.full((3, classes), 5.0)).item() == pytest.approx(math.log(classes))

    def test_a_certain_prediction_has_none_and_a_finite_gradient(self):
        z = torch.tensor([[1000.0, -1000, 0]], requires_grad=True)
        loss = fn.entropy(z)
        loss.backward()
        assert loss.item() == 0
        assert z.grad.isfinite().all()

    def test_adding_a_number_to_all_logits_changes_nothing(self):
        z = random_logits(5, 7)
        torch.testing.assert_close(fn.entropy(z + 12.5), fn.entropy(z))

    def test_its_gradient_is_right(self):
        assert torch.autograd.gradcheck(fn.entropy, random_logits(3, 4).requires_grad_())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        loss = fn.entropy(torch.zeros(2, 7, dtype=dtype))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(math.log(7), rel=1e-6)

    def test_logits_without_a_batch_are_an_error(self):
        with pytest.raises(IndexError):
            fn.entropy(torch.zeros(3))


class TestAmbiguousLoss:
    @pytest.mark.parametrize("classes", [2, 3, 7, 8])
    @pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
    def test_it_is_equation_14(self, classes, margin):
        scores, positive = random_sets(100, classes)
        expected = [
            ranking_by_hand(y, p, margin)
            for y, p in zip(scores.tolist(), positive.tolist(), strict=True)
        ]
        found = fn.ambiguous_loss(scores, positive, margin)
        assert found.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize(("classes", "loss", "gradient"), RANKINGS)
    def test_it_gives_the_vectors_of_the_specification(self, classes, loss, gradient):
        y = torch.tensor([SCORES], requires_grad=True)
        found = fn.ambiguous_loss(y, chosen(classes)).sum()
        found.backward()
        torch.testing.assert_close(found.detach(), torch.tensor(loss), atol=1e-5, rtol=0)
        torch.testing.assert_close(y.grad, torch.tensor([gradient]), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("margin", "loss"), [(0.5, 1.400561), (1.0, 1.798557)])
    def test_a_margin_gives_the_vectors_of_the_specification(self, margin, loss):
        found = fn.ambiguous_loss(torch.tensor([SCORES]), chosen({0, 1}), margin)
        torch.testing.assert_close(found, torch.tensor([loss]), atol=1e-5, rtol=0)

    def test_probabilities_give_the_vector_of_the_specification(self):
        y = torch.tensor([SCORES]).softmax(1)
        found = fn.ambiguous_loss(y, chosen({0, 1}))
        torch.testing.assert_close(found, torch.tensor([2.136528]), atol=1e-5, rtol=0)

    def test_it_gives_the_vector_of_the_contract(self):
        y = torch.tensor([[2.0, 1, 0, -1]])
        found = fn.ambiguous_loss(y, chosen({0, 1}, 4))
        torch.testing.assert_close(found, torch.tensor([0.523744]), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("classes", "bound"), [(7, 1.165422), (8, 1.274009)])
    def test_perfect_probabilities_still_cost_the_bound_of_the_specification(self, classes, bound):
        perfect = F.one_hot(torch.tensor([2]), classes)
        found = fn.ambiguous_loss(perfect.float(), perfect.bool())
        torch.testing.assert_close(found, torch.tensor([bound]), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("soft", "norm"), [(False, 0.583), (True, 0.104)])
    def test_probabilities_shrink_the_gradient_as_the_specification_says(self, soft, norm):
        z = torch.tensor([SCORES], requires_grad=True)
        fn.ambiguous_loss(z.softmax(1) if soft else z, chosen({0, 1})).sum().backward()
        assert z.grad.norm().item() == pytest.approx(norm, abs=5e-4)

    @pytest.mark.parametrize("classes", [2, 7, 8])
    def test_one_positive_class_is_cross_entropy_with_it(self, classes):
        scores, _ = random_sets(50, classes, seed=1)
        label = torch.arange(50) % classes
        found = fn.ambiguous_loss(scores, F.one_hot(label, classes).bool())
        expected = F.cross_entropy(scores, label, reduction="none")
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)

    def test_one_positive_class_has_the_gradient_of_cross_entropy(self):
        scores, _ = random_sets(50, 7, seed=2)
        label = torch.arange(50) % 7
        y, z = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        fn.ambiguous_loss(y, F.one_hot(label, 7).bool()).sum().backward()
        F.cross_entropy(z, label, reduction="sum").backward()
        torch.testing.assert_close(y.grad, z.grad, rtol=1e-12, atol=1e-13)

    def test_a_perfect_ranking_costs_nothing_in_the_limit(self):
        y = torch.tensor([[40.0, 40, -40, -40]])
        assert fn.ambiguous_loss(y, chosen({0, 1}, 4)).item() < 1e-30

    def test_a_wrong_ranking_costs_the_gap_in_the_limit(self):
        y = torch.tensor([[-100.0, 100, -100]])
        assert fn.ambiguous_loss(y, chosen({0}, 3)).item() == 200

    def test_it_is_finite_where_the_naive_form_overflows(self):
        found = fn.ambiguous_loss(torch.tensor([[100.0, -100, 50]]), chosen({1}, 3))
        torch.testing.assert_close(found, torch.tensor([200.0]))

    def test_it_bounds_the_hinge_of_equation_10(self):
        scores, positive = random_sets(100, 7, seed=3)
        highest = scores.masked_fill(positive, -math.inf).amax(1)
        lowest = scores.masked_fill(~positive, math.inf).amin(1)
        hinge = (highest - lowest).clamp_min(0)
        assert (fn.ambiguous_loss(scores, positive) >= hinge).all()

    @pytest.mark.parametrize("margin", [0.0, 3.0])
    def test_a_sample_without_negative_classes_costs_exactly_nothing(self, margin):
        y = torch.tensor([SCORES, [50.0] * 7, [-1e6] * 7], requires_grad=True)
        loss = fn.ambiguous_loss(y, torch.ones(3, 7, dtype=torch.bool), margin)
        loss.sum().backward()
        assert loss.tolist() == [0, 0, 0]
        assert not y.grad.any()

    def test_a_sample_without_negative_classes_leaves_its_neighbors_alone(self):
        y = torch.tensor([SCORES, SCORES], requires_grad=True)
        positive = torch.cat([chosen(set(range(7))), chosen({0, 1})])
        fn.ambiguous_loss(y, positive).sum().backward()
        assert not y.grad[0].any()
        torch.testing.assert_close(y.grad[1], torch.tensor(RANKINGS[0][2]), atol=1e-5, rtol=0)

    def test_its_gradient_sums_to_0_over_the_classes(self):
        scores, positive = random_sets(100, 7, seed=4)
        scores.requires_grad_()
        fn.ambiguous_loss(scores, positive).sum().backward()
        torch.testing.assert_close(
            scores.grad.sum(1), torch.zeros(100).double(), rtol=0, atol=1e-14
        )

    def test_descent_raises_positive_and_lowers_negative_classes(self):
        scores, positive = random_sets(100, 7, seed=5)
        scores.requires_grad_()
        fn.ambiguous_loss(scores, positive).sum().backward()
        assert (scores.grad[positive] <= 0).all()
        assert (scores.grad[~positive] >= 0).all()

    def test_adding_a_number_to_all_scores_changes_nothing(self):
        scores, positive = random_sets(50, 7, seed=6)
        torch.testing.assert_close(
            fn.ambiguous_loss(scores + 12.5, positive), fn.ambiguous_loss(scores, positive)
        )

    def test_renaming_the_classes_changes_nothing(self):
        scores, positive = random_sets(50, 7, seed=7)
        order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
        torch.testing.assert_close(
            fn.ambiguous_loss(scores[:, order], positive[:, order]),
            fn.ambiguous_loss(scores, positive),
        )

    def test_its_gradient_is_right(self):
        scores, positive = random_sets(7, 4, seed=8)
        assert torch.autograd.gradcheck(
            lambda y: fn.ambiguous_loss(y, positive, 0.3), scores.requires_grad_()
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_large_scores_stay_finite_in_every_precision(self, dtype):
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (200, 7), generator=generator) * 2 - 1
        y = (50 * signs).to(dtype).requires_grad_()
        _, positive = random_sets(200, 7)
        loss = fn.ambiguous_loss(y, positive)
        loss.sum().backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite().all()
        assert y.grad.isfinite().all()

    def test_a_negative_margin_is_refused(self):
        with pytest.raises(ValueError, match="margin >= 0"):
            fn.ambiguous_loss(torch.zeros(1, 3), chosen({0}, 3), -0.1)


class TestAmbiguousConsistency:
    def test_it_is_the_mean_over_all_samples(self):
        scores, positive = random_sets(21, 7, seed=9)
        rows = [
            ranking_by_hand(y, p, 0.2)
            for y, p in zip(scores.tolist(), positive.tolist(), strict=True)
        ]
        found = fn.ambiguous_consistency(scores, positive, 0.2)
        assert found.item() == pytest.approx(sum(rows) / 21, rel=1e-12)

    def test_samples_without_negative_classes_stay_in_the_denominator(self):
        y = torch.tensor([SCORES, SCORES])
        positive = torch.cat([chosen(set(range(7))), chosen({0, 1})])
        found = fn.ambiguous_consistency(y, positive)
        torch.testing.assert_close(found, torch.tensor(1.048880 / 2), atol=1e-5, rtol=0)

    def test_its_gradient_is_right(self):
        scores, positive = random_sets(5, 4, seed=10)
        assert torch.autograd.gradcheck(
            lambda y: fn.ambiguous_consistency(y, positive), scores.requires_grad_()
        )

    def test_masked_samples_count_as_zero_in_a_mean_over_all(self):
        scores, positive = random_sets(9, 7, seed=11)
        mask = torch.tensor([1, 0, 0.5, 1, 0, 0.25, 1, 1, 0])
        rows = [
            m * ranking_by_hand(y, p, 0.2)
            for m, y, p in zip(mask.tolist(), scores.tolist(), positive.tolist(), strict=True)
        ]
        found = fn.ambiguous_consistency(scores, positive, 0.2, mask)
        assert found.item() == pytest.approx(sum(rows) / 9, rel=1e-12)

    def test_a_full_mask_is_no_mask(self):
        scores, positive = random_sets(9, 7, seed=12)
        masked = fn.ambiguous_consistency(scores, positive, mask=torch.ones(9))
        assert torch.equal(masked, fn.ambiguous_consistency(scores, positive))

    def test_an_empty_mask_costs_nothing_and_has_no_gradient(self):
        scores, positive = random_sets(9, 7, seed=13)
        scores.requires_grad_()
        loss = fn.ambiguous_consistency(scores, positive, mask=torch.zeros(9))
        loss.backward()
        assert loss.item() == 0
        assert not scores.grad.any()

    def test_only_samples_of_the_mask_have_a_gradient(self):
        y = torch.tensor([SCORES, SCORES, SCORES], requires_grad=True)
        positive = chosen({0, 1}).expand(3, -1)
        fn.ambiguous_consistency(y, positive, mask=torch.tensor([0.0, 1, 0.5])).backward()
        row = torch.tensor(RANKINGS[0][2]) / 3
        expected = torch.stack([0 * row, row, row / 2])
        torch.testing.assert_close(y.grad, expected, atol=1e-5, rtol=0)

    def test_its_gradient_under_a_mask_is_right(self):
        scores, positive = random_sets(5, 4, seed=14)
        mask = torch.tensor([1, 0, 0.3, 1, 0.7]).double()
        assert torch.autograd.gradcheck(
            lambda y: fn.ambiguous_consistency(y, positive, mask=mask), scores.requires_grad_()
        )

    def test_a_mask_of_the_wrong_length_is_an_error(self):
        with pytest.raises(RuntimeError):
            fn.ambiguous_consistency(torch.zeros(3, 7), chosen({0}), mask=torch.ones(2))

    def test_a_negative_margin_is_refused(self):
        with pytest.raises(ValueError, match="margin >= 0"):
            fn.ambiguous_consistency(torch.zeros(1, 3), chosen({0}, 3), -0.1)


# spec 3.17
FIRST = [[1, 0.5, 0.1], [0.4, 1, 0.3], [0.2, 0.6, 1]]
SECOND = [[0.9, 0.6, 0.3], [0.5, 1, 0.2], [0.6, 0.5, 1]]


def contrast_by_hand(first: Tensor, second: Tensor, keep: Tensor, temperature: float) -> float:
    """SimCLR, eq. (1), over the kept samples: a loop over 2n anchors."""
    kept = [i for i, k in enumerate(keep.tolist()) if k]
    n = len(kept)
    z = [first[i].tolist() for i in kept] + [second[i].tolist() for i in kept]
    if n == 0:
        return 0.0
    total = 0.0
    for i in range(2 * n):
        sims = [
            math.exp(sum(a * b for a, b in zip(z[i], z[k], strict=True)) / temperature)
            for k in range(2 * n)
        ]
        total -= math.log(sims[(i + n) % (2 * n)] / (sum(sims) - sims[i]))
    return total / (2 * n)


def unit(rows: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


class TestNTXent:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_the_loop_over_anchors(self, temperature, seed):
        generator = torch.Generator().manual_seed(seed)
        first, second = F.normalize(
            torch.randn(2, 9, 4, generator=generator, dtype=torch.float64), dim=2
        )
        keep = (torch.rand(9, generator=generator) < 0.6).float()
        found = fn.nt_xent(first, second, keep, temperature).item()
        expected = contrast_by_hand(first, second, keep, temperature)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)

    @pytest.mark.parametrize(("temperature", "loss"), [(0.07, 0.196030), (0.5, 1.240806)])
    def test_it_gives_the_vectors_of_the_specification(self, temperature, loss):
        found = fn.nt_xent(unit(FIRST), unit(SECOND), torch.ones(3), temperature)
        assert found.item() == pytest.approx(loss, abs=1e-5)

    def test_samples_that_are_not_kept_do_not_matter(self):
        first, second = unit(FIRST), unit(SECOND)
        more = unit([[1.0, -1, 2], [0.3, 0.3, 0.3]])
        keep = torch.tensor([0.0, 1, 1, 1, 0])
        found = fn.nt_xent(
            torch.cat([more[:1], first, more[1:]]), torch.cat([more[1:], second, more[:1]]), keep
        )
        torch.testing.assert_close(found, fn.nt_xent(first, second, torch.ones(3)))

    def test_one_pair_costs_nothing(self):
        assert fn.nt_xent(unit(FIRST), unit(SECOND), torch.tensor([0.0, 1, 0])).item() == 0

    def test_equal_features_cost_the_log_of_the_candidates(self):
        same = unit([[1.0, 0, 0]]).expand(4, -1)
        assert fn.nt_xent(same, same, torch.ones(4)).item() == pytest.approx(math.log(7))

    @pytest.mark.parametrize("kept", [0, 1])
    def test_too_few_pairs_have_no_gradient(self, kept):
        first = unit(FIRST).float().requires_grad_()
        keep = torch.zeros(3)
        keep[:kept] = 1
        loss = fn.nt_xent(first, unit(SECOND).float(), keep)
        loss.backward()
        assert loss.item() == 0
        assert first.grad.isfinite().all()
        assert first.grad.abs().max() < 1e-6

    def test_samples_that_are_not_kept_have_no_gradient(self):
        first, second = unit(FIRST).requires_grad_(), unit(SECOND).requires_grad_()
        fn.nt_xent(first, second, torch.tensor([1.0, 0, 1])).backward()
        assert not first.grad[1].any()
        assert not second.grad[1].any()
        assert first.grad[0].any()
        assert second.grad[0].any()

    def test_its_gradient_is_right(self):
        keep = torch.tensor([1.0, 1, 0])
        assert torch.autograd.gradcheck(
            lambda a, b: fn.nt_xent(a, b, keep, 0.5),
            (unit(FIRST).requires_grad_(), unit(SECOND).requires_grad_()),
        )

    def test_autocast_does_not_make_it_coarser(self):
        first, second = unit(FIRST).float(), unit(SECOND).float()
        with torch.autocast("cpu", torch.bfloat16):
            found = fn.nt_xent(first, second, torch.ones(3))
        torch.testing.assert_close(found, torch.tensor(0.196030), atol=1e-5, rtol=0)

    def test_views_of_different_sizes_are_an_error(self):
        with pytest.raises(RuntimeError):
            fn.nt_xent(torch.eye(3), torch.eye(3)[:2], torch.ones(3))


# spec 3.11
AGREEING = [[0.85, 0.10, 0.05], [0.80, 0.15, 0.05], [0.10, 0.80, 0.10]]
ONE = [[1, 0.1], [0.8, 0.4], [0.2, 1]]
TWO = [[0.9, 0.3], [1, 0], [-0.1, 1]]


def graph_by_hand(
    p: list[list[float]],
    first: list[list[float]],
    second: list[list[float]],
    edge: float,
    temperature: float,
) -> float:
    """CoMatch, eqs. (7)-(10), pair by pair."""
    count, total = len(p), 0.0
    for b in range(count):
        graph = [1.0 if b == j else dot(p[b], p[j]) for j in range(count)]
        graph = [w if w >= edge else 0.0 for w in graph]
        close = [math.exp(dot(first[b], second[j]) / temperature) for j in range(count)]
        for j in range(count):
            total -= graph[j] / sum(graph) * math.log(close[j] / sum(close))
    return total / count


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def edges(probabilities: Tensor, edge: float) -> Tensor:
    """The normalized graph, read off the gradient at embeddings that are all equally close."""
    count = len(probabilities)
    first = torch.zeros(count, count, requires_grad=True)
    fn.graph_contrast(probabilities, first, torch.eye(count), edge=edge, temperature=1).backward()
    return 1 / count - count * first.grad


class TestGraphContrast:
    @pytest.mark.parametrize("edge", [0.0, 0.3, 0.6, 1.0])
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_the_loop_over_pairs(self, edge, seed):
        p = random_logits(9, 3, seed).softmax(1)
        first, second = (F.normalize(random_logits(9, 4, seed + k)) for k in (10, 20))
        found = fn.graph_contrast(p, first, second, edge=edge, temperature=0.3)
        expected = graph_by_hand(p.tolist(), first.tolist(), second.tolist(), edge, 0.3)
        assert found.item() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("edge", "loss"), [(0.8, 0.616130), (0.6, 0.537293)])
    def test_it_gives_the_vectors_of_the_specification(self, edge, loss):
        p = torch.tensor(AGREEING)
        found = fn.graph_contrast(p, unit(ONE).float(), unit(TWO).float(), edge=edge)
        torch.testing.assert_close(found, torch.tensor(loss), atol=1e-5, rtol=0)

    def test_the_graph_gives_the_vector_of_the_specification(self):
        found = edges(torch.tensor(AGREEING), 0.6)
        expected = [[0.589102, 0.410898, 0], [0.410898, 0.589102, 0], [0, 0, 1]]
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_without_a_least_similarity_every_pair_has_its_edge(self):
        found = edges(torch.tensor(AGREEING), 0.0)
        graph = torch.tensor([[1, 0.6975, 0.17], [0.6975, 1, 0.205], [0.17, 0.205, 1]])
        torch.testing.assert_close(found, graph / graph.sum(1, keepdim=True), atol=1e-6, rtol=0)

    def test_exactly_the_least_similarity_is_enough(self):
        p = torch.tensor([[1.0, 0], [0.5, 0.5]])
        expected = [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]
        torch.testing.assert_close(edges(p, 0.5), torch.tensor(expected))

    def test_a_sample_that_agrees_with_none_keeps_the_edge_to_itself(self):
        p = torch.full((3, 4), 0.25)
        torch.testing.assert_close(edges(p, 0.5), torch.eye(3))

    def test_without_edges_between_samples_each_view_finds_its_partner(self):
        p = random_logits(6, 4).softmax(1)
        first, second = F.normalize(random_logits(6, 3, 1)), F.normalize(random_logits(6, 3, 2))
        found = fn.graph_contrast(p, first, second, edge=1.0, temperature=0.5)
        expected = F.cross_entropy(first @ second.T / 0.5, torch.arange(6))
        torch.testing.assert_close(found, expected)

    def test_equal_embeddings_cost_the_log_of_the_batch_size(self):
        same = unit([[1.0, 0]]).expand(5, -1)
        found = fn.graph_contrast(random_logits(5, 3).softmax(1), same, same)
        assert found.item() == pytest.approx(math.log(5))

    def test_one_sample_costs_nothing(self):
        found = fn.graph_contrast(torch.tensor([[0.5, 0.5]]), unit(ONE)[:1], unit(TWO)[:1])
        assert found.item() == 0

    def test_the_order_of_the_samples_does_not_matter(self):
        p, first, second = torch.tensor(AGREEING), unit(ONE), unit(TWO)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(
            fn.graph_contrast(p[order], first[order], second[order], edge=0.6),
            fn.graph_contrast(p, first, second, edge=0.6),
        )

    def test_the_gradients_of_both_views_are_right(self):
        p = torch.tensor(AGREEING, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda a, b: fn.graph_contrast(p, a, b, edge=0.6),
            (unit(ONE).requires_grad_(), unit(TWO).requires_grad_()),
        )

    def test_it_leaves_the_pseudo_labels_as_they_are(self):
        p = torch.tensor(AGREEING)
        fn.graph_contrast(p, unit(ONE), unit(TWO))
        assert torch.equal(p, torch.tensor(AGREEING))

    def test_autocast_does_not_make_it_coarser(self):
        p, first, second = torch.tensor(AGREEING), unit(ONE).float(), unit(TWO).float()
        with torch.autocast("cpu", torch.bfloat16):
            found = fn.graph_contrast(p, first, second, edge=0.6)
        torch.testing.assert_close(found, torch.tensor(0.537293), atol=1e-5, rtol=0)

    def test_half_precision_is_computed_in_float32(self):
        given = [t.bfloat16() for t in (torch.tensor(AGREEING), unit(ONE), unit(TWO))]
        found = fn.graph_contrast(*given, edge=0.6)
        assert found.dtype == torch.float32
        assert torch.equal(found, fn.graph_contrast(*(t.float() for t in given), edge=0.6))

    def test_views_of_different_sizes_are_an_error(self):
        with pytest.raises(RuntimeError):
            fn.graph_contrast(torch.tensor(AGREEING), unit(ONE), unit(TWO)[:2])
