"""A network that teaches itself: what its small images should look like."""

import pytest
import torch
import torch.nn.functional as F

from leaf_fer.models import Architecture, build_classifier
from leaf_fer.pretraining import PRETRAINING
from leaf_fer.types import Batch, Clock, Labeled, Problem, Unlabeled

PROBLEM = Problem(2, 16, 0, torch.ones(2) / 2)
CLOCK = Clock(0, 10, 5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_classifier(Architecture(backbone="conv4", num_classes=2, image_size=32))


def faces(count=6):
    """A batch of one weak view, whose targets would be out of any range."""
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    nobody = torch.full((count,), -1)
    return Batch(Labeled(nobody, nobody, (images,)), Unlabeled(nobody[:0]))


def distance(method, model, batch):
    return float(method.loss(batch, model, CLOCK).terms["distance"].detach())


def test_it_is_the_squared_distance_in_units_of_the_teachers_variance(model):
    method = PRETRAINING["distill"](PROBLEM, model, teacher_size=48)
    (images,) = faces().labeled.weak
    teacher = method.teacher.model.double()
    large = F.interpolate(images.double(), size=48, mode="bilinear")
    wanted = teacher(large).features
    got = model(images).features.detach().double()
    number, mean = wanted.shape[1], wanted.mean(dim=0)
    variance = float(((wanted - mean) ** 2).sum()) / (len(images) - 1) / number
    by_hand = float(((got - wanted) ** 2).sum()) / (len(images) * number) / variance
    method.teacher.model.float()
    torch.testing.assert_close(distance(method, model, faces()), by_hand, atol=0, rtol=1e-3)


def test_the_teacher_at_its_own_size_has_nothing_to_teach(model):
    method = PRETRAINING["distill"](PROBLEM, model, teacher_size=32)
    assert distance(method, model.eval(), faces()) < 1e-9
    other = PRETRAINING["distill"](PROBLEM, model, teacher_size=64)
    assert distance(other, model.eval(), faces()) > 0.01


def test_the_encoder_learns_and_the_teacher_does_not(model):
    method = PRETRAINING["distill"](PROBLEM, model, teacher_size=64)
    before = {name: value.clone() for name, value in method.state_dict().items() if value.ndim}
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = []
    for _ in range(6):
        loss = method.loss(faces(), model.train(), CLOCK).total
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in model.backbone.parameters())
        assert model.head.weight.grad is None
        optimizer.step()
        method.after_step(model)
        found.append(float(loss.detach()))
    assert found[-1] < 0.7 * found[0]
    assert not any(parameter.requires_grad for parameter in method.parameters())
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in before.items())
