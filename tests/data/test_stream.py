import pytest
import torch

from leaf_fer.data.stream import Stream, generator, seed_of


def test_every_pass_visits_every_sample_once():
    stream = Stream(10, 4, seed=3, name="x")
    seen = torch.cat([stream.rows(step) for step in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))


def test_a_batch_depends_on_seed_and_step_alone():
    first, second = Stream(100, 7, seed=1, name="x"), Stream(100, 7, seed=1, name="x")
    for step in range(40):
        first.rows(step)
    assert torch.equal(first.rows(12), second.rows(12))


def test_a_batch_larger_than_the_set_repeats_it():
    rows = Stream(3, 8, seed=0, name="x").rows(0)
    assert torch.bincount(rows).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


@pytest.mark.parametrize("other", [Stream(50, 50, 1, "x"), Stream(50, 50, 0, "y")])
def test_seed_and_name_give_other_orders(other):
    assert not torch.equal(Stream(50, 50, 0, "x").rows(0), other.rows(0))


@pytest.mark.parametrize(("size", "batch"), [(0, 1), (1, 0)])
def test_an_empty_set_or_batch_is_refused(size, batch):
    with pytest.raises(ValueError, match="expected size >= 1 and batch >= 1"):
        Stream(size, batch, 0, "x")


def test_seeds_fit_a_generator_and_differ():
    seeds = {seed_of(0, name, step) for name in "ab" for step in range(1000)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator(0, "a", 1).initial_seed() == seed_of(0, "a", 1)
