"""EAF for networks that were not built here: timm's, torchvision's, or your own.

Shape letters: B batch, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from leaf_fer.models.classifier import Classifier
from leaf_fer.models.eaf import EAF

LEVELS = ("semantic", "instance")
"""The levels of LEAF that are layers; the category level is a loss."""

M = TypeVar("M", bound=nn.Module)


class EAFHead(nn.Module):
    """A linear classifier between two levels of LEAF: (B, D) -> (B, C).

        features -> semantic -> linear -> instance -> class scores

    Args:
        linear: the classifier that was there.
        semantic: (B, D) -> (B, D); None does nothing.
        instance: (B, C) -> (B, C); None does nothing.

    Attributes:
        in_features: D, as of the linear layer.
        out_features: C, as of the linear layer.
    """

    def __init__(
        self,
        linear: nn.Linear,
        semantic: nn.Module | None = None,
        instance: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.semantic = semantic or nn.Identity()
        self.linear = linear
        self.instance = instance or nn.Identity()

    @property
    def in_features(self) -> int:
        """D, as of the linear layer."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """C, as of the linear layer."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Classify pooled features, (B, D).

        Raises:
            ValueError: the weights are no longer float32.
        """
        _expect_single(self.linear)
        scores: Tensor = self.instance(self.linear(self.semantic(x)))
        return scores


def attach_eaf(model: M, levels: Iterable[str] = LEVELS, **options: Any) -> M:
    """Put EAF into a classifier, in place: before and after its final linear layer.

    LEAF (Zhang et al., 2024, arXiv:2404.15041), section 4.2: the semantic level works on the
    features that the linear layer reads, the instance level on the class scores that it gives. The
    linear layer is replaced by an :class:`EAFHead` that holds it; a
    :class:`~leaf_fer.models.Classifier` gets its slots filled. The third level is a loss:
    :func:`leaf_fer.functional.ambiguous_consistency`.

    With residual experts, the default, the network says what it said before, to 1e-6; with
    ``expert="linear"`` or ``"bottleneck"`` it starts from random experts and has to be trained.
    The new layers take the device and the training or evaluation mode of the linear layer.

    When to call it: after pretrained weights are loaded, since ``fc.weight`` is called
    ``fc.linear.weight`` afterwards; before the optimizer, a moving average, ``torch.compile`` or
    DistributedDataParallel get to see the network. timm's ``reset_classifier`` removes it again.
    Weights are float32; ``torch.autocast`` is for half precision, ``model.half()`` is not.

    The layer is timm's ``get_classifier()`` where there is one. Otherwise it is the last
    ``nn.Linear``, provided that no parameters follow it and that it is not a nested layer of a
    shape that occurs twice, as layers of blocks are. Either way, a linear layer beside it that
    reads the same features is taken for a second head. What this refuses can be given both levels
    by hand, in a line: ``model.fc = EAFHead(model.fc, EAF(512), EAF(7))``.

    Args:
        model: images (B, 3, H, W) -> class scores (B, C).
        levels: ``semantic``, ``instance``, or both.
        options: of :class:`~leaf_fer.models.EAF`: ``num_experts``, ``top_k``, ``expert``, ...;
            with ``balance`` add the ``penalty`` of every EAF to your loss.

    Returns:
        The same network.

    Raises:
        ValueError: no level or an unknown one; an EAF is there already; the network does not end in
            one linear layer, or its weights are not float32; an option of EAF is out of range.

    Example:
        >>> model = attach_eaf(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), num_experts=2)
        >>> model[1].in_features, model[1].out_features
        (12, 3)
    """
    chosen = set(levels)
    if not chosen or not chosen <= set(LEVELS):
        raise ValueError(f"expected levels {LEVELS} or one of them, got {levels!r}")
    for name, module in model.named_modules():
        if isinstance(module, EAF):
            raise ValueError(f"expected a network without EAF, got one that has it at {name!r}")
    if isinstance(model, Classifier):
        _fill(model, chosen, options)
        return model
    linear, places = _find_classifier(model)
    head = EAFHead(linear, **_create(linear, chosen, options)).train(linear.training)
    for place in places:
        parent, _, child = place.rpartition(".")
        setattr(model.get_submodule(parent), child, head)
    return model


def _create(linear: nn.Linear, levels: set[str], options: dict[str, Any]) -> dict[str, EAF]:
    """The EAFs of a linear layer by level, ready for its inputs and outputs."""
    _expect_single(linear)
    widths = {"semantic": linear.in_features, "instance": linear.out_features}
    return {
        level: EAF(width, **options).to(linear.weight.device).train(linear.training)
        for level, width in widths.items()
        if level in levels
    }


def _fill(model: Classifier, levels: set[str], options: dict[str, Any]) -> None:
    """Fill the slots of a classifier of our own."""
    for level in levels:
        slot = getattr(model, level)
        if not isinstance(slot, nn.Identity):
            raise ValueError(f"expected an empty slot {level!r}, got {type(slot).__name__}")
    for level, eaf in _create(model.head, levels, options).items():
        setattr(model, level, eaf)


def _find_classifier(model: nn.Module) -> tuple[nn.Linear, list[str]]:
    """The final linear layer, and all names that it has in the network.

    Raises:
        ValueError: there is none, or there are several.
    """
    every = dict(model.named_modules(remove_duplicate=False))
    ask = getattr(model, "get_classifier", None)
    if ask is not None:  # timm
        found = ask()
        if not isinstance(found, nn.Linear):
            raise _refusal(model, f"whose classifier is {_describe(found)}")
        places = [name for name, module in every.items() if module is found]
    else:
        found, places = _find_last(model, every)
    if not places:
        raise _refusal(model, "whose classifier is no part of it")
    for place in places:
        parent = model.get_submodule(place.rpartition(".")[0])
        for name, other in parent.named_children():
            # One that feeds the classifier gives what that reads; any other is a second head.
            second = _reads_the_same(other, found) and other.out_features != found.in_features
            if second and not isinstance(parent, nn.Sequential):
                raise _refusal(model, f"with two heads, {place} and {name}")
    return found, places


def _find_last(model: nn.Module, every: dict[str, nn.Module]) -> tuple[nn.Linear, list[str]]:
    """The linear layer that a network without ``get_classifier`` ends in, and its names."""
    # Attention computes with its projection's weights and never calls it.
    linears = {
        name: module
        for name, module in every.items()
        if name
        and isinstance(module, nn.Linear)
        and not isinstance(module, NonDynamicallyQuantizableLinear)
    }
    if not linears:
        raise _refusal(model, "without a linear layer inside")
    found = list(linears.values())[-1]
    places = [name for name, module in linears.items() if module is found]
    last = [name for name, _ in model.named_parameters(remove_duplicate=False)][-1]
    if not last.startswith(f"{places[-1]}."):
        raise _refusal(model, f"whose parameters end with {last}, after the linear {places[-1]}")
    nested = all("." in place for place in places)
    for name, other in linears.items():
        same = _reads_the_same(other, found) and other.out_features == found.out_features
        if nested and same:
            raise _refusal(model, f"where {places[-1]} and {name} have one shape")
    return found, places


def _reads_the_same(other: nn.Module, linear: nn.Linear) -> TypeGuard[nn.Linear]:
    """Whether another layer is linear and of the same input width."""
    return (
        isinstance(other, nn.Linear)
        and other is not linear
        and other.in_features == linear.in_features
    )


def _describe(found: object) -> str:
    """Say in a line what timm calls the classifier."""
    if isinstance(found, nn.Identity):
        return "Identity (create it with num_classes > 0)"
    if isinstance(found, tuple | list | nn.ModuleList):
        return f"{len(found)} heads"
    return type(found).__name__


def _refusal(model: nn.Module, problem: str) -> ValueError:
    expected = "a network that ends in one nn.Linear(width, classes)"
    return ValueError(f"expected {expected}, got {type(model).__name__} {problem}")


def _expect_single(linear: nn.Linear) -> None:
    """Raise a ValueError for weights that EAF cannot stand beside."""
    if linear.weight.dtype != torch.float32:
        raise ValueError(
            f"EAF: expected torch.float32 weights (use torch.autocast), got {linear.weight.dtype}"
        )
