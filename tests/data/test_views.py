import numpy as np
import pytest
import torch

from leaf_fer.data.views import MEAN, STD, Batches, Images
from leaf_fer.types import Views


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
