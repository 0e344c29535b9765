"""Oracles: plain loops in float64, and the moments of the Beta distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from leaf_fer import functional as fn

CPU = torch.device("cpu")


def random_values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def mixed(values: list[list[float]], order: list[int], weight: list[float]) -> list[list[float]]:
    """MixMatch, eqs. (10)-(11), number by number."""
    return [
        [w * a + (1 - w) * b for a, b in zip(row, values[partner], strict=True)]
        for row, partner, w in zip(values, order, weight, strict=True)
    ]


def draws(alpha: float, count: int = 200_000) -> Tensor:
    torch.manual_seed(0)
    return fn.mixing_weights(alpha, (count,), CPU).double()


class TestMixingWeights:
    @pytest.mark.parametrize("alpha", [0.01, 0.5, 0.75, 1.0, 16.0])
    def test_the_larger_share_belongs_to_the_first(self, alpha):
        weight = draws(alpha, 10_000)
        assert ((weight >= 0.5) & (weight <= 1)).all()

    @pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5, 0.75, 1.0, 2.0, 8.0])
    def test_its_mean_is_that_of_the_distribution(self, alpha):
        # E|l - 1/2| = 1 / (alpha 4^alpha B(alpha, alpha)) for l ~ Beta(alpha, alpha)
        log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
        expected = 0.5 + math.exp(-log_beta - alpha * math.log(4)) / alpha
        assert draws(alpha).mean().item() == pytest.approx(expected, abs=2e-3)

    @pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5, 0.75, 1.0, 2.0, 8.0])
    def test_its_distance_from_one_half_has_the_variance_of_the_distribution(self, alpha):
        found = (draws(alpha) - 0.5).square().mean().item()
        assert found == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=1e-3)

    @pytest.mark.parametrize(
        ("alpha", "below"),
        [
            (0.5, lambda t: 2 / math.pi * math.asin(math.sqrt(t))),
            (1.0, lambda t: t),
            (2.0, lambda t: 3 * t**2 - 2 * t**3),
        ],
    )
    @pytest.mark.parametrize("t", [0.55, 0.7, 0.9])
    def test_as_many_draws_lie_below_a_value_as_the_distribution_says(self, alpha, below, t):
        found = (draws(alpha) <= t).double().mean().item()
        assert found == pytest.approx(below(t) - below(1 - t), abs=5e-3)

    def test_a_large_parameter_mixes_equally_in_the_limit(self):
        torch.testing.assert_close(
            draws(1e6, 100), torch.full((100,), 0.5).double(), atol=0.01, rtol=0
        )

    def test_a_small_parameter_mixes_nothing_in_the_limit(self):
        assert draws(0.01).mean() > 0.99

    @pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
    def test_it_has_the_shape_that_is_asked_for(self, shape):
        assert fn.mixing_weights(0.75, shape, CPU).shape == shape

    def test_it_is_float32(self):
        assert fn.mixing_weights(0.75, (2,), CPU).dtype == torch.float32

    def test_every_row_has_its_own_draw(self):
        assert len(draws(0.75, 100).unique()) > 90

    def test_the_same_seed_draws_the_same_weights(self):
        assert torch.equal(draws(0.75, 20), draws(0.75, 20))

    def test_the_next_draw_is_another_one(self):
        first = draws(0.75, 20)
        assert not torch.equal(first, fn.mixing_weights(0.75, (20,), CPU).double())


class TestMixup:
    @pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 0.7, 1.0])
    def test_one_weight_mixes_every_row_alike(self, weight):
        x, order = random_values(6, 4), [3, 0, 2, 5, 1, 4]
        found = fn.mixup(x, torch.tensor(order), torch.tensor(weight, dtype=torch.float64))
        expected = mixed(x.tolist(), order, [weight] * 6)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    def test_each_row_can_have_its_own_weight(self):
        x, order, weight = random_values(6, 4), [3, 0, 2, 5, 1, 4], [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        found = fn.mixup(x, torch.tensor(order), torch.tensor(weight, dtype=torch.float64))
        expected = mixed(x.tolist(), order, weight)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    def test_rows_may_share_a_partner(self):
        x, order = random_values(4, 2), [0, 0, 0, 1]
        found = fn.mixup(x, torch.tensor(order), torch.tensor(0.6, dtype=torch.float64))
        expected = mixed(x.tolist(), order, [0.6] * 4)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([[1, 2], [3, -1]], [1.6, 1.1]),
            ([[1, 0, 0], [0.657895, 0.236842, 0.105263]], [0.897368, 0.071053, 0.031579]),
        ],
    )
    def test_it_gives_the_vectors_of_the_specification(self, values, expected):
        # spec 3.6: a draw of 0.3 gives the weight 0.7
        found = fn.mixup(
            torch.tensor(values, dtype=torch.float32), torch.tensor([1, 0]), torch.tensor(0.7)
        )
        torch.testing.assert_close(found[0], torch.tensor(expected), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("weight", [torch.tensor(1.0), torch.ones(5)])
    def test_a_weight_of_1_changes_nothing(self, weight):
        x = random_values(5, 3, 4, 4).float()
        assert torch.equal(fn.mixup(x, torch.tensor([4, 3, 2, 1, 0]), weight), x)

    def test_a_weight_of_0_gives_the_partner(self):
        x, order = random_values(5, 3).float(), torch.tensor([4, 3, 2, 1, 0])
        assert torch.equal(fn.mixup(x, order, torch.tensor(0.0)), x[order])

    def test_a_row_mixed_with_itself_stays(self):
        x = random_values(5, 3).float()
        assert torch.equal(fn.mixup(x, torch.arange(5), torch.tensor(0.7)), x)

    @pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 3, 4, 4)])
    def test_every_number_of_a_row_is_mixed_alike(self, shape):
        x, order, weight = random_values(*shape), torch.tensor([3, 0, 2, 5, 1, 4]), torch.rand(6)
        found = fn.mixup(x, order, weight)
        expected = mixed(x.reshape(6, -1).tolist(), order.tolist(), weight.tolist())
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64).reshape(shape)
        )

    @pytest.mark.parametrize("weight", [torch.tensor(0.7), torch.linspace(0.5, 1, 6)])
    def test_images_keep_their_memory_format(self, weight):
        x = random_values(6, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        found = fn.mixup(x, torch.tensor([3, 0, 2, 5, 1, 4]), weight)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(
            found, fn.mixup(x.contiguous(), torch.tensor([3, 0, 2, 5, 1, 4]), weight)
        )

    def test_mixed_targets_still_sum_to_1(self):
        y = random_values(6, 7).softmax(1)
        found = fn.mixup(y, torch.tensor([3, 0, 2, 5, 1, 4]), torch.linspace(0.5, 1, 6))
        torch.testing.assert_close(found.sum(1), torch.ones(6).double())

    def test_a_row_stays_closer_to_its_own_source(self):
        x, order = random_values(50, 4), torch.arange(50).roll(1)
        torch.manual_seed(0)
        found = fn.mixup(x, order, fn.mixing_weights(0.75, (50,), CPU))
        assert ((found - x).norm(dim=1) <= (found - x[order]).norm(dim=1)).all()

    def test_the_values_are_left_as_they_are(self):
        x = random_values(4, 3)
        before = x.clone()
        fn.mixup(x, torch.tensor([1, 2, 3, 0]), torch.tensor(0.6))
        assert torch.equal(x, before)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_the_precision_of_the_values_stays(self, dtype):
        x = torch.tensor([[1.0, 2], [3, -1]], dtype=dtype)
        found = fn.mixup(x, torch.tensor([1, 0]), torch.tensor(0.75))
        assert found.dtype == dtype
        assert found.tolist() == [[1.5, 1.25], [2.5, -0.25]]

    def test_its_gradient_is_right(self):
        order, weight = torch.tensor([2, 0, 1]), torch.tensor([0.5, 0.7, 0.9]).double()
        assert torch.autograd.gradcheck(
            lambda x: fn.mixup(x, order, weight), random_values(3, 2).requires_grad_()
        )

    def test_the_wrong_number_of_weights_is_an_error(self):
        with pytest.raises(RuntimeError):
            fn.mixup(torch.zeros(3, 2), torch.arange(3), torch.ones(2))

    def test_a_partner_that_does_not_exist_is_an_error(self):
        with pytest.raises(IndexError):
            fn.mixup(torch.zeros(3, 2), torch.tensor([0, 1, 3]), torch.tensor(0.7))

    def test_class_ids_in_place_of_distributions_are_an_error(self):
        with pytest.raises(NotImplementedError):
            fn.mixup(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), torch.tensor(0.7))
