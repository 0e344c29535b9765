from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from leaf_fer.models import Classifier, frozen_statistics, guess, single_precision, together


def network(norm: type[nn.Module] = nn.BatchNorm2d) -> Classifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 3), norm(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(6)
    )
    return Classifier(backbone, 6, 4)


def images(count: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) + 1


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.named_buffers()))


class TestTogether:
    def test_it_gives_one_output_per_batch_in_order(self):
        model = network().eval()
        batches = [images(2, 1), images(5, 2), images(1, 3)]
        for found, batch in zip(together(model, *batches), batches, strict=True):
            torch.testing.assert_close(found.logits, model(batch).logits)
            torch.testing.assert_close(found.features, model(batch).features)

    def test_it_is_one_pass_with_shared_statistics(self):
        model, twin = network(), network()
        first, second = images(3, 1), 5 * images(4, 2)
        parts = together(model, first, second)
        whole = twin(torch.cat([first, second]))
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), whole.logits)
        assert model.backbone[1].num_batches_tracked.item() == 1


class TestFrozenStatistics:
    @pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
    def test_passes_inside_leave_the_running_statistics_alone(self, norm):
        model = network(norm)
        model(images(4, 1))
        before = statistics(model)
        with frozen_statistics(model):
            model(images(4, 2))
        for name, value in model.named_buffers():
            assert torch.equal(value, before[name]), name

    @pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
    def test_passes_inside_normalize_with_their_own_batch(self, norm):
        model = network(norm)
        x = images(4, 1)
        with frozen_statistics(model):
            inside = model(x).logits
        torch.testing.assert_close(inside, model(x).logits)

    def test_passes_after_it_move_the_statistics_again(self):
        model = network()
        before = statistics(model)
        with frozen_statistics(model):
            model(images(4, 1))
        model(images(4, 1))
        assert not torch.equal(model.backbone[1].running_mean, before["backbone.1.running_mean"])
        assert model.backbone[1].num_batches_tracked.item() == 1

    def test_an_error_inside_does_not_freeze_for_ever(self):
        model = network()
        with pytest.raises(RuntimeError), frozen_statistics(model):
            model(torch.zeros(1, 5, 8, 8))
        assert model.backbone[1].track_running_stats

    def test_it_can_be_nested(self):
        model = network()
        before = statistics(model)
        with frozen_statistics(model):
            with frozen_statistics(model):
                pass
            model(images(4, 1))
        assert torch.equal(model.backbone[1].running_mean, before["backbone.1.running_mean"])
        assert model.backbone[1].track_running_stats

    def test_layers_in_evaluation_mode_keep_using_running_statistics(self):
        model = network()
        model(images(4, 1))
        model.eval()
        outside = model(images(4, 2)).logits
        with frozen_statistics(model):
            torch.testing.assert_close(model(images(4, 2)).logits, outside)

    def test_layers_that_never_track_stay_that_way(self):
        layer = nn.BatchNorm2d(3, track_running_stats=False)
        with frozen_statistics(layer):
            layer(images(4))
        assert not layer.track_running_stats

    def test_gradients_flow_inside(self):
        model = network()
        with frozen_statistics(model):
            model(images(4)).logits.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


