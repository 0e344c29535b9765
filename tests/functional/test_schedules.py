from __future__ import annotations

import math

import pytest

from leaf_fer import functional as fn


class TestGaussianRamp:
    @pytest.mark.parametrize(
        ("share", "value"), [(0, 0.006738), (0.25, 0.060055), (0.5, 0.286505), (1, 1)]
    )
    def test_it_gives_the_vectors_of_the_specification(self, share, value):
        assert fn.gaussian_ramp(share) == pytest.approx(value, abs=1e-6)

    @pytest.mark.parametrize("share", [0.1, 0.33, 0.8, 0.99])
    def test_it_is_the_formula_of_the_paper(self, share):
        assert fn.gaussian_ramp(share) == pytest.approx(math.e ** (-5 * (1 - share) * (1 - share)))

    @pytest.mark.parametrize("share", [1, 1.0001, 2, 1e9])
    def test_it_stays_at_exactly_1_from_the_end_on(self, share):
        assert fn.gaussian_ramp(share) == 1

    @pytest.mark.parametrize("share", [-1e-9, -1, -100])
    def test_it_stays_at_its_start_before(self, share):
        assert fn.gaussian_ramp(share) == fn.gaussian_ramp(0)

    def test_it_never_falls(self):
        values = [fn.gaussian_ramp(k / 100) for k in range(101)]
        assert values == sorted(values)


class TestCosineRamp:
    @pytest.mark.parametrize(
        ("share", "value"),
        [(0, 0), (0.125, 0.146447), (0.25, 0.5), (0.375, 0.853553), (0.5, 1), (1, 1)],
    )
    def test_it_gives_the_vectors_of_the_specification(self, share, value):
        assert fn.cosine_ramp(share) == pytest.approx(value, abs=1e-6)

    @pytest.mark.parametrize("share", [0.03, 0.1, 0.33, 0.49])
    def test_it_is_the_square_of_a_sine_up_to_one_half(self, share):
        assert fn.cosine_ramp(share) == pytest.approx(math.sin(math.pi * share) ** 2)

    @pytest.mark.parametrize("share", [0.5, 0.6, 0.75, 1, 1.5])
    def test_it_stays_at_exactly_1_from_one_half_on(self, share):
        assert fn.cosine_ramp(share) == 1

    def test_it_starts_at_exactly_0(self):
        assert fn.cosine_ramp(0.0) == 0

    def test_it_never_falls(self):
        values = [fn.cosine_ramp(k / 100) for k in range(101)]
        assert values == sorted(values)
