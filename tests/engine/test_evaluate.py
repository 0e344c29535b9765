import threading

import numpy as np
import pytest
import torch

from leaf_fer.data import synthetic
from leaf_fer.data.augment import normalize
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import evaluate
from leaf_fer.lookahead import ahead
from leaf_fer.models import Architecture, build_classifier
from leaf_fer.types import MEAN, STD

SIZE = 32
PIXELS = synthetic.render(0, range(23), SIZE)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=SIZE)
    return build_classifier(network).train()


def scores(model, images=None, rows=None, **options):
    images = Images(PIXELS, torch.device("cpu")) if images is None else images
    rows = np.arange(23) if rows is None else np.array(rows)
    return evaluate(model, images, rows, **{"batch_size": 5, "autocast": False, **options})


class Watched(Images):
    """Images that count how often they are asked for."""

    def __init__(self):
        super().__init__(PIXELS, torch.device("cpu"))
        self.begun = 0
        self.changed = threading.Condition()

    def fetch(self, rows):
        with self.changed:
            self.begun += 1
            self.changed.notify_all()
        return super().fetch(rows)

    def wait_for(self, count):
        with self.changed:
            return self.changed.wait_for(lambda: self.begun >= count, timeout=30)


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("leaf-reader")]


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_rows_are_answered_one_by_one_in_any_batch(model, batch_size):
    rows = [22, 3, 3, 0, 17, 8, 9, 10]
    model.eval()
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = [model(normalize(images[r : r + 1], MEAN, STD)).probabilities for r in rows]
    found = scores(model, rows=rows, batch_size=batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), atol=1e-5)


def test_half_precision_is_rounded_single_precision(model):
    single, half = scores(model), scores(model, autocast=True)
    assert not np.array_equal(single, half)
    np.testing.assert_allclose(single, half, atol=0.05)
    np.testing.assert_allclose(half.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(model, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores(model)
    assert model.training == training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_next_batch_is_read_while_one_is_computed(model):
    images, found = Watched(), []
    model.register_forward_pre_hook(
        lambda *_: found.append(images.wait_for(min(len(found) + 2, 4)))
    )
    scores(model, images, rows=range(20))
    assert found == [True] * 4


def test_no_more_than_the_next_batch_is_read(model):
    images, computed = Watched(), 0

    def look(*_):
        nonlocal computed
        computed += 1
        assert images.begun <= computed + 1

    model.register_forward_pre_hook(look)
    scores(model, images, batch_size=2)
    assert computed == images.begun == 12


def test_an_error_while_computing_ends_the_reader(model):
    def fail(*_):
        raise KeyboardInterrupt

    model.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        scores(model)
    assert not readers()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_a_gpu_answers_alike(model, resident_bytes):
    expected = scores(model, rows=np.arange(2300) % 23)
    images = Images(PIXELS, torch.device("cuda"), resident_bytes)
    found = scores(model.cuda(), images, rows=np.arange(2300) % 23)
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_items_are_drawn_ahead_and_none_is_lost(count):
    drawn = []
    items = (drawn.append(item) or item for item in range(5))
    for number, item in enumerate(ahead(items, count)):
        assert item == number
        assert len(drawn) == min(number + 1 + count, 5)
    assert number == 4
