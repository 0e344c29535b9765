"""Oracles: plain loops over one row in float64, written from the papers' definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from leaf_fer import functional as fn

# spec 4.7: sorted probabilities, m of eq. (8), m of the released code, weight of the released code
PARTITIONS = [
    ([0.55, 0.20, 0.12, 0.06, 0.04, 0.02, 0.01], 4, 3, 0.893001),
    ([0.93, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002], 1, 1, 0.980777),
    ([0.85, 0.07, 0.04, 0.02, 0.01, 0.006, 0.004], 2, 1, 0.950401),
    ([0.30, 0.25, 0.20, 0.12, 0.08, 0.04, 0.01], 5, 3, 0.715600),
    ([1 / 7] * 7, 7, 3, 0.0),
    ([1 / 8] * 8, 8, 3, 0.0),
]


def distributions(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(count, 1, generator=generator, dtype=torch.float64) * 5
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return (logits * sharpness).softmax(1)


def first_classes(row: list[float], mass: float) -> list[bool]:
    """Eqs. (6)-(8): the m most probable classes, m the smallest count whose sum reaches T."""
    order = sorted(range(len(row)), key=lambda c: (-row[c], c))
    total = 0.0
    m = len(row)
    for count, c in enumerate(order, start=1):
        total += row[c]
        if total >= mass:
            m = count
            break
    return [c in order[:m] for c in range(len(row))]


def released(row: list[float], mass: float = 0.9) -> tuple[list[bool], float]:
    """The walk of the released code over the sorted cumulative sum, among the top 4 classes."""
    order = sorted(range(len(row)), key=lambda c: (-row[c], c))
    stop = min(3, len(row) - 1)
    place = stop
    for i in range(1, stop + 1):
        if sum(row[c] for c in order[: i + 1]) >= mass:
            place = i
            break
    mean = sum(row[c] for c in order[: place + 1]) / (place + 1)
    weight = math.log(1 + 50 * (mean - row[order[place]])) / math.log(1 + 50 * mean)
    return [c in order[:place] for c in range(len(row))], min(1.0, weight)


class TestCandidateSet:
    @pytest.mark.parametrize("classes", [2, 3, 7, 8])
    @pytest.mark.parametrize("mass", [0.0, 0.3, 0.9, 0.99, 1.0])
    def test_it_is_the_set_of_the_definition(self, classes, mass):
        q = distributions(200, classes)
        expected = [first_classes(row, mass) for row in q.tolist()]
        assert fn.candidate_set(q, mass).tolist() == expected

    @pytest.mark.parametrize(("row", "m"), [(row, m) for row, m, _, _ in PARTITIONS])
    def test_it_has_as_many_classes_as_the_paper_rule(self, row, m):
        assert fn.candidate_set(torch.tensor([row])).tolist() == [
            [True] * m + [False] * (len(row) - m)
        ]

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ([0.70, 0.15, 0.10, 0.05], [True, True, True, False]),
            ([0.95, 0.03, 0.01, 0.01], [True, False, False, False]),
            ([0.25, 0.25, 0.25, 0.25], [True, True, True, True]),
        ],
    )
    def test_it_gives_the_vectors_of_the_contract(self, row, expected):
        assert fn.candidate_set(torch.tensor([row]), 0.9).tolist() == [expected]

    def test_it_keeps_the_fewest_classes_that_reach_the_mass(self):
        q = distributions(300, 7, seed=1)
        positive = fn.candidate_set(q, 0.9)
        reached = (q * positive).sum(1)
        smallest_kept = q.masked_fill(~positive, 2).amin(1)
        assert (reached >= 0.9).all()
        assert (reached - smallest_kept < 0.9).all()

    def test_no_mass_leaves_the_most_probable_class(self):
        q = distributions(50, 7)
        expected = torch.nn.functional.one_hot(q.argmax(1), 7).bool()
        assert torch.equal(fn.candidate_set(q, 0.0), expected)

    def test_ties_keep_the_class_of_lower_id(self):
        q = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.05, 0.05, 0.45, 0.45]])
        assert fn.candidate_set(q, 0.6).tolist() == [
            [False, True, True, False],
            [False, False, True, True],
        ]
        assert fn.candidate_set(q, 0.3).tolist() == [
            [False, True, False, False],
            [False, False, True, False],
        ]

    def test_all_classes_are_kept_if_rounding_leaves_their_sum_below_the_mass(self):
        q = torch.full((1, 7), 0.142857)
        assert q.sum() < 1
        assert fn.candidate_set(q, 1.0).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_the_sum_of_half_precision_probabilities_is_taken_in_float32(self, dtype):
        q = distributions(200, 7).to(dtype)
        assert torch.equal(fn.candidate_set(q, 0.9), fn.candidate_set(q.float(), 0.9))

    def test_renaming_the_classes_renames_the_set(self):
        q = distributions(100, 7)
        order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
        assert torch.equal(fn.candidate_set(q[:, order]), fn.candidate_set(q)[:, order])

    def test_an_empty_batch_stays_empty(self):
        assert fn.candidate_set(torch.zeros(0, 7)).shape == (0, 7)

    @pytest.mark.parametrize("mass", [-0.1, 1.1, math.nan])
    def test_a_mass_outside_0_to_1_is_refused(self, mass):
        with pytest.raises(ValueError, match="0 <= mass <= 1"):
            fn.candidate_set(torch.full((1, 4), 0.25), mass)


class TestFuzzySet:
    @pytest.mark.parametrize("classes", [2, 3, 4, 7, 8])
    def test_it_is_the_walk_of_the_released_code(self, classes):
        q = distributions(200, classes, seed=2)
        positive, weight = fn.fuzzy_set(q)
        expected = [released(row) for row in q.tolist()]
        assert positive.tolist() == [p for p, _ in expected]
        torch.testing.assert_close(weight, torch.tensor([w for _, w in expected]).double())

    @pytest.mark.parametrize(("row", "m", "w"), [(row, m, w) for row, _, m, w in PARTITIONS])
    def test_it_gives_the_vectors_of_the_specification(self, row, m, w):
        positive, weight = fn.fuzzy_set(torch.tensor([row]))
        assert positive.tolist() == [[True] * m + [False] * (len(row) - m)]
        torch.testing.assert_close(weight, torch.tensor([w]), atol=1e-5, rtol=0)

    def test_it_has_one_class_fewer_than_the_paper_rule_within_1_and_3(self):
        q = distributions(300, 7, seed=3)
        paper = fn.candidate_set(q).sum(1)
        assert torch.equal(fn.fuzzy_set(q)[0].sum(1), (paper - 1).clamp(1, 3))

    def test_weights_lie_in_0_to_1(self):
        weight = fn.fuzzy_set(distributions(1000, 8, seed=4))[1]
        assert ((weight >= 0) & (weight <= 1)).all()

    def test_a_certain_sample_has_weight_1(self):
        q = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]])
        torch.testing.assert_close(fn.fuzzy_set(q)[1], torch.ones(1))

    def test_ties_keep_the_class_of_lower_id(self):
        positive, _ = fn.fuzzy_set(torch.full((1, 7), 1 / 7))
        assert positive.tolist() == [[True, True, True, False, False, False, False]]

    def test_the_cap_can_be_moved(self):
        q = torch.full((1, 8), 1 / 8)
        assert [int(fn.fuzzy_set(q, most=most)[0].sum()) for most in (1, 2, 5, 100)] == [1, 2, 5, 7]

    @pytest.mark.parametrize("most", [0, -1])
    def test_a_cap_below_1_is_refused(self, most):
        with pytest.raises(ValueError, match="most >= 1"):
            fn.fuzzy_set(torch.full((1, 4), 0.25), most=most)

    @pytest.mark.parametrize("mass", [-0.1, 1.1, math.nan])
    def test_a_mass_outside_0_to_1_is_refused(self, mass):
        with pytest.raises(ValueError, match="0 <= mass <= 1"):
            fn.fuzzy_set(torch.full((1, 4), 0.25), mass)


class TestConfident:
    def test_it_is_argmax_and_an_inclusive_comparison(self):
        q = distributions(200, 7, seed=5)
        label, mask = fn.confident(q, 0.6)
        for row, found, kept in zip(q.tolist(), label.tolist(), mask.tolist(), strict=True):
            best = max(range(7), key=lambda c: (row[c], -c))
            assert found == best
            assert kept == float(row[best] >= 0.6)

    @pytest.mark.parametrize("threshold", [0.95, torch.tensor([0.95, 0.95])])
    def test_exactly_the_threshold_is_enough(self, threshold):
        _, mask = fn.confident(torch.tensor([[0.95, 0.05], [0.9499, 0.0501]]), threshold)
        assert mask.tolist() == [1, 0]

    def test_each_class_has_its_own_threshold(self):
        q = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9]])
        _, mask = fn.confident(q, torch.tensor([0.8, 0.6]))
        assert mask.tolist() == [0, 1, 1, 1]

    def test_a_threshold_of_0_takes_everything(self):
        assert fn.confident(distributions(20, 7), 0.0)[1].all()

    def test_ties_take_the_class_of_lower_id(self):
        assert fn.confident(torch.tensor([[0.2, 0.4, 0.4]]), 0.4)[0].item() == 1

    def test_the_types_are_int64_and_float32(self):
        label, mask = fn.confident(distributions(3, 4), 0.5)
        assert (label.dtype, mask.dtype) == (torch.int64, torch.float32)

    def test_the_wrong_number_of_thresholds_is_an_error(self):
        with pytest.raises(IndexError):
            fn.confident(torch.tensor([[0.1, 0.2, 0.7]]), torch.tensor([0.5, 0.5]))


class TestShares:
    def test_it_is_the_histogram_of_the_winners(self):
        q = distributions(200, 7, seed=6)
        expected = np.bincount(q.numpy().argmax(1), minlength=7) / 200
        torch.testing.assert_close(fn.shares(q), torch.tensor(expected, dtype=torch.float32))

    def test_a_collapsed_batch_gives_everything_to_one_class(self):
        q = torch.tensor([[0.1, 0.8, 0.1]]).expand(5, -1)
        assert fn.shares(q).tolist() == [0, 1, 0]


def sharpened(row: list[float], temperature: float) -> list[float]:
    """MixMatch, eq. (7)."""
    powers = [p ** (1 / temperature) for p in row]
    return [p / sum(powers) for p in powers]


class TestSharpen:
    @pytest.mark.parametrize("classes", [2, 7, 8])
    @pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
    def test_it_is_equation_7(self, classes, temperature):
        q = distributions(100, classes, seed=7)
        expected = [sharpened(row, temperature) for row in q.tolist()]
        torch.testing.assert_close(
            fn.sharpen(q, temperature), torch.tensor(expected, dtype=torch.float64)
        )

    def test_it_gives_the_vector_of_the_specification(self):
        q = (torch.tensor([[0.6, 0.3, 0.1]]) + torch.tensor([[0.4, 0.3, 0.3]])) / 2  # spec 3.6
        expected = torch.tensor([[0.657895, 0.236842, 0.105263]])
        torch.testing.assert_close(fn.sharpen(q, 0.5), expected, atol=1e-5, rtol=0)

    def test_a_temperature_of_1_changes_nothing(self):
        q = distributions(50, 7)
        torch.testing.assert_close(fn.sharpen(q, 1.0), q)

    def test_no_temperature_leaves_the_most_probable_class_in_the_limit(self):
        q = torch.tensor([[0.3, 0.5, 0.2], [0.4, 0.35, 0.25]])
        torch.testing.assert_close(
            fn.sharpen(q, 1e-3), torch.tensor([[0.0, 1, 0], [1, 0, 0]]), atol=1e-12, rtol=0
        )

    def test_ties_share_in_the_limit(self):
        found = fn.sharpen(torch.tensor([[0.4, 0.4, 0.2]]), 1e-3)
        torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.0]]))

    def test_a_high_temperature_is_uniform_in_the_limit(self):
        found = fn.sharpen(torch.tensor([[0.7, 0.2, 0.1]]), 1e6)
        torch.testing.assert_close(found, torch.ones(1, 3) / 3, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("temperature", [0.1, 0.4, 2.0])
    def test_it_is_the_softmax_of_cooled_logits(self, temperature):
        z = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(
            fn.sharpen(z.softmax(1), temperature), (z / temperature).softmax(1)
        )

    def test_the_order_of_the_classes_stays(self):
        q = distributions(50, 7)
        assert torch.equal(fn.sharpen(q, 0.5).argsort(1), q.argsort(1))

    def test_rows_sum_to_1(self):
        found = fn.sharpen(distributions(50, 7).float(), 0.5)
        torch.testing.assert_close(found.sum(1), torch.ones(50))

    @pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0, 10.0])
    def test_a_probability_of_0_stays_0(self, temperature):
        q = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])
        torch.testing.assert_close(fn.sharpen(q, temperature), q, atol=1e-6, rtol=0)

    def test_a_probability_of_0_has_a_finite_gradient(self):
        q = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]], requires_grad=True)
        fn.sharpen(q, 0.5)[:, 0].sum().backward()
        assert q.grad.isfinite().all()

    def test_its_gradient_is_right(self):
        q = distributions(4, 3, seed=8).requires_grad_()
        assert torch.autograd.gradcheck(lambda q: fn.sharpen(q, 0.5), q)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        q = distributions(50, 7).to(dtype)
        found = fn.sharpen(q, 0.5)
        assert found.dtype == torch.float32
        assert torch.equal(found, fn.sharpen(q.float(), 0.5))

    @pytest.mark.parametrize("temperature", [0.0, -0.5])
    def test_a_temperature_that_is_not_above_0_is_refused(self, temperature):
        with pytest.raises(ValueError, match="temperature > 0"):
            fn.sharpen(torch.tensor([[0.5, 0.5]]), temperature)


# spec 1.11
UNLABELED = [[0.85, 0.10, 0.05], [0.55, 0.40, 0.05], [0.15, 0.15, 0.70]]
TARGET = [0.333750, 0.333180, 0.333070]
SEEN = [0.516667, 0.216667, 0.266667]
ALIGNED = [
    [0.717462, 0.200935, 0.081603],
    [0.343988, 0.595547, 0.060465],
    [0.080621, 0.191920, 0.727459],
]


def aligned(row: list[float], target: list[float], seen: list[float]) -> list[float]:
    """ReMixMatch, section 3.1, with the guards of its code."""
    weighted = [p * (t + 1e-6) / (s + 1e-6) for p, t, s in zip(row, target, seen, strict=True)]
    return [w / sum(weighted) for w in weighted]


class TestAlign:
    @pytest.mark.parametrize("classes", [2, 7, 8])
    def test_it_is_the_loop_of_the_definition(self, classes):
        q = distributions(100, classes, seed=9)
        target, seen = distributions(2, classes, seed=10)
        expected = [aligned(row, target.tolist(), seen.tolist()) for row in q.tolist()]
        torch.testing.assert_close(
            fn.align(q, target, seen), torch.tensor(expected, dtype=torch.float64)
        )

    def test_it_gives_the_vector_of_the_specification(self):
        found = fn.align(torch.tensor(UNLABELED), torch.tensor(TARGET), torch.tensor(SEEN))
        torch.testing.assert_close(found, torch.tensor(ALIGNED), atol=1e-5, rtol=0)

    def test_aligning_then_sharpening_gives_the_vectors_of_the_specification(self):
        # spec 3.7
        target, seen = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.3, 0.1])
        first = fn.align(torch.tensor([[0.7, 0.2, 0.1]]), target, seen)
        for found, expected in (
            (first, [[0.593221, 0.203390, 0.203389]]),
            (fn.sharpen(first, 0.5), [[0.809651, 0.095175, 0.095174]]),
        ):
            torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_classes_that_come_as_they_should_change_nothing(self):
        q = distributions(50, 7)
        seen = q.mean(0)
        torch.testing.assert_close(fn.align(q, seen, seen), q)

    def test_a_certain_prediction_stays_certain(self):
        q, (target, seen) = torch.eye(3).double(), distributions(2, 3, seed=11)
        torch.testing.assert_close(fn.align(q, target, seen), q)

    def test_a_probability_of_0_stays_0(self):
        q = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
        found = fn.align(q, torch.tensor([0.1, 0.2, 0.7]), torch.tensor([0.6, 0.4, 0.0]))
        assert found[q == 0].tolist() == [0, 0, 0]

    def test_a_class_that_was_never_seen_gives_finite_numbers(self):
        q = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
        found = fn.align(q, torch.ones(3) / 3, torch.tensor([0.7, 0.3, 0.0]))
        assert found.isfinite().all()
        torch.testing.assert_close(found.sum(1), torch.ones(2))

    def test_a_class_that_should_never_come_goes_to_0(self):
        q = torch.tensor([[0.4, 0.4, 0.2]])
        found = fn.align(q, torch.tensor([0.5, 0.5, 0.0]), torch.ones(3) / 3)
        torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.0]]), atol=1e-5, rtol=0)

    def test_nothing_that_should_come_leaves_finite_numbers(self):
        q = torch.tensor([[0.75, 0.25, 0.0]])
        seen = torch.tensor([0.5, 0.5, 0.0])
        torch.testing.assert_close(fn.align(q, torch.tensor([0.0, 0, 1]), seen), q)

    def test_rows_sum_to_1(self):
        target, seen = distributions(2, 7, seed=12)
        found = fn.align(distributions(50, 7), target, seen)
        torch.testing.assert_close(found.sum(1), torch.ones(50).double())

    def test_its_gradient_is_right(self):
        q, (target, seen) = distributions(4, 3, seed=13), distributions(2, 3, seed=14)
        assert torch.autograd.gradcheck(lambda q: fn.align(q, target, seen), q.requires_grad_())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        q, target, seen = (torch.tensor(t) for t in (UNLABELED, TARGET, SEEN))
        found = fn.align(q.to(dtype), target, seen)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, fn.align(q.to(dtype).float(), target, seen))

    def test_the_wrong_number_of_classes_is_an_error(self):
        with pytest.raises(RuntimeError):
            fn.align(torch.tensor(UNLABELED), torch.ones(4) / 4, torch.ones(3) / 3)
