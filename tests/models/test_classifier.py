from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leaf_fer.models import EAF, Classifier
from leaf_fer.models.classifier import Unit


class Times(nn.Module):
    """A slot that leaves a trace: it multiplies, and remembers the width it saw."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        self.width = x.shape[1]
        return self.factor * x


def backbone() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.Tanh())


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_without_slots_it_is_a_linear_head_on_the_backbone():
    torch.manual_seed(0)
    model = Classifier(backbone(), 5, 7)
    found = model(images())
    torch.testing.assert_close(found.features, model.backbone(images()))
    torch.testing.assert_close(found.logits, model.head(model.backbone(images())))


def test_slots_that_are_not_filled_have_no_parameters():
    plain = Classifier(backbone(), 5, 7)
    assert {name.split(".")[0] for name in plain.state_dict()} == {"backbone", "head"}


def test_the_slots_come_in_the_order_of_the_docstring():
    torch.manual_seed(0)
    slots = {
        "semantic": Times(2.0),
        "norm": Unit(),
        "refine": Times(3.0),
        "instance": Times(5.0),
    }
    model = Classifier(backbone(), 5, 7, **slots)
    found = model(images())
    features = F.normalize(2 * model.backbone(images()), dim=1)
    torch.testing.assert_close(found.features, features)
    torch.testing.assert_close(found.logits, 5 * model.head(3 * features))
    assert (slots["semantic"].width, slots["refine"].width, slots["instance"].width) == (5, 5, 7)


def test_eaf_in_both_levels_of_a_trained_network_changes_nothing():
    torch.manual_seed(0)
    plain = Classifier(backbone(), 5, 7)
    levels = Classifier(backbone(), 5, 7, semantic=EAF(5), instance=EAF(7))
    levels.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(levels(images()).logits, plain(images()).logits, atol=1e-6, rtol=0)


def test_both_levels_learn_from_the_loss():
    torch.manual_seed(0)
    model = Classifier(backbone(), 5, 7, semantic=EAF(5), instance=EAF(7))
    F.cross_entropy(model(images()).logits, torch.tensor([0, 1, 2, 3])).backward()
    for level in (model.semantic, model.instance):
        assert level.experts.outer_weight.grad.any()


def test_dropout_acts_on_pooled_features_in_training_only():
    torch.manual_seed(0)
    model = Classifier(backbone(), 5, 7, dropout=0.5)
    pooled = model.backbone(images(200))
    dropped = model(images(200)).features
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * pooled[kept])
    torch.testing.assert_close(model.eval()(images(200)).features, pooled)


def test_unit_gives_rows_of_length_1_in_float32():
    x = torch.randn(6, 5).bfloat16()
    found = Unit()(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))


def test_unit_leaves_zero_rows_finite():
    assert not Unit()(torch.zeros(2, 5)).any()


def test_probabilities_are_float32_and_sum_to_1_under_autocast():
    model = Classifier(backbone(), 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        p = model(images()).probabilities
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(1), torch.ones(4))


@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(ValueError, match="classes >= 2"):
        Classifier(backbone(), 5, classes)
