from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from leaf_fer.memory import Alignment, RunningMean, WindowAlignment

# spec 1.11
LABELED = [[0.9, 0.06, 0.04], [0.6, 0.3, 0.1]]
UNLABELED = [[0.85, 0.10, 0.05], [0.55, 0.40, 0.05], [0.15, 0.15, 0.70]]
TARGET = [0.333750, 0.333180, 0.333070]
SEEN = [0.516667, 0.216667, 0.266667]
ALIGNED = [
    [0.717462, 0.200935, 0.081603],
    [0.343988, 0.595547, 0.060465],
    [0.080621, 0.191920, 0.727459],
]

# spec 3.15, with a momentum of 0.5
GUESSED = [[0.80, 0.15, 0.05], [0.55, 0.40, 0.05], [0.30, 0.30, 0.40], [0.45, 0.35, 0.20]]


def random_batches(count: int, classes: int = 4, seed: int = 0) -> list[Tensor]:
    """Probabilities of batches of 3, 4, 5, ... samples."""
    generator = torch.Generator().manual_seed(seed)
    return [(2 * torch.randn(3 + k, classes, generator=generator)).softmax(1) for k in range(count)]


class TestRunningMean:
    @pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.999])
    def test_it_is_the_loop_of_the_definition(self, momentum):
        mean = RunningMean(torch.tensor([0.4, 0.3, 0.2, 0.1]), momentum)
        expected = [0.4, 0.3, 0.2, 0.1]
        for batch in random_batches(20):
            x = batch.mean(0)
            pairs = zip(expected, x.double().tolist(), strict=True)
            expected = [momentum * old + (1 - momentum) * new for old, new in pairs]
            mean.update(x)
            torch.testing.assert_close(mean.value, torch.tensor(expected), atol=1e-6, rtol=0)

    def test_it_starts_with_the_initial_value(self):
        assert RunningMean(torch.tensor([0.5, 0.25])).value.tolist() == [0.5, 0.25]

    def test_the_mean_of_labeled_predictions_gives_the_vector_of_the_specification(self):
        found = RunningMean(torch.ones(3) / 3, 0.999).update(torch.tensor(LABELED).mean(0))
        torch.testing.assert_close(found, torch.tensor(TARGET), atol=1e-5, rtol=0)

    def test_three_steps_towards_2_give_the_vector_of_the_specification(self):
        mean = RunningMean(torch.tensor(1.0), 0.999)
        for _ in range(3):
            mean.update(torch.tensor(2.0))
        torch.testing.assert_close(mean.value, torch.tensor(1.002997), atol=1e-6, rtol=0)

    @pytest.mark.parametrize(
        ("initial", "x", "expected"),
        [
            (1 / 3, [0.80, 0.55, 0.40, 0.45], 0.441667),
            ([1 / 3] * 3, GUESSED, [0.429167, 0.316667, 0.254167]),
            (
                [1 / 3] * 3,
                [[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]],
                [0.541667, 1 / 6, 0.291667],
            ),
        ],
    )
    def test_it_gives_the_vectors_of_freematch(self, initial, x, expected):
        found = RunningMean(torch.tensor(initial), 0.5).update(torch.tensor(x).float().mean(0))
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_it_starts_as_slowly_as_the_specification_says(self):
        mean = RunningMean(torch.tensor(1 / 7), 0.999)
        for _ in range(3):
            mean.update(torch.tensor(0.9))
        torch.testing.assert_close(mean.value, torch.tensor(0.145126), atol=1e-5, rtol=0)

    def test_it_gives_the_vector_of_the_variance_of_softmatch(self):
        confidence = torch.tensor([0.80, 0.55, 0.40, 0.45])
        found = RunningMean(torch.ones(()), 0.5).update(confidence.var())
        torch.testing.assert_close(found, torch.tensor(0.515833), atol=1e-5, rtol=0)

    def test_a_momentum_of_0_keeps_the_latest_only(self):
        mean = RunningMean(torch.ones(4) / 4, 0.0)
        for batch in random_batches(3):
            assert torch.equal(mean.update(batch.mean(0)), batch.mean(0))

    def test_the_same_value_again_changes_nothing(self):
        mean = RunningMean(torch.tensor([0.7, 0.3]), 0.9)
        for _ in range(5):
            mean.update(torch.tensor([0.7, 0.3]))
        torch.testing.assert_close(mean.value, torch.tensor([0.7, 0.3]))

    def test_many_updates_forget_the_initial_value(self):
        mean = RunningMean(torch.tensor(100.0), 0.9)
        for _ in range(300):
            mean.update(torch.tensor(2.0))
        torch.testing.assert_close(mean.value, torch.tensor(2.0))

    def test_a_snapshot_does_not_move_with_later_updates(self):
        mean = RunningMean(torch.zeros(2), 0.5)
        snapshot = mean.update(torch.ones(2))
        mean.update(torch.ones(2))
        assert snapshot.tolist() == [0.5, 0.5]

    def test_writing_into_a_snapshot_leaves_the_value_alone(self):
        mean = RunningMean(torch.zeros(2), 0.5)
        mean.update(torch.ones(2)).zero_()
        assert mean.value.tolist() == [0.5, 0.5]

    def test_a_snapshot_is_the_new_value(self):
        mean = RunningMean(torch.zeros(2), 0.9)
        assert torch.equal(mean.update(torch.tensor([0.3, 0.7])), mean.value)

    def test_the_initial_value_is_copied(self):
        initial = torch.ones(3)
        mean = RunningMean(initial)
        initial.zero_()
        assert mean.value.tolist() == [1, 1, 1]

    def test_it_passes_no_gradient(self):
        x = torch.ones(2, requires_grad=True)
        mean = RunningMean(torch.zeros(2))
        assert not mean.update(2 * x).requires_grad
        assert not mean.value.requires_grad

    def test_a_snapshot_stays_usable_in_a_graph_after_the_next_update(self):
        mean, x = RunningMean(torch.zeros(2), 0.5), torch.ones(2, requires_grad=True)
        loss = (mean.update(torch.ones(2)) * x).sum()
        mean.update(torch.ones(2))
        loss.backward()
        assert x.grad.tolist() == [0.5, 0.5]

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.float64])
    def test_the_state_is_float32_whatever_it_starts_with(self, dtype):
        assert RunningMean(torch.ones(2, dtype=dtype)).value.dtype == torch.float32

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_updates_of_every_precision_are_added_in_float32(self, dtype):
        mean = RunningMean(torch.ones(()), 0.999)
        found = mean.update(torch.tensor(2.0, dtype=dtype))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.tensor(1.001))

    def test_its_whole_state_is_saved(self):
        assert set(RunningMean(torch.zeros(2)).state_dict()) == {"value"}

    def test_saving_and_loading_continues_with_equal_bits(self):
        first, second = (RunningMean(torch.full((4,), k / 4), 0.9) for k in (1, 2))
        early, late = random_batches(2)
        first.update(early.mean(0))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first.update(late.mean(0)), second.update(late.mean(0)))

    def test_a_value_of_another_shape_is_an_error(self):
        with pytest.raises(RuntimeError):
            RunningMean(torch.zeros(3)).update(torch.zeros(4))

    @pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan")])
    def test_a_momentum_outside_0_to_1_is_refused(self, momentum):
        with pytest.raises(ValueError, match="0 <= momentum < 1"):
            RunningMean(torch.zeros(3), momentum)


