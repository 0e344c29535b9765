from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from leaf_fer.memory import LabelTable


def write(table: LabelTable, index: list[int], label: list[int], mask: list[float]) -> None:
    table.write(torch.tensor(index), torch.tensor(label), torch.tensor(mask))


def recounted(table: LabelTable) -> list[int]:
    """How many samples have each label, and how many have none, counted anew."""
    found = Counter(table.label.tolist())
    return [found[c] for c in range(len(table.counts) - 1)] + [found[-1]]


def random_batch(
    size: int, samples: int, classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    index = torch.randint(0, samples, (size,), generator=generator)
    label = torch.randint(0, classes, (size,), generator=generator)
    return index, label, (torch.rand(size, generator=generator) < 0.6).float()


class TestWrite:
    @pytest.mark.parametrize(
        ("samples", "classes", "size"), [(1, 2, 3), (5, 3, 16), (20, 7, 16), (500, 8, 64)]
    )
    def test_it_is_a_dictionary_of_the_latest_labels(self, samples, classes, size):
        generator = torch.Generator().manual_seed(0)
        table, expected = LabelTable(samples, classes), {}
        for _ in range(100):
            index, label, mask = random_batch(size, samples, classes, generator)
            table.write(index, label, mask)
            kept = mask > 0
            expected.update(zip(index[kept].tolist(), label[kept].tolist(), strict=True))
            assert table.label.tolist() == [expected.get(i, -1) for i in range(samples)]
            found = Counter(expected.values())
            counts = [found[c] for c in range(classes)] + [samples - len(expected)]
            assert table.counts.tolist() == counts

    @pytest.mark.parametrize("size", [1, 3, 16, 100])
    def test_the_counts_are_always_those_of_a_recount(self, size):
        generator = torch.Generator().manual_seed(1)
        table = LabelTable(30, 7)
        for _ in range(100):
            table.write(*random_batch(size, 30, 7, generator))
            assert table.counts.tolist() == recounted(table)

    def test_it_starts_without_labels(self):
        table = LabelTable(5, 3)
        assert table.label.tolist() == [-1] * 5
        assert table.counts.tolist() == [0, 0, 0, 5]

    def test_a_first_label_is_taken_from_those_without(self):
        table = LabelTable(5, 3)
        write(table, [1, 4], [0, 2], [1, 1])
        assert table.label.tolist() == [-1, 0, -1, -1, 2]
        assert table.counts.tolist() == [1, 0, 1, 3]

    def test_a_later_label_replaces_the_earlier_one(self):
        table = LabelTable(3, 3)
        write(table, [1], [0], [1])
        write(table, [1], [2], [1])
        assert table.label.tolist() == [-1, 2, -1]
        assert table.counts.tolist() == [0, 0, 1, 2]

    def test_the_same_label_again_changes_nothing(self):
        table = LabelTable(3, 3)
        for _ in range(3):
            write(table, [1], [0], [1])
        assert table.counts.tolist() == [1, 0, 0, 2]

    def test_masked_rows_are_not_written(self):
        table = LabelTable(3, 3)
        write(table, [0, 1, 2], [0, 1, 2], [1, 0, 1])
        assert table.label.tolist() == [0, -1, 2]
        assert table.counts.tolist() == [1, 0, 1, 1]

    def test_a_label_is_never_unset(self):
        generator = torch.Generator().manual_seed(2)
        table = LabelTable(20, 4)
        for _ in range(50):
            before = table.label.clone()
            table.write(*random_batch(8, 20, 4, generator))
            assert (table.label[before >= 0] >= 0).all()

    def test_an_empty_mask_writes_nothing(self):
        table = LabelTable(3, 3)
        write(table, [0, 1], [1, 1], [1, 1])
        write(table, [0, 1, 2], [0, 0, 0], [0, 0, 0])
        assert table.label.tolist() == [1, 1, -1]
        assert table.counts.tolist() == [0, 2, 0, 1]

    def test_of_a_sample_that_comes_twice_the_last_row_decides(self):
        table = LabelTable(3, 3)
        write(table, [1, 0, 1], [2, 1, 0], [1, 1, 1])
        assert table.label.tolist() == [1, 0, -1]
        assert table.counts.tolist() == [1, 1, 0, 1]

    def test_of_a_sample_that_comes_twice_a_masked_row_does_not_decide(self):
        table = LabelTable(3, 3)
        write(table, [1, 1, 2, 2], [2, 0, 2, 0], [1, 0, 0, 1])
        assert table.label.tolist() == [-1, 2, 0]
        assert table.counts.tolist() == [1, 0, 1, 1]

    def test_a_mask_of_truth_values_does_as_well(self):
        table = LabelTable(3, 3)
        table.write(torch.tensor([0, 1]), torch.tensor([2, 2]), torch.tensor([True, False]))
        assert table.label.tolist() == [2, -1, -1]


class TestState:
    def test_a_label_takes_two_bytes(self):
        assert LabelTable(5, 3).label.dtype == torch.int16

    def test_writing_keeps_the_types(self):
        table = LabelTable(5, 3)
        write(table, [0], [1], [1])
        assert (table.label.dtype, table.counts.dtype) == (torch.int16, torch.int64)

    def test_labels_of_many_classes_fit(self):
        table = LabelTable(2, 32_766)
        write(table, [1], [32_765], [1])
        assert table.label.tolist() == [-1, 32_765]
        assert table.counts[32_765].item() == 1

    def test_the_counts_sum_to_the_number_of_samples(self):
        generator = torch.Generator().manual_seed(3)
        table = LabelTable(12, 5)
        for _ in range(20):
            table.write(*random_batch(9, 12, 5, generator))
            assert table.counts.sum().item() == 12

    def test_its_whole_state_is_saved(self):
        assert set(LabelTable(5, 3).state_dict()) == {"label", "counts"}

    def test_saving_and_loading_continues_with_equal_bits(self):
        generator = torch.Generator().manual_seed(4)
        first, second = LabelTable(20, 4), LabelTable(20, 4)
        first.write(*random_batch(16, 20, 4, generator))
        second.write(*random_batch(16, 20, 4, generator))
        second.load_state_dict(first.state_dict())
        batch = random_batch(16, 20, 4, generator)
        for table in (first, second):
            table.write(*batch)
        assert torch.equal(first.label, second.label)
        assert torch.equal(first.counts, second.counts)


def test_a_sample_that_does_not_exist_is_an_error():
    with pytest.raises(IndexError):
        write(LabelTable(3, 3), [3], [0], [1])