class TestGuess:
    def test_it_has_no_gradient(self):
        output = guess(network(), images(4))
        assert not output.logits.requires_grad
        assert not output.features.requires_grad
        assert not output.probabilities.requires_grad

    @pytest.mark.parametrize("training", [True, False])
    def test_it_says_what_the_network_says(self, training):
        model, twin = network().train(training), network().train(training)
        found, expected = guess(model, images(4)), twin(images(4))
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.features, expected.features)

    def test_in_training_mode_it_moves_the_running_statistics(self):
        model, twin = network(), network()
        guess(model, images(4))
        twin(images(4))
        before = statistics(network())
        for (name, found), expected in zip(model.named_buffers(), twin.buffers(), strict=True):
            assert torch.equal(found, expected), name
            assert not torch.equal(found, before[name]), name

    def test_in_evaluation_mode_it_leaves_the_running_statistics_alone(self):
        model = network().eval()
        before = statistics(model)
        guess(model, images(4))
        for name, value in model.named_buffers():
            assert torch.equal(value, before[name]), name

    def test_it_can_be_kept_from_moving_the_running_statistics(self):
        model = network()
        before = statistics(model)
        with frozen_statistics(model):
            guess(model, images(4))
        for name, value in model.named_buffers():
            assert torch.equal(value, before[name]), name

    def test_in_training_mode_it_normalizes_with_its_own_batch(self):
        model, twin = network(), network()
        found = guess(model, images(4, 1))
        joint, _ = together(twin, images(4, 1), 5 * images(4, 2))
        assert not torch.allclose(found.logits, joint.logits)

    def test_the_mode_of_the_network_stays(self):
        model = network()
        guess(model, images(4))
        assert model.training
        assert not guess(model.eval(), images(4)).logits.requires_grad
        assert not model.training

    def test_passes_after_it_have_a_gradient_again(self):
        model = network()
        guess(model, images(4))
        assert model(images(4)).logits.requires_grad


def wrapped(precision: str = "bf16-mixed") -> tuple[nn.Module, Classifier]:
    """A network as the engine runs it, and the same network by itself."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    return fabric.setup_module(network().eval()), network().eval()


class TestSinglePrecision:
    def test_outside_a_wrapped_network_computes_in_mixed_precision(self):
        model, plain = wrapped()
        assert not torch.equal(model(images(4)).logits, plain(images(4)).logits)

    def test_inside_a_wrapped_network_computes_in_float32(self):
        model, plain = wrapped()
        with single_precision(model) as inner:
            found = inner(images(4))
        expected = plain(images(4))
        assert found.logits.dtype == torch.float32
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.features, expected.features)

    def test_a_network_without_a_wrapper_is_given_as_it_is(self):
        model = network()
        with single_precision(model) as inner:
            assert inner is model

    def test_a_wrapper_is_taken_off(self):
        model, _ = wrapped()
        with single_precision(model) as inner:
            assert isinstance(inner, Classifier)

    def test_the_parameters_inside_are_those_of_the_wrapped_network(self):
        model, _ = wrapped()
        with single_precision(model) as inner:
            inner(images(4)).logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters())

    @pytest.mark.parametrize("wrap", [True, False])
    def test_an_autocast_around_it_is_switched_off(self, wrap):
        model, plain = wrapped()
        with torch.autocast("cpu", torch.bfloat16), single_precision(model if wrap else plain) as f:
            found = f(images(4)).logits
        assert torch.equal(found, network().eval()(images(4)).logits)

    def test_an_autocast_around_it_is_switched_on_again(self):
        model = network().eval()
        with torch.autocast("cpu", torch.bfloat16):
            with single_precision(model):
                pass
            assert model(images(4)).logits.dtype == torch.bfloat16

    def test_an_error_inside_does_not_switch_autocast_off_for_ever(self):
        model = network().eval()
        with torch.autocast("cpu", torch.bfloat16):
            with pytest.raises(RuntimeError), single_precision(model) as inner:
                inner(torch.zeros(1, 5, 8, 8))
            assert model(images(4)).logits.dtype == torch.bfloat16

    def test_a_wrapped_network_computes_in_mixed_precision_again_after_it(self):
        model, _ = wrapped()
        before = model(images(4)).logits
        with single_precision(model) as inner:
            inner(images(4))
        assert torch.equal(model(images(4)).logits, before)

    def test_the_gradient_of_the_images_is_that_of_a_float32_network(self):
        model, plain = wrapped()
        x, y = images(4).requires_grad_(), images(4).requires_grad_()
        with single_precision(model) as inner:
            (found,) = torch.autograd.grad(inner(x).logits.square().sum(), x)
        (expected,) = torch.autograd.grad(plain(y).logits.square().sum(), y)
        assert torch.equal(found, expected)

    def test_statistics_can_be_frozen_inside(self):
        model, _ = wrapped()
        model.train()
        before = statistics(model)
        with single_precision(model) as inner, frozen_statistics(inner):
            inner(images(4))
        for name, value in model.named_buffers():
            assert torch.equal(value, before[name]), name
