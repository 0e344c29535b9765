from __future__ import annotations

import pytest
import torch

from leaf_fer.errors import UserError
from leaf_fer.models import EAF, Architecture, build_classifier
from leaf_fer.models.backbone import create_backbone
from leaf_fer.models.classifier import Unit

SMALL = {"backbone": "test_resnet", "image_size": 32}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_a_backbone_gives_pooled_features_of_the_width_it_says(name):
    backbone, width = create_backbone(name, 48)
    assert backbone(torch.zeros(2, 3, 48, 48)).shape == (2, width)


def test_a_classifier_is_built_in_training_mode_throughout():
    assert all(m.training for m in build_classifier(Architecture(**SMALL)).modules())


def test_measuring_a_backbone_leaves_its_statistics_alone():
    backbone, _ = create_backbone("test_resnet", 32)
    assert all(not b.any() for n, b in backbone.named_buffers() if n.endswith("tracked"))


@pytest.mark.parametrize(
    ("eaf", "semantic", "instance"),
    [
        ("none", False, False),
        ("semantic", True, False),
        ("instance", False, True),
        ("semantic,instance", True, True),
        ("instance,semantic", True, True),
    ],
)
def test_levels_fill_their_slots(eaf, semantic, instance):
    model = build_classifier(Architecture(**SMALL, eaf=eaf))
    assert isinstance(model.semantic, EAF) == semantic
    assert isinstance(model.instance, EAF) == instance
    assert not isinstance(model.refine, EAF)


def test_the_instance_level_is_as_wide_as_the_classes():
    model = build_classifier(Architecture(**SMALL, num_classes=8, eaf="instance"))
    assert model.instance.gate.weight.shape[1] == 8


def test_the_released_network_has_both_levels_before_the_head():
    model = build_classifier(
        Architecture(
            **SMALL,
            eaf="semantic,instance",
            num_experts=8,
            top_k=1,
            gate="noisy",
            shared_expert=True,
            combine="log",
            instance_level="feature",
            normalize_features=True,
            dropout=0.5,
        )
    )
    assert isinstance(model.norm, Unit)
    assert not isinstance(model.instance, EAF)
    for level in (model.semantic, model.refine):
        assert level.gate.weight.shape == (8, model.head.in_features)
        assert level.experts.inner_weight.shape[0] == 1
    assert model.dropout.p == 0.5


def test_levels_have_parameters_of_their_own():
    model = build_classifier(
        Architecture(**SMALL, eaf="semantic,instance", instance_level="feature")
    )
    assert model.semantic.gate.weight is not model.refine.gate.weight


def test_an_architecture_survives_its_dictionary():
    architecture = Architecture(**SMALL, eaf="semantic", top_k=3, dropout=0.25)
    assert Architecture.from_dict(architecture.to_dict()) == architecture


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"num_classes": "seven"}, "whole number"),
        ({"num_classes": [7]}, "whole number"),
        ({"expert": "cubic"}, "linear, bottleneck, residual"),
        ({"instance_level": 3}, "logits, feature"),
        ({"eaf": None}, "text"),
    ],
)
def test_a_dictionary_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        Architecture.from_dict(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet_of_my_own"}, "--backbone resnet_of_my_own: timm has no such model"),
        ({"backbone": "hf-hub:somebody/something"}, "timm has no such model"),
        ({"image_size": 0}, "--image-size 0: not possible with test_resnet"),
        ({"backbone": "test_vit", "image_size": 33}, "--image-size 33: not possible"),
        ({"backbone": "xcit_nano_12_p16_224", "image_size": 50}, "--image-size 50: not possible"),
        ({"eaf": "semantic,cosmic"}, "unknown level 'cosmic'"),
        ({"eaf": "semantic", "top_k": 9}, "top_k <= num_experts=4"),
        ({"num_classes": 1}, "classes >= 2"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_what_cannot_be_built_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        build_classifier(Architecture(**{**SMALL, **change}))


@pytest.mark.parametrize("size", [16, 48, 112])
def test_conv4_has_576_features_at_every_size(size):
    model, width = create_backbone("conv4", size)
    assert width == 576
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 576)
    # 3x3 convolutions 3-64-64-64-64 without bias, and batch-norm with two numbers a channel
    assert sum(p.numel() for p in model.parameters()) == 9 * 64 * (3 + 3 * 64) + 4 * 2 * 64


def test_conv4_needs_16_pixels():
    with pytest.raises(UserError, match=r"--image-size 8: not possible with conv4: .* 16 pixels"):
        create_backbone("conv4", 8)
