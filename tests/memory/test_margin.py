from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from leaf_fer.memory import ClassMargin
from leaf_fer.types import Labeled, Output

# spec 3.17: thresholds after epoch e for a mean confidence of 0.9 and of 0.99
VECTORS = [
    (0.9, 1, 0.8),
    (0.9, 2, 0.8),
    (0.9, 3, 0.831597),
    (0.9, 5, 0.867157),
    (0.9, 10, 0.872960),
    (0.9, 20, 0.873000),
    (0.99, 1, 0.8),
    (0.99, 2, 0.845829),
    (0.99, 3, 0.914757),
    (0.99, 5, 0.953873),
    (0.99, 10, 0.960256),
    (0.99, 20, 0.960300),
]


class Says(nn.Module):
    """A network whose images are its probabilities."""

    def forward(self, images: Tensor) -> Output:
        logits = images.flatten(1).log()
        return Output(logits, logits)


def batches(probabilities: Tensor, target: Tensor, size: int) -> list[Labeled]:
    parts = zip(probabilities.split(size), target.split(size), strict=True)
    return [Labeled(torch.arange(len(t)), t, weak=(p[:, :, None, None],)) for p, t in parts]


def sure(confidence: float, label: int, classes: int = 3) -> list[float]:
    rest = (1 - confidence) / (classes - 1)
    return [confidence if c == label else rest for c in range(classes)]


def by_hand(
    probabilities: list[list[float]], target: list[int], epoch: int, floor: float, ceiling: float
) -> list[float]:
    thresholds = []
    for c in range(len(probabilities[0])):
        right = [
            max(row)
            for row, y in zip(probabilities, target, strict=True)
            if y == c and row.index(max(row)) == c
        ]
        mean = sum(right) / len(right) if right else 0.0
        thresholds.append(max(floor, ceiling * mean / (1 + math.exp(-epoch))))
    return thresholds


@pytest.mark.parametrize(("confidence", "epoch", "expected"), VECTORS)
def test_it_gives_the_vectors_of_the_specification(confidence, epoch, expected):
    margin = ClassMargin(3)
    seen = torch.tensor([sure(confidence, c) for c in range(3)])
    margin.update(Says(), batches(seen, torch.arange(3), 3), epoch)
    torch.testing.assert_close(margin.threshold, torch.full((3,), expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_it_is_the_mean_over_right_answers_whatever_the_batch_size(size):
    generator = torch.Generator().manual_seed(0)
    seen = (5 * torch.randn(100, 4, generator=generator)).softmax(1)
    target = torch.where(
        torch.rand(100, generator=generator) < 0.7,
        seen.argmax(1),
        torch.randint(0, 4, (100,), generator=generator),
    )
    margin = ClassMargin(4, floor=0.3, ceiling=0.9)
    margin.update(Says(), batches(seen, target, size), 4)
    expected = by_hand(seen.double().tolist(), target.tolist(), 4, 0.3, 0.9)
    torch.testing.assert_close(margin.threshold, torch.tensor(expected), atol=1e-5, rtol=0)


def test_thresholds_start_at_the_floor():
    assert ClassMargin(5, floor=0.6).threshold.tolist() == pytest.approx([0.6] * 5)


def test_a_class_that_is_never_right_stays_at_the_floor():
    seen = torch.tensor([sure(0.99, 0), sure(0.99, 0)])
    margin = ClassMargin(3)
    margin.update(Says(), batches(seen, torch.tensor([0, 1]), 2), 20)
    torch.testing.assert_close(margin.threshold, torch.tensor([0.9603, 0.8, 0.8]))


def test_no_labeled_images_leave_the_floor():
    margin = ClassMargin(3)
    margin.update(Says(), [], 5)
    assert margin.threshold.tolist() == pytest.approx([0.8] * 3)


def test_thresholds_can_fall_again():
    margin = ClassMargin(1 + 1)
    for confidence in (0.99, 0.9):
        seen = torch.tensor([sure(confidence, c, 2) for c in range(2)])
        margin.update(Says(), batches(seen, torch.arange(2), 2), 20)
    torch.testing.assert_close(margin.threshold, torch.tensor([0.873, 0.873]))


def test_only_the_classes_own_threshold_decides():
    margin = ClassMargin(3)
    margin.threshold.copy_(torch.tensor([0.8, 0.9, 0.95]))
    label, mask = margin.confident(torch.tensor([sure(0.92, c) for c in range(3)]))
    assert label.tolist() == [0, 1, 2]
    assert mask.tolist() == [1, 1, 0]


def test_thresholds_carry_no_gradient():
    head = nn.Conv2d(3, 3, 1)

    def model(images: Tensor) -> Output:
        logits = head(images).flatten(1)
        return Output(logits, logits)

    margin = ClassMargin(3)
    margin.update(model, batches(torch.eye(3), torch.arange(3), 2), 3)
    assert not margin.threshold.requires_grad


def test_saving_and_loading_keeps_the_thresholds():
    first, second = ClassMargin(3), ClassMargin(3)
    seen = torch.tensor([sure(0.99, c) for c in range(3)])
    first.update(Says(), batches(seen, torch.arange(3), 3), 9)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.threshold, second.threshold)
