from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer import functional as fn
from leaf_fer.algorithms.vat import VAT
from leaf_fer.types import Batch, Clock, Labeled, Objective, Output, Unlabeled

from .saying import (
    KNOWN,
    LATE,
    START,
    TARGET,
    WEAK,
    Says,
    batch_of,
    close,
    problem_of,
)


class Linear(nn.Module):
    """The network of spec 3.3, in float64."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.tensor([[1, 0.5], [-0.5, 2], [0.3, -1]], dtype=torch.float64)
        self.weight = nn.Parameter(rows)

    def forward(self, images: Tensor) -> Output:
        return Output(images, images @ self.weight.T)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 7),
        )

    def forward(self, images: Tensor) -> Output:
        return Output(images, self.layers(images))


class Deaf(Says):
    """Says the same of all images."""

    def forward(self, images: Tensor) -> Output:
        return super().forward(0 * images)


@pytest.fixture
def starting_from(monkeypatch):
    """Tensor -> the search starts there."""

    def start(values: Tensor) -> None:
        monkeypatch.setattr(torch, "randn_like", lambda images: values.to(images.dtype))

    return start


def make(**options: object) -> VAT:
    return VAT(problem_of(), Says(), **options)


def objective(clock: Clock = LATE, **options: object) -> Objective:
    torch.manual_seed(0)
    return make(**options).loss(batch_of([WEAK]), Says(), clock)


class TestVector:
    """The linear network of the specification, one power step."""

    IMAGE = torch.tensor([[0.4, -0.2]], dtype=torch.float64)
    STEPS = pytest.mark.parametrize(
        ("step", "direction", "small", "large"),
        [
            (1e-6, [0.066538, 0.997784], 0.148950, 0.579558),
            (1e-2, [0.065933, 0.997824], 0.149003, 0.579827),
        ],
    )

    @pytest.fixture(autouse=True)
    def _start(self, starting_from):
        starting_from(torch.tensor([[0.6, 0.8]]))

    def direction(self, step: float) -> Tensor:
        model = Linear()
        q = model(self.IMAGE).logits.detach().softmax(1)
        return make(finite_difference=step).worst_direction(model, self.IMAGE, q)

    def batch(self) -> Batch:
        known = Labeled(torch.arange(1), torch.tensor([1]), weak=(self.IMAGE,))
        return Batch(known, Unlabeled(torch.arange(1), weak=(self.IMAGE,)))

    @STEPS
    def test_the_direction_is_that_of_the_specification(self, step, direction, small, large):
        close(self.direction(step).float(), [direction])

    @STEPS
    def test_smoothness_along_it_is_that_of_the_specification(self, step, direction, small, large):
        model = Linear()
        q = model(self.IMAGE).logits.detach().softmax(1)
        for radius, expected in ((0.5, small), (1.0, large)):
            moved = model(self.IMAGE + radius * self.direction(step))
            close(fn.divergence(q, moved.logits).float(), expected)

    @pytest.mark.parametrize(("radius", "expected"), [(0.5, 0.149003), (1.0, 0.579827)])
    def test_the_term_is_that_of_the_specification(self, radius, expected):
        algorithm = make(radius=radius, finite_difference=1e-2)
        term = algorithm.loss(self.batch(), Linear(), LATE).terms["smoothness"]
        close(term.float(), expected)

    def test_the_entropy_is_that_of_the_specification(self):
        algorithm = make(entropy_weight=1.0)
        term = algorithm.loss(self.batch(), Linear(), LATE).terms["entropy"]
        close(term.float(), 1.028935)

    def test_more_power_steps_are_those_of_a_plain_loop(self):
        weight = Linear().weight.detach()
        q = (self.IMAGE @ weight.T).softmax(1)
        expected = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
        for _ in range(3):
            p = ((self.IMAGE + 0.1 * expected) @ weight.T).softmax(1)
            expected = (p - q) @ weight  # of KL(q || p) with respect to the image
            expected = expected / expected.norm()
        model = Linear()
        algorithm = make(power_steps=3)
        torch.testing.assert_close(algorithm.worst_direction(model, self.IMAGE, q), expected)


class TestDirection:
    def test_every_image_has_a_direction_of_length_1(self):
        torch.manual_seed(0)
        images = torch.randn(5, 3, 8, 8)
        model = Says(classes=7)
        found = make().worst_direction(model, images, model(images).probabilities.detach())
        close(found.flatten(1).norm(dim=1), [1.0] * 5)

    def test_the_search_steps_by_the_finite_difference(self):
        model = Says()
        make(finite_difference=0.25).loss(batch_of([WEAK]), model, LATE)
        _, clean, searched, _ = model.seen
        close((searched - clean).norm(dim=1), [0.25] * 3)

    def test_the_adversarial_images_are_the_radius_away(self):
        model = Says()
        make(radius=2.5).loss(batch_of([WEAK]), model, LATE)
        _, clean, _, moved = model.seen
        close((moved - clean).norm(dim=1), [2.5] * 3)

    def test_a_network_that_never_changes_its_mind_has_no_direction_and_a_finite_loss(self):
        model = Deaf()
        found = make().loss(batch_of([WEAK]), model, LATE)
        assert torch.equal(model.seen[3], model.seen[1])
        assert found.terms["smoothness"] == 0
        assert found.total.isfinite()

    def test_the_search_leaves_autocast(self):
        modes = []

        class Watched(Says):
            def forward(self, images: Tensor) -> Output:
                modes.append(torch.is_autocast_enabled("cpu"))
                return super().forward(images)

        with torch.autocast("cpu", torch.bfloat16):
            make().loss(batch_of([WEAK]), Watched(), LATE)
        assert modes == [True, False, False, True]


class TestPrecision:
    """On images of 48 x 48 x 3 values, in batches of four."""

    def direction(self, dtype: torch.dtype, step: float) -> Tensor:
        torch.manual_seed(0)
        model, images = Convolutions().to(dtype), torch.randn(4, 3, 48, 48).to(dtype)
        q = model(images).logits.detach().softmax(1)
        algorithm = make(finite_difference=step)
        return algorithm.worst_direction(model, images, q).double().flatten(1)

    @pytest.fixture(autouse=True)
    def _start(self, starting_from):
        generator = torch.Generator().manual_seed(1)
        starting_from(torch.randn(4, 3, 48, 48, generator=generator))

    def cosine(self, step: float, exact_step: float) -> Tensor:
        """Between the directions found in float32 and in float64."""
        found = self.direction(torch.float32, step)
        return F.cosine_similarity(found, self.direction(torch.float64, exact_step))

    def test_single_precision_finds_the_direction_with_the_default_step(self):
        step = make().finite_difference
        assert self.cosine(step, step).min() > 0.99

    def test_the_default_step_is_small_enough_for_the_direction_of_an_infinitesimal_one(self):
        assert self.cosine(make().finite_difference, 1e-6).min() > 0.99

    def test_single_precision_loses_the_direction_with_the_step_of_the_papers_code(self):
        assert self.cosine(1e-6, 1e-6).max() < 0.9


class TestGradient:
    def test_the_search_leaves_the_weights_gradients_alone(self):
        model = Says()
        model.scale.grad = torch.tensor(3.0)
        make().loss(batch_of([WEAK]), model, LATE)
        assert model.scale.grad == 3

    def test_the_search_makes_no_gradient_for_the_images(self):
        batch = batch_of([WEAK])
        make().loss(batch, Says(), LATE)
        assert batch.unlabeled.weak[0].grad is None

    def test_the_smoothness_teaches_the_prediction_of_the_moved_images_alone(self):
        torch.manual_seed(0)
        model, images = Says(), torch.tensor(WEAK)
        term = make(radius=1.0).loss(batch_of([WEAK]), model, LATE).terms["smoothness"]
        (found,) = torch.autograd.grad(term, model.scale)

        twin = Says()
        expected = fn.divergence(images.softmax(1), twin(model.seen[3]).logits)
        close(term, expected)
        close(found, torch.autograd.grad(expected, twin.scale)[0])

    def test_the_entropy_teaches_the_prediction_of_the_clean_images(self):
        model = Says()
        term = make().loss(batch_of([WEAK]), model, LATE).terms["entropy"]
        (found,) = torch.autograd.grad(term, model.scale)
        twin = Says()
        expected = 0.06 * fn.entropy(twin(torch.tensor(WEAK)).logits)
        close(found, torch.autograd.grad(expected, twin.scale)[0])
        assert found != 0

    @pytest.mark.parametrize(("weight", "graph"), [(0.06, True), (0.0, False)])
    def test_the_clean_pass_keeps_a_graph_only_for_the_entropy(self, weight, graph):
        model = Says()
        make(entropy_weight=weight).loss(batch_of([WEAK]), model, LATE)
        assert model.grad_enabled == [True, graph, True, True]


class TestTerms:
    @pytest.mark.parametrize(("step", "share"), [(0, 0), (10, 0.25), (40, 1), (90, 1)])
    def test_the_smoothness_grows_linearly(self, step, share):
        full = objective().terms["smoothness"]
        close(objective(Clock(step, 100, 10)).terms["smoothness"], share * full.item())

    def test_the_entropy_has_no_ramp(self):
        expected = 0.06 * fn.entropy(torch.tensor(WEAK))
        close(objective(START).terms["entropy"], expected)
        close(objective(LATE).terms["entropy"], expected)

    def test_weights_multiply_the_terms(self):
        one = objective().terms
        other = objective(weight=3.0, entropy_weight=0.12).terms
        close(other["smoothness"], 3 * one["smoothness"].item())
        close(other["entropy"], 2 * one["entropy"].item())

    def test_the_labeled_term_is_the_mean_cross_entropy(self):
        expected = F.cross_entropy(torch.tensor(KNOWN), torch.tensor(TARGET))
        close(objective().terms["supervised"], expected)

    def test_there_are_three_terms(self):
        assert set(objective().terms) == {"supervised", "smoothness", "entropy"}


class TestPasses:
    @pytest.mark.parametrize("power_steps", [1, 2])
    def test_unlabeled_images_are_seen_clean_once_per_search_and_moved(self, power_steps):
        model = Says()
        make(power_steps=power_steps).loss(batch_of([WEAK]), model, LATE)
        assert model.sizes == [2, 3] + [3] * power_steps + [3]

    def test_unlabeled_images_are_normalized_among_themselves(self, problem, new_model, new_batch):
        model = new_model().train()
        batch = new_batch(VAT.views)
        twin = copy.deepcopy(model)
        found = VAT(problem, model, entropy_weight=1.0).loss(batch, model, LATE).terms["entropy"]
        close(found, fn.entropy(twin(batch.unlabeled.weak[0]).logits))
