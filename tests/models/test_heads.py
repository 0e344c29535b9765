from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from leaf_fer.models.heads import Projection


def head(width: int = 6, size: int = 4) -> Projection:
    torch.manual_seed(0)
    return Projection(width, size)


def features(rows: int, width: int = 6) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def affine(weight: list[list[float]], bias: list[float], x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def test_it_is_linear_relu_linear_and_the_unit_length():
    project, x = head().double(), features(5).double()
    first, _, second = project.layers
    expected = []
    for row in x.tolist():
        hidden = [max(h, 0) for h in affine(first.weight.tolist(), first.bias.tolist(), row)]
        out = affine(second.weight.tolist(), second.bias.tolist(), hidden)
        length = math.sqrt(sum(o * o for o in out))
        expected.append([o / length for o in out])
    torch.testing.assert_close(project(x), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("width", "size"), [(6, 4), (4, 6), (512, 64)])
def test_the_hidden_layer_is_as_wide_as_the_features(width, size):
    shapes = [tuple(p.shape) for p in head(width, size).parameters()]
    assert shapes == [(width, width), (width,), (size, width), (size,)]


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_every_row_becomes_one_embedding(rows):
    assert head()(features(rows)).shape == (rows, 4)


def test_embeddings_have_length_1():
    torch.testing.assert_close(head()(features(20)).norm(dim=1), torch.ones(20))


def test_rows_do_not_look_at_each_other():
    project, x = head(), features(5)
    torch.testing.assert_close(project(x)[2:3], project(x[2:3]))


def test_a_row_that_projects_to_nothing_stays_finite():
    project = head()
    with torch.no_grad():
        project.layers[2].weight.zero_()
        project.layers[2].bias.zero_()
    found = project(features(3))
    found.sum().backward()
    assert found.tolist() == [[0] * 4] * 3
    assert all(p.grad.isfinite().all() for p in project.parameters())


def test_autocast_gives_float32_of_length_1():
    with torch.autocast("cpu", torch.bfloat16):
        found = head()(features(20))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(20))


def test_half_precision_weights_give_float32_of_length_1():
    found = head().bfloat16()(features(20).bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(20))


def test_its_gradient_reaches_the_features_and_every_parameter():
    project, x = head(), features(5).requires_grad_()
    project(x)[:, 0].sum().backward()
    assert x.grad.any()
    assert all(p.grad.any() for p in project.parameters())


def test_its_gradient_is_right():
    project, x = head().double(), features(3).double().requires_grad_()
    # A wider step than usual: the result is float32 whatever comes in.
    assert torch.autograd.gradcheck(lambda x: project(x).double(), x, eps=1e-3, atol=1e-3)


def test_features_of_another_width_are_an_error():
    with pytest.raises(RuntimeError):
        head()(features(2, 5))