def column_means(batch: Tensor) -> list[float]:
    rows = batch.double().tolist()
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def aligned(batch: Tensor, target: list[float], means: list[list[float]]) -> Tensor:
    """ReMixMatch, section 3.1, over the given means of batches."""
    seen = [sum(column) / len(means) for column in zip(*means, strict=True)]
    rows = []
    for row in batch.double().tolist():
        weighted = [p * (t + 1e-6) / (s + 1e-6) for p, t, s in zip(row, target, seen, strict=True)]
        rows.append([w / sum(weighted) for w in weighted])
    return torch.tensor(rows)


class TestWindowAlignment:
    @pytest.mark.parametrize("length", [1, 2, 3, 5, 11, 128])
    def test_it_is_the_loop_over_the_last_batches(self, length):
        target = [0.4, 0.3, 0.2, 0.1]
        align = WindowAlignment(torch.tensor(target), length)
        means: deque[list[float]] = deque(maxlen=length)
        for batch in random_batches(12):
            means.append(column_means(batch))
            expected = aligned(batch, target, list(means))
            torch.testing.assert_close(align(batch), expected, atol=1e-5, rtol=1e-5)

    def test_two_batches_give_the_vector_of_the_specification(self):
        # spec 3.11: the mean of the second batch is (0.45, 0.4, 0.15)
        align = WindowAlignment(torch.ones(3) / 3, 32)
        align(torch.tensor([[0.5, 0.3, 0.2]]))
        found = align(torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2]]))
        expected = [[0.563218, 0.218391, 0.218391], [0.128440, 0.522936, 0.348624]]
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)

    def test_the_first_batch_gives_the_vector_of_the_specification(self):
        found = WindowAlignment(torch.tensor(TARGET))(torch.tensor(UNLABELED))
        torch.testing.assert_close(found, torch.tensor(ALIGNED), atol=1e-5, rtol=0)

    def test_a_target_of_the_moment_gives_the_vector_of_the_specification(self):
        target = RunningMean(torch.ones(3) / 3).update(torch.tensor(LABELED).mean(0))
        found = WindowAlignment(torch.ones(3) / 3)(torch.tensor(UNLABELED), target)
        torch.testing.assert_close(found, torch.tensor(ALIGNED), atol=1e-5, rtol=0)

    def test_a_target_of_the_moment_counts_for_that_batch_only(self):
        first, second = (WindowAlignment(torch.ones(4) / 4, 3) for _ in range(2))
        early, late = random_batches(2)
        first(early, torch.tensor([0.7, 0.1, 0.1, 0.1]))
        second(early)
        assert torch.equal(first(late), second(late))

    def test_the_first_batch_is_aligned_as_with_a_running_mean(self):
        (batch,) = random_batches(1)
        window, running = (cls(torch.ones(4) / 4) for cls in (WindowAlignment, Alignment))
        torch.testing.assert_close(window(batch), running(batch))

    def test_a_window_of_1_looks_at_the_latest_batch_only(self):
        align = WindowAlignment(torch.ones(4) / 4, 1)
        for batch in random_batches(4):
            torch.testing.assert_close(
                align(batch), WindowAlignment(torch.ones(4) / 4, 1)(batch), atol=1e-6, rtol=0
            )

    def test_a_batch_that_left_the_window_is_forgotten(self):
        first, second = (WindowAlignment(torch.ones(4) / 4, 3) for _ in range(2))
        *batches, odd = random_batches(4)
        first(odd)
        second(odd.flip(1))
        for batch in batches[:-1]:
            assert not torch.equal(first(batch), second(batch))
        torch.testing.assert_close(first(batches[-1]), second(batches[-1]), atol=1e-6, rtol=0)

    def test_every_batch_counts_the_same_whatever_its_size(self):
        align = WindowAlignment(torch.ones(2) / 2)
        align(torch.tensor([[0.9, 0.1]]).expand(99, -1))
        found = align(torch.tensor([[0.1, 0.9]]))
        torch.testing.assert_close(found, torch.tensor([[0.1, 0.9]]))

    def test_batches_that_are_as_they_should_be_are_not_changed(self):
        batch = torch.tensor(UNLABELED)
        align = WindowAlignment(batch.mean(0), 2)
        for _ in range(5):
            torch.testing.assert_close(align(batch), batch)

    def test_rows_sum_to_1(self):
        align = WindowAlignment(torch.ones(4) / 4, 2)
        for batch in random_batches(5):
            torch.testing.assert_close(align(batch).sum(1), torch.ones(len(batch)))

    def test_a_class_that_was_never_seen_gives_finite_numbers(self):
        align = WindowAlignment(torch.ones(3) / 3)
        assert align(torch.tensor([[1.0, 0, 0], [0, 1, 0]])).isfinite().all()

    def test_it_passes_no_gradient(self):
        align = WindowAlignment(torch.ones(3) / 3)
        assert not align(torch.zeros(2, 3, requires_grad=True).softmax(1)).requires_grad
        assert not align.means.requires_grad

    def test_the_batch_is_left_as_it_is(self):
        batch = torch.tensor(UNLABELED)
        WindowAlignment(torch.ones(3) / 3)(batch)
        assert torch.equal(batch, torch.tensor(UNLABELED))

    def test_the_target_is_copied(self):
        target = torch.ones(3) / 3
        align = WindowAlignment(target)
        target.zero_()
        assert align.target.tolist() == pytest.approx([1 / 3] * 3)

    @pytest.mark.parametrize("done", [0, 1, 3, 4, 7])
    def test_saving_and_loading_continues_with_equal_bits(self, done):
        first = WindowAlignment(torch.ones(4) / 4, 3)
        second = WindowAlignment(torch.tensor([0.7, 0.1, 0.1, 0.1]), 3)
        batches = random_batches(done + 5)
        for batch in batches[:done]:
            first(batch)
        second.load_state_dict(first.state_dict())
        for batch in batches[done:]:
            assert torch.equal(first(batch), second(batch))

    @pytest.mark.parametrize("cls", [Alignment, WindowAlignment])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_probabilities_of_every_precision_are_taken(self, cls, dtype):
        found = cls(torch.tensor(TARGET))(torch.tensor(UNLABELED, dtype=dtype))
        torch.testing.assert_close(found.float(), torch.tensor(ALIGNED), atol=1e-2, rtol=0)

    def test_the_wrong_number_of_classes_is_an_error(self):
        with pytest.raises(RuntimeError):
            WindowAlignment(torch.ones(3) / 3)(torch.ones(2, 4) / 4)

    @pytest.mark.parametrize("length", [0, -1])
    def test_a_length_below_1_is_refused(self, length):
        with pytest.raises(ValueError, match="length >= 1"):
            WindowAlignment(torch.ones(3) / 3, length)
