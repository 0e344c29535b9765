from __future__ import annotations

import pytest
import torch

from leaf_fer.memory import Alignment

# spec 1.11
UNLABELED = [[0.85, 0.10, 0.05], [0.55, 0.40, 0.05], [0.15, 0.15, 0.70]]
TARGET = [0.333750, 0.333180, 0.333070]
SEEN = [0.516667, 0.216667, 0.266667]
ALIGNED = [
    [0.717462, 0.200935, 0.081603],
    [0.343988, 0.595547, 0.060465],
    [0.080621, 0.191920, 0.727459],
]


def random_batches(count: int, classes: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(2 * torch.randn(3 + k, classes, generator=generator)).softmax(1) for k in range(count)]


def test_the_first_batch_gives_the_vector_of_the_specification():
    align = Alignment(torch.tensor(TARGET))
    found = align(torch.tensor(UNLABELED))
    torch.testing.assert_close(align.seen, torch.tensor(SEEN), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, torch.tensor(ALIGNED), atol=1e-5, rtol=0)


def test_it_is_the_loop_of_the_definition():
    target = [0.4, 0.3, 0.2, 0.1]
    align = Alignment(torch.tensor(target), momentum=0.7)
    seen: list[float] = []
    for batch in random_batches(6):
        rows = batch.double().tolist()
        mean = [sum(row[c] for row in rows) / len(rows) for c in range(4)]
        seen = [0.7 * s + 0.3 * m for s, m in zip(seen, mean, strict=True)] if seen else mean
        expected = []
        for row in rows:
            weighted = [row[c] * (target[c] + 1e-6) / (seen[c] + 1e-6) for c in range(4)]
            expected.append([w / sum(weighted) for w in weighted])
        torch.testing.assert_close(align(batch), torch.tensor(expected), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(align.seen, torch.tensor(seen), atol=1e-6, rtol=1e-5)


def test_a_batch_that_is_as_it_should_be_is_not_changed():
    batch = torch.tensor(UNLABELED)
    torch.testing.assert_close(Alignment(batch.mean(0))(batch), batch)


def test_rows_sum_to_1():
    align = Alignment(torch.ones(4) / 4)
    for batch in random_batches(5):
        torch.testing.assert_close(align(batch).sum(1), torch.ones(len(batch)))


def test_a_class_that_is_seen_too_often_is_lowered():
    align = Alignment(torch.ones(3) / 3)
    assert (align(torch.tensor(UNLABELED))[:, 0] < torch.tensor(UNLABELED)[:, 0]).all()


def test_a_momentum_of_0_looks_at_the_latest_batch_only():
    align = Alignment(torch.ones(4) / 4, momentum=0.0)
    for batch in random_batches(3):
        align(batch)
        torch.testing.assert_close(align.seen, batch.mean(0))


def test_a_class_that_was_never_seen_gives_finite_numbers():
    align = Alignment(torch.ones(3) / 3)
    assert align(torch.tensor([[1.0, 0, 0], [0, 1, 0]])).isfinite().all()


def test_a_batch_of_classes_that_should_never_come_keeps_its_proportions():
    batch = torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]])
    torch.testing.assert_close(Alignment(torch.tensor([0.0, 0, 1]))(batch), batch)


def test_it_passes_no_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    assert not Alignment(torch.ones(3) / 3)(logits.softmax(1)).requires_grad


def test_saving_and_loading_continues_with_equal_bits():
    first = Alignment(torch.ones(4) / 4, 0.9)
    second = Alignment(torch.tensor([0.7, 0.1, 0.1, 0.1]), 0.9)
    early, late = random_batches(2)
    first(early)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(late), second(late))


def test_the_target_is_copied():
    target = torch.ones(3) / 3
    align = Alignment(target)
    target.zero_()
    assert align.target.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_outside_0_to_1_is_refused(momentum):
    with pytest.raises(ValueError, match="0 <= momentum < 1"):
        Alignment(torch.ones(3) / 3, momentum)
