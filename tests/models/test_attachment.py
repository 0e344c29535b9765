from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import Tensor, nn

import leaf_fer
from leaf_fer.models import EAF, Classifier, EAFHead, attach_eaf

CLASSES = 7


def new_timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)


def new_torchvision(build: Callable[..., nn.Module], **options: object) -> Callable[[], nn.Module]:
    return lambda: build(num_classes=CLASSES, **options)


def small_vit() -> nn.Module:
    model = tv.VisionTransformer(32, 8, 2, 2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES)
    nn.init.normal_(model.heads.head.weight, std=0.1)  # zeros let nothing through
    return model


def small_convnext() -> nn.Module:
    settings = [tv.convnext.CNBlockConfig(16, 32, 1), tv.convnext.CNBlockConfig(32, None, 1)]
    return tv.ConvNeXt(settings, num_classes=CLASSES)


class TwoLayers(nn.Module):
    """A network of one's own, whose activation is declared last."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 32 * 32, 6)
        self.last = nn.Linear(6, CLASSES)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.relu(self.first(images.flatten(1))))


class Aliased(TwoLayers):
    """The same layer under two names; the first is not the one that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = self.last


class Parallel(nn.Module):
    """Two heads on the same features, of one size or of two."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.expression = nn.Linear(6, first)
        self.age = nn.Linear(6, second)


SMALL_SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": (1, 1)}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "timm resnet18": (new_timm("resnet18"), "fc"),
    "timm mobilenetv3": (new_timm("mobilenetv3_small_050"), "classifier"),
    "timm efficientnet": (new_timm("efficientnet_lite0"), "classifier"),
    "timm efficientvit": (new_timm("efficientvit_b0"), "head.classifier.4"),
    "timm convnext": (new_timm("convnext_atto"), "head.fc"),
    "timm vit": (new_timm("vit_tiny_patch16_224", img_size=32, depth=2), "head"),
    "timm swin": (
        new_timm("swin_tiny_patch4_window7_224", **SMALL_SWIN, num_heads=(1, 2)),
        "head.fc",
    ),
    "torchvision resnet18": (new_torchvision(tv.resnet18), "fc"),
    "torchvision mobilenetv3": (new_torchvision(tv.mobilenet_v3_small), "classifier.3"),
    "torchvision shufflenet": (new_torchvision(tv.shufflenet_v2_x0_5), "fc"),
    "torchvision densenet": (
        new_torchvision(tv.DenseNet, growth_rate=8, block_config=(2, 2), num_init_features=8),
        "classifier",
    ),
    "torchvision vit": (small_vit, "heads.head"),
    "torchvision convnext": (small_convnext, "classifier.2"),
    "a network of one's own": (TwoLayers, "last"),
    "a sequence": (
        lambda: nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 7)
        ),
        "4",
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, str]:
    """A classifier with random weights, and the name of its final layer."""
    build, place = NETWORKS[request.param]
    torch.manual_seed(0)
    return build().eval(), place


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def alive(model: nn.Module) -> nn.Module:
    """Give residual experts weights that do something."""
    for eaf in eafs(model):
        nn.init.normal_(eaf.experts.outer_weight, std=0.1)
    return model


def eafs(model: nn.Module) -> list[EAF]:
    return [module for module in model.modules() if isinstance(module, EAF)]


class TestEveryNetwork:
    def test_it_says_what_it_said_before(self, network):
        model, _ = network
        before = model(images())
        assert attach_eaf(model) is model
        torch.testing.assert_close(model(images()), before, atol=1e-6, rtol=1e-6)

    def test_the_levels_stand_around_the_final_layer(self, network):
        model, place = network
        linear = model.get_submodule(place)
        head = attach_eaf(model).get_submodule(place)
        assert isinstance(head, EAFHead)
        assert head.linear is linear
        assert (head.in_features, head.out_features) == (linear.in_features, CLASSES)
        assert eafs(model) == [head.semantic, head.instance]
        seen = {}
        for name in ("semantic", "linear", "instance"):
            head.get_submodule(name).register_forward_hook(
                lambda _, x, y, name=name: seen.update({name: (x[0], y)})
            )
        out = alive(model)(images())
        assert seen["linear"][0] is seen["semantic"][1]
        assert seen["instance"][0] is seen["linear"][1]
        assert out is seen["instance"][1]

    def test_gate_and_experts_learn(self, network):
        model, _ = network
        alive(attach_eaf(model)).train()
        loss = F.cross_entropy(model(images()), torch.arange(3))
        loss.backward()
        for eaf in eafs(model):
            for parameter in eaf.parameters():
                assert parameter.grad.isfinite().all()
            assert eaf.gate.weight.grad.any()
            assert eaf.experts.outer_weight.grad.any()

    def test_it_can_be_copied_after_a_step(self, network):
        model, _ = network
        attach_eaf(model, balance=0.1).train()(images())
        twin = copy.deepcopy(model).eval()
        torch.testing.assert_close(twin(images()), model.eval()(images()))
        with torch.no_grad():
            eafs(twin)[0].gate.weight.add_(1)
        assert not eafs(twin)[0].gate.weight.equal(eafs(model)[0].gate.weight)

    def test_it_works_under_autocast(self, network):
        model, _ = network
        with torch.autocast("cpu", torch.bfloat16):
            before = model(images()).float()
            after = attach_eaf(model)(images())
            torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)
            F.cross_entropy(after, torch.arange(3)).backward()
        assert all(eaf.experts.outer_weight.grad.any() for eaf in eafs(model))


class TestChoices:
    @pytest.mark.parametrize("level", ["semantic", "instance"])
    def test_one_level_can_be_left_out(self, level):
        model = attach_eaf(TwoLayers(), levels=[level])
        assert eafs(model) == [getattr(model.last, level)]
        assert model(images()).shape == (3, CLASSES)

    def test_options_are_those_of_eaf(self):
        model = attach_eaf(TwoLayers(), num_experts=3, top_k=1, expert="linear", balance=0.5)
        for eaf in eafs(model):
            assert (eaf.num_experts, eaf.gate.top_k, eaf.balance) == (3, 1, 0.5)
            assert type(eaf.experts).__name__ == "LinearExperts"

    @pytest.mark.parametrize("training", [True, False])
    def test_the_new_layers_are_in_the_mode_of_the_network(self, training):
        model = attach_eaf(TwoLayers().train(training))
        assert all(module.training == training for module in model.modules())

    @pytest.mark.parametrize("build", [TwoLayers, lambda: Classifier(nn.Flatten(), 12, CLASSES)])
    def test_the_new_layers_are_on_the_device_of_the_linear_layer(self, build):
        model = attach_eaf(build().to("meta"))
        assert all(parameter.is_meta for parameter in model.parameters())

    def test_a_layer_of_two_names_is_replaced_at_both(self):
        model = attach_eaf(Aliased())
        assert model.fc is model.last
        assert isinstance(model.fc, EAFHead)

    def test_a_layer_of_two_names_in_timm_is_replaced_at_both(self):
        model = timm.create_model("resnet18", num_classes=CLASSES)
        model.head = model.fc
        attach_eaf(model)
        assert model.get_classifier() is model.fc is model.head

    def test_the_layer_keeps_its_weights_under_another_name(self):
        plain = TwoLayers()
        model = attach_eaf(copy.deepcopy(plain))
        assert "last.weight" not in model.state_dict()
        assert model.state_dict()["last.linear.weight"].equal(plain.last.weight)

    def test_weights_can_be_loaded_into_another_network_with_eaf(self):
        model, other = (alive(attach_eaf(TwoLayers())) for _ in range(2))
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other(images()), model(images()))

    def test_it_can_be_pickled_after_a_step(self):
        model = attach_eaf(TwoLayers(), balance=0.1)
        model(images())
        twin = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(twin(images()), model(images()))

    def test_a_layer_with_normalized_weights_is_found(self):
        model = TwoLayers()
        nn.utils.parametrizations.weight_norm(model.last)
        before = model(images())
        torch.testing.assert_close(attach_eaf(model)(images()), before, atol=1e-6, rtol=1e-6)

    def test_a_perceptron_that_narrows_and_widens_is_one_head(self):
        layers = [nn.Linear(6, 3), nn.Linear(3, 6), nn.Linear(6, CLASSES)]
        assert isinstance(attach_eaf(nn.Sequential(*layers))[2], EAFHead)

    def test_auxiliary_classifiers_in_the_middle_of_a_network_stay_as_they_are(self):
        with torch.device("meta"):
            model = tv.googlenet(num_classes=CLASSES, init_weights=False, aux_logits=True)
        attach_eaf(model)
        assert eafs(model) == [model.fc.semantic, model.fc.instance]

    def test_timm_takes_it_out_again(self):
        model = attach_eaf(timm.create_model("resnet18", num_classes=CLASSES))
        model.reset_classifier(3)
        assert not eafs(model)

    def test_a_compiled_graph_says_the_same(self):
        model = alive(attach_eaf(TwoLayers())).eval()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(images()), model(images()))


class TestClassifier:
    def model(self, **slots: nn.Module) -> Classifier:
        torch.manual_seed(0)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return Classifier(pooled, 12, CLASSES, **slots)

    def test_its_slots_are_filled(self):
        model = self.model()
        before = model(images())
        attach_eaf(model)
        assert isinstance(model.head, nn.Linear)
        assert eafs(model) == [model.semantic, model.instance]
        after = model(images())
        torch.testing.assert_close(after.logits, before.logits, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(after.features, before.features, atol=1e-6, rtol=1e-6)

    def test_it_equals_one_that_was_built_with_eaf(self):
        built = alive(self.model(semantic=EAF(12), instance=EAF(CLASSES)))
        model = attach_eaf(self.model())
        model.load_state_dict(built.state_dict())
        torch.testing.assert_close(model(images()).logits, built(images()).logits)

    def test_one_level_can_be_left_out(self):
        model = attach_eaf(self.model(), levels=("instance",))
        assert eafs(model) == [model.instance]

    def test_a_slot_that_is_in_use_is_left_alone(self):
        model = self.model(instance=nn.Tanh())
        with pytest.raises(ValueError, match="an empty slot 'instance', got Tanh"):
            attach_eaf(model)
        assert not eafs(model)

    def test_eaf_in_any_slot_is_refused(self):
        with pytest.raises(ValueError, match="without EAF, got one that has it at 'refine'"):
            attach_eaf(self.model(refine=EAF(12)))


class Detached(TwoLayers):
    """A network that makes its classifier up."""

    def get_classifier(self) -> nn.Module:
        return nn.Linear(6, CLASSES)


def ends_in_a_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, CLASSES), nn.LayerNorm(CLASSES))


def ends_in_a_convolution() -> nn.Module:
    """Squeeze and excitation made of linear layers, then a convolution as the classifier."""
    inside = nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ModuleDict({"se": inside}), nn.Conv2d(8, 7, 1))


def headless_transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "1x1 convolution": (tv.squeezenet1_1, "got SqueezeNet without a linear layer"),
    "1x1 convolution in timm": (new_timm("dla46_c"), "got DLA whose classifier is Conv2d"),
    "convolution after linear layers": (
        ends_in_a_convolution,
        "Sequential whose parameters end with 2.bias, after the linear 1.se.2",
    ),
    "no classifier in timm": (
        lambda: timm.create_model("resnet18", num_classes=0),
        r"whose classifier is Identity \(create it with num_classes > 0\)",
    ),
    "no classifier in timm's list of maps": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, features_only=True),
        "where model.blocks.11.mlp.fc2 and model.blocks.0.mlp.fc2 have one shape",
    ),
    "no classifier in a transformer": (headless_transformer, "end with norm.bias"),
    "distilled": (
        new_timm("deit_tiny_distilled_patch16_224", img_size=32, depth=1),
        "got VisionTransformerDistilled whose classifier is 2 heads",
    ),
    "two branches": (new_timm("crossvit_9_240"), "whose classifier is 2 heads"),
    "auxiliary head": (
        lambda: timm.create_model("volo_d1_224", img_size=32, num_classes=CLASSES),
        "got VOLO with two heads, head and aux_head",
    ),
    "no linear classifier in timm": (new_timm("caformer_s18"), "whose classifier is MlpHead"),
    "two heads": (lambda: Parallel(CLASSES, 1), "with two heads, age and expression"),
    "two heads of one size": (
        lambda: Parallel(CLASSES, CLASSES),
        "with two heads, age and expression",
    ),
    "norm after the classifier": (ends_in_a_norm, "end with 1.bias, after the linear 0"),
    "projection of an attention": (
        lambda: nn.MultiheadAttention(8, 2),
        "MultiheadAttention without a linear layer",
    ),
    "no parameters": (nn.Flatten, "got Flatten without a linear layer"),
    "nothing to replace": (lambda: nn.Linear(6, CLASSES), "got Linear without a linear layer"),
    "no part of the network": (Detached, "got Detached whose classifier is no part of it"),
}


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    def test_what_does_not_end_in_one_linear_layer_is_refused_in_a_line(self, case):
        build, message = REFUSED[case]
        with torch.device("meta"):
            model = build()
        with pytest.raises(ValueError, match=message) as caught:
            attach_eaf(model)
        assert "expected a network that ends in one nn.Linear" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not eafs(model)

    @pytest.mark.parametrize("levels", [(), ("semantic", "category"), "semantic"])
    def test_levels_are_some_of_the_two(self, levels):
        with pytest.raises(ValueError, match=r"levels \('semantic', 'instance'\) or one of them"):
            attach_eaf(TwoLayers(), levels=levels)

    def test_a_second_time_is_refused(self):
        model = attach_eaf(TwoLayers(), levels=["semantic"])
        with pytest.raises(ValueError, match=r"without EAF, got one that has it at 'last.semantic"):
            attach_eaf(model, levels=["instance"])

    def test_an_option_out_of_range_leaves_the_network_alone(self):
        model = TwoLayers()
        with pytest.raises(ValueError, match="1 <= top_k <= num_experts=2, got 3"):
            attach_eaf(model, num_experts=2, top_k=3)
        assert isinstance(model.last, nn.Linear)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_of_another_precision_are_refused(self, dtype):
        with pytest.raises(ValueError, match=rf"float32 weights .*, got {dtype}"):
            attach_eaf(TwoLayers().to(dtype))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_that_lose_their_precision_later_are_refused(self, dtype):
        model = attach_eaf(TwoLayers()).to(dtype)
        with pytest.raises(ValueError, match=rf"float32 weights .*, got {dtype}"):
            model(images().to(dtype))


class TestPackage:
    def test_the_package_offers_it(self):
        assert leaf_fer.attach_eaf is attach_eaf
        assert {"attach_eaf", "functional"} <= set(leaf_fer.__all__)

    def test_the_package_imports_torch_when_it_is_first_needed(self):
        code = """
            import sys, leaf_fer
            assert "torch" not in sys.modules
            leaf_fer.functional.candidate_set
            assert "torch" in sys.modules and "timm" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", inspect.cleandoc(code)], check=True)
