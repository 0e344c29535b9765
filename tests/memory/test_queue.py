from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from leaf_fer.memory import Queue


def numbered(first: int, count: int, width: int = 2) -> Tensor:
    """Rows k, k, ... for k = first, first + 1, ..."""
    return torch.arange(first, first + count).float()[:, None].expand(-1, width).contiguous()


def content(queue: Queue) -> list[int]:
    """The number of every row, in the order of the rows."""
    assert torch.equal(queue.rows[:, :1].expand_as(queue.rows), queue.rows)
    return queue.rows[:, 0].int().tolist()


def filled(capacity: int, *counts: int) -> Queue:
    """A queue that got rows 1, 2, 3, ... in pushes of the given sizes."""
    queue, done = Queue(capacity, 2), 0
    for count in counts:
        queue.push(numbered(done + 1, count))
        done += count
    return queue


class TestContent:
    @pytest.mark.parametrize("capacity", [1, 2, 5, 12, 40])
    @pytest.mark.parametrize("seed", range(3))
    def test_it_holds_the_last_rows_pushed(self, capacity, seed):
        generator = torch.Generator().manual_seed(seed)
        queue, expected = Queue(capacity, 3), deque(maxlen=capacity)
        for size in torch.randint(0, 17, (30,), generator=generator).tolist():
            values = torch.randn(size, 3, generator=generator)
            queue.push(values)
            expected.extend(values.tolist())
            written = queue.rows[: min(int(queue.count), capacity)]
            assert sorted(written.tolist()) == sorted(expected)

    @pytest.mark.parametrize("capacity", [1, 3, 5, 7])
    def test_a_row_lies_where_its_number_says(self, capacity):
        generator = torch.Generator().manual_seed(0)
        queue, expected, done = Queue(capacity, 2), [0] * capacity, 0
        for size in torch.randint(0, 12, (30,), generator=generator).tolist():
            queue.push(numbered(done + 1, size))
            for number in range(done, done + size):
                expected[number % capacity] = number + 1
            done += size
            assert content(queue) == expected

    def test_it_starts_with_zeros(self):
        assert not Queue(3, 2).rows.any()

    def test_before_it_is_full_the_rest_stays_0(self):
        assert content(filled(5, 2, 1)) == [1, 2, 3, 0, 0]

    def test_it_is_filled_to_the_last_row(self):
        assert content(filled(4, 2, 2)) == [1, 2, 3, 4]

    def test_after_it_is_full_the_oldest_row_makes_room(self):
        assert content(filled(4, 4, 1)) == [5, 2, 3, 4]

    def test_a_push_wraps_around_the_end(self):
        assert content(filled(5, 4, 3)) == [6, 7, 3, 4, 5]

    def test_pushes_that_do_not_divide_the_capacity_lose_no_row(self):
        assert content(filled(5, 3, 3, 3)) == [6, 7, 8, 9, 5]

    def test_a_push_as_large_as_the_capacity_replaces_everything(self):
        assert content(filled(4, 1, 4)) == [5, 2, 3, 4]

    @pytest.mark.parametrize("before", [0, 1, 3, 4])
    def test_of_a_push_larger_than_the_capacity_the_last_rows_stay(self, before):
        assert sorted(content(filled(4, before, 11))) == [before + k for k in (8, 9, 10, 11)]

    def test_the_next_push_after_a_large_one_replaces_the_oldest_row(self):
        assert sorted(content(filled(4, 11, 1))) == [9, 10, 11, 12]

    def test_pushing_nothing_changes_nothing(self):
        queue = filled(3, 2)
        queue.push(torch.zeros(0, 2))
        assert (content(queue), int(queue.count)) == ([1, 2, 0], 2)

    def test_one_push_is_as_good_as_many(self):
        whole, parts = filled(5, 8), filled(5, *[1] * 8)
        assert torch.equal(whole.rows, parts.rows)

    def test_rows_are_copied(self):
        queue, values = Queue(3, 2), numbered(1, 2)
        queue.push(values)
        values.zero_()
        assert content(queue) == [1, 2, 0]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_rows_of_every_precision_are_kept_as_float32(self, dtype):
        queue = Queue(3, 2)
        queue.push(numbered(1, 2).to(dtype))
        assert queue.rows.dtype == torch.float32
        assert content(queue) == [1, 2, 0]

    def test_it_keeps_no_graph(self):
        queue = Queue(3, 2)
        queue.push(2 * torch.ones(1, 2, requires_grad=True))
        assert not queue.rows.requires_grad


class TestFull:
    @pytest.mark.parametrize(
        ("counts", "full"),
        [((), False), ((3,), False), ((3, 1), True), ((3, 3), True), ((9,), True), ((4, 1), True)],
    )
    def test_it_is_full_once_every_row_has_been_written(self, counts, full):
        assert bool(filled(4, *counts).full) is full

    def test_the_answer_is_a_tensor_that_needs_no_copy_to_the_host(self):
        full = Queue(2, 1).full
        assert isinstance(full, Tensor)
        assert (full.shape, full.dtype) == ((), torch.bool)


class TestState:
    def test_its_whole_state_is_saved(self):
        assert set(Queue(3, 2).state_dict()) == {"rows", "count"}

    @pytest.mark.parametrize("done", [0, 2, 5, 7])
    def test_saving_and_loading_continues_with_equal_bits(self, done):
        first, second = filled(5, done), filled(5, 3)
        second.load_state_dict(first.state_dict())
        for queue in (first, second):
            queue.push(numbered(done + 1, 2))
        assert torch.equal(first.rows, second.rows)
        assert torch.equal(first.full, second.full)


class TestErrors:
    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_capacity_below_1_is_refused(self, capacity):
        with pytest.raises(ValueError, match="capacity >= 1"):
            Queue(capacity, 2)

    def test_rows_of_another_width_are_an_error(self):
        with pytest.raises((RuntimeError, IndexError)):
            Queue(3, 2).push(torch.zeros(2, 3))
