import numpy as np
import pytest
import torch

from leaf_fer.data.views import Batches, Images
from leaf_fer.types import MEAN, STD, Views


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    return Images(pixels, torch.device("cpu"))


def make(images, views, **options):
    labeled = np.arange(6)
    given = {"batch_size": 4, "unlabeled_ratio": 2, "seed": 5, **options}
    return Batches(images, labeled, labeled % 3, np.arange(6, 20), views, **given)


def test_images_come_as_they_are_stored(images):
    rows = torch.tensor([3, 1, 3])
    got = images.fetch(rows)
    assert got.shape == (3, 3, 16, 16)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(got.permute(0, 2, 3, 1).numpy(), images.pixels[[3, 1, 3]])


def test_a_batch_has_the_declared_views_and_sizes(images):
    batch = make(images, Views("ws", "wws")).at(0)
    assert [len(batch.labeled.weak), len(batch.labeled.strong)] == [1, 1]
    assert [len(batch.unlabeled.weak), len(batch.unlabeled.strong)] == [2, 1]
    assert batch.labeled.weak[0].shape == (4, 3, 16, 16)
    assert batch.unlabeled.strong[0].shape == (8, 3, 16, 16)
    assert batch.labeled.weak[0].dtype == torch.float32


def test_targets_belong_to_the_labeled_rows(images):
    batch = make(images, Views("w", "ws")).at(3)
    assert torch.equal(batch.labeled.target, batch.labeled.index % 3)


def test_an_unlabeled_batch_has_no_target(images):
    batch = make(images, Views("w", "ws")).at(0)
    assert set(vars(batch.unlabeled)) == {"index", "weak", "strong"}


def test_index_and_rows_name_the_same_images(images):
    batches = make(images, Views("w", "ws"))
    batch, (labeled, unlabeled) = batches.at(2), batches.rows(2)
    assert torch.equal(batches.labeled[batch.labeled.index], labeled)
    assert torch.equal(batches.unlabeled[batch.unlabeled.index], unlabeled)
    assert set(unlabeled.tolist()) <= set(range(6, 20))


def test_a_batch_depends_on_seed_and_step_alone(images):
    first, second = make(images, Views("w", "ws")), make(images, Views("w", "ws"))
    for step in range(3):
        first.at(step)
    a, b = first.at(9), second.at(9)
    assert torch.equal(a.labeled.weak[0], b.labeled.weak[0])
    assert torch.equal(a.unlabeled.strong[0], b.unlabeled.strong[0])
    other = make(images, Views("w", "ws"), seed=6).at(9)
    assert not torch.equal(a.unlabeled.strong[0], other.unlabeled.strong[0])


def test_two_weak_views_are_augmented_apart(images):
    batch = make(images, Views("w", "ww")).at(0)
    assert not torch.equal(*batch.unlabeled.weak)


def test_without_unlabeled_views_no_unlabeled_image_is_read(images):
    batch = make(images, Views("w")).at(0)
    assert len(batch.unlabeled.index) == 0
    assert batch.unlabeled.weak == batch.unlabeled.strong == ()


def test_unlabeled_views_need_unlabeled_images(images):
    with pytest.raises(ValueError, match="needs unlabeled images"):
        Batches(images, np.arange(6), np.zeros(6, int), np.arange(0), Views("w", "w"), batch_size=2)


def test_a_pass_over_the_labeled_images_visits_each_once(images):
    batches = make(images, Views("w", "ws"), batch_size=1)
    found = list(batches.labeled_pass(1))
    assert torch.cat([part.index for part in found]).tolist() == list(range(6))
    assert all(len(part.weak) == 1 and not part.strong for part in found)


def test_views_are_normalized(images):
    batch = make(images, Views("w")).at(0)
    low = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])
    high = torch.tensor([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    view = batch.labeled.weak[0]
    assert torch.all(view.amin((0, 2, 3)) >= low - 1e-5)
    assert torch.all(view.amax((0, 2, 3)) <= high + 1e-5)
    assert view.std() > 0.5


def same(a, b):
    views = ((*x.labeled.weak, *x.unlabeled.weak, *x.unlabeled.strong) for x in (a, b))
    return all(torch.equal(x, y) for x, y in zip(*views, strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_makes_the_views_of_its_own_rows(images, monkeypatch, rank):
    whole = make(images, Views("w", "ws")).at(4)
    monkeypatch.setattr("leaf_fer.data.views.mine", lambda: slice(rank, None, 2))
    part = make(images, Views("w", "ws")).at(4)
    assert torch.equal(part.labeled.index, whole.labeled.index)
    assert torch.equal(part.labeled.target, whole.labeled.target)
    for name in ("labeled", "unlabeled"):
        for kind in ("weak", "strong"):
            found, expected = (getattr(getattr(b, name), kind) for b in (part, whole))
            for mine, all_rows in zip(found, expected, strict=True):
                assert mine.is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(mine[rank::2], all_rows[rank::2])
                assert not mine[1 - rank :: 2].any()


def test_a_process_makes_all_views_where_rows_are_mixed(images, monkeypatch):
    whole = make(images, Views("w", "ws")).at(4)
    monkeypatch.setattr("leaf_fer.data.views.mine", lambda: slice(1, None, 2))
    assert same(make(images, Views("w", "ws"), own_rows_only=False).at(4), whole)


def test_images_read_ahead_are_those_of_the_step(images):
    plain, ahead = (make(images, Views("w", "ws"), prefetch=p) for p in (False, True))
    for step in (0, 1, 2, 7, 3):  # also after a jump, as when a run goes on
        assert same(ahead.at(step), plain.at(step))


def test_a_failure_to_read_ahead_is_told(images, monkeypatch):
    ahead = make(images, Views("w", "ws"), prefetch=True)
    ahead.at(0)
    monkeypatch.setattr(Images, "fetch", lambda self, rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # at step 1, unless that was read by then
        list(map(ahead.at, (1, 2)))


def test_the_layout_is_a_choice(images):
    batches = make(images, Views("w", "ws"), channels_last=False)
    assert batches.at(0).unlabeled.strong[0].is_contiguous()
    assert same(batches.at(1), make(images, Views("w", "ws")).at(1))
