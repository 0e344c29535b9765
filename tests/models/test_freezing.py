"""Layers that training leaves alone."""

import pytest
import torch

from leaf_fer.config import configure
from leaf_fer.errors import UserError
from leaf_fer.memory import Average
from leaf_fer.models import Architecture, build_classifier, freeze

NETWORKS = {"test_resnet": 3, "mobilenetv1_vggface2": 5, "conv4": 2, "test_vit": 1}


def built(name):
    torch.manual_seed(0)
    size = 160 if name == "test_vit" else 32
    return build_classifier(Architecture(backbone=name, num_classes=3, image_size=size))


def stepped(model, size):
    """The weights after three steps, and the average of the network."""
    average = Average(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-2)
    for seed in range(3):
        images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(seed))
        model.train()(images).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
    return model.state_dict(), average.model.state_dict()


@pytest.mark.parametrize(("name", "layers"), NETWORKS.items())
def test_frozen_layers_and_their_statistics_stay_and_the_others_move(name, layers):
    model = built(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    freeze(model, layers)
    fixed = {id(p) for p in model.parameters() if not p.requires_grad}
    assert fixed
    frozen = {n for n, p in model.named_parameters() if id(p) in fixed}
    size = 160 if name == "test_vit" else 32
    for found in stepped(model, size):
        for key, value in found.items():
            layer = key.rpartition(".")[0]
            same = key in frozen or any(n.rpartition(".")[0] == layer != "" for n in frozen)
            if value.is_floating_point() and (same or value.std() > 0):
                assert torch.equal(value, before[key]) == same, key


def test_layers_are_counted_from_the_images():
    model = built("mobilenetv1_vggface2")
    freeze(model, 2)
    frozen = {n.split(".")[2] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"0", "1", "2"}  # the first convolution, and the two of the first block
    model = built("conv4")
    freeze(model, 4)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.head.parameters())


def test_no_backward_pass_goes_through_frozen_layers():
    model = built("conv4")
    freeze(model, 4)
    seen = []
    model.backbone.register_full_backward_hook(lambda *_: seen.append(1))
    model.train()(torch.randn(4, 3, 32, 32)).logits.sum().backward()
    assert not seen


def test_more_layers_than_there_are_is_an_error():
    with pytest.raises(UserError, match="--freeze 5: expected at most 4, all there are"):
        freeze(built("conv4"), 5)


def test_random_weights_are_not_worth_keeping():
    with pytest.raises(UserError, match="--freeze 2: keeps the weights of --init, and --init is"):
        configure({"data": "synthetic", "freeze": 2})


def test_a_network_of_unknown_layers_is_an_error():
    model = built("conv4")
    model.backbone = torch.nn.Flatten()
    with pytest.raises(UserError, match="--freeze 2: timm does not say what the layers of"):
        freeze(model, 2)
