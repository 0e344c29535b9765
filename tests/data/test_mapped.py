import mmap
from pathlib import Path

import numpy as np
import pytest

from leaf_fer.data import mapped
from leaf_fer.data.mapped import Reader

linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of 64 MB."""
    path = tmp_path_factory.mktemp("mapped") / "rows.npy"
    np.save(path, np.repeat(np.arange(16000, dtype=np.uint8)[:, None], 4096, axis=1))
    return path


@pytest.fixture
def rows(file):
    """(16000, 4096) uint8, mapped from the file."""
    return np.load(file, mmap_mode="r")


def in_memory(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    total = 0
    for line in lines:
        if line.endswith(path.name):
            total += next(int(text.split()[1]) for text in lines if text.startswith("Rss:"))
    return total * 1024


def test_rows_are_copied_in_the_order_asked_for(rows):
    index = np.array([5, 15999, 5, 0])
    for source in (rows, np.array(rows), rows[:]):
        taken = Reader(source, kept_bytes=0).take(index)
        np.testing.assert_array_equal(taken, np.stack([rows[row] for row in index]))
        assert taken.flags.writeable


def test_rows_are_the_same_after_the_file_was_let_go(rows):
    reader = Reader(rows, kept_bytes=0)
    first = reader.take(np.arange(300))
    np.testing.assert_array_equal(reader.take(np.arange(300)), first)


@linux
def test_a_reader_keeps_no_more_of_the_file_than_it_may(rows, file):
    reader, kept = Reader(rows, kept_bytes=2**22), []
    for start in range(0, len(rows), 200):
        reader.take(np.arange(start, start + 200))
        kept.append(in_memory(file))
    assert 0 < max(kept) < rows.nbytes / 4


@linux
def test_a_reader_without_need_keeps_what_it_has_read(rows, file):
    Reader(rows).take(np.arange(len(rows)))
    assert in_memory(file) >= rows.nbytes


@pytest.mark.parametrize(("memory", "asked"), [(2**28, False), (2**26, True)])
def test_nothing_is_read_ahead_of_a_file_that_does_not_fit(rows, monkeypatch, memory, asked):
    class Mapping:
        advice: tuple[int, ...] = ()

        def madvise(self, option: int) -> None:
            self.advice = (*self.advice, option)

    mapping = Mapping()
    monkeypatch.setattr(mapped, "_memory", lambda: memory)
    monkeypatch.setattr(mapped, "_file_of", lambda _: mapping)
    Reader(rows)
    assert (mapping.advice == (mmap.MADV_RANDOM,)) == asked


def test_a_machine_has_memory():
    assert mapped._memory() > 2**28
