from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from leaf_fer.models import Classifier, frozen_statistics, together


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
