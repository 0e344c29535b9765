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


class TestCrossEntropy:
    def test_it_is_the_mean_over_the_batch(self):
        loss = fn.cross_entropy(torch.tensor(STRONG), torch.tensor(WEAK).argmax(1))
        torch.testing.assert_close(loss, torch.tensor(sum(HARD_CE) / 3), atol=1e-5, rtol=0)

    def test_soft_targets_weigh_the_log_probabilities(self):
        logits = torch.tensor(STRONG, dtype=torch.float64)
        target = torch.tensor(WEAK, dtype=torch.float64).softmax(1)
        expected = sum(map(entropy_by_hand, logits.tolist(), target.tolist())) / 3
        assert fn.cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-12)

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
