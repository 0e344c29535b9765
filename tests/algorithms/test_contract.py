"""What every method must do: the battery runs over the table of methods, with and without EAF."""

from __future__ import annotations

import ast
import copy
import inspect
import io
import textwrap
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leaf_fer import registry
from leaf_fer.algorithm import PseudoLabeling
from leaf_fer.algorithms import ALGORITHMS, Algorithm
from leaf_fer.memory import Average
from leaf_fer.models import EAF
from leaf_fer.types import Batch, Clock, Labeled, Objective, Unlabeled, Views

TOTAL_STEPS, EPOCH_STEPS = 8, 3
MIDDLE, LATE = Clock(30, 100, 5), Clock(95, 100, 5)
"""A method may have terms that end before the run does."""

pseudo_labeling = [k for k in sorted(ALGORITHMS) if issubclass(ALGORITHMS[k], PseudoLabeling)]
every_method = pytest.mark.parametrize("key", sorted(ALGORITHMS))
with_and_without_eaf = pytest.mark.parametrize("eaf", [False, True], ids=["plain", "eaf"])


class Run:
    """A run of the engine in miniature, in the same order."""

    def __init__(self, key, problem, model, new_batch, labeled_pass):
        torch.manual_seed(1)
        self.model = model.train()
        self.algorithm = ALGORITHMS[key](problem, model)
        self.average = Average(model, 0.9)
        trained = [*model.parameters(), *self.algorithm.parameters()]
        self.optimizer = torch.optim.Adam([p for p in trained if p.requires_grad], 1e-3)
        self.new_batch, self.labeled_pass = new_batch, labeled_pass

    def steps(self, start: int, stop: int) -> list[Tensor]:
        return [self.step(k) for k in range(start, stop)]

    def step(self, k: int) -> Tensor:
        torch.manual_seed(k)
        batch = self.new_batch(self.algorithm.views, k)
        loss = self.algorithm.loss(batch, self.model, Clock(k, TOTAL_STEPS, EPOCH_STEPS)).total
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.update(self.model)
        self.algorithm.after_step(self.model)
        if (k + 1) % EPOCH_STEPS == 0:
            clock = Clock(k + 1, TOTAL_STEPS, EPOCH_STEPS)
            with torch.no_grad():
                self.algorithm.after_epoch(self.average.model, self.labeled_pass(), clock)
        return loss.detach()

    def save(self) -> io.BytesIO:
        file = io.BytesIO()
        parts = (self.model, self.algorithm, self.average, self.optimizer)
        torch.save([part.state_dict() for part in parts], file)
        file.seek(0)
        return file

    def load(self, file: io.BytesIO) -> None:
        states = torch.load(file, weights_only=True)
        parts = (self.model, self.algorithm, self.average, self.optimizer)
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)

    def tensors(self) -> dict[str, Tensor]:
        modules = {"model": self.model, "algorithm": self.algorithm, "average": self.average}
        return {f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}


@pytest.fixture
def new_run(problem, new_model, learned, new_batch, labeled_pass):
    def make(key: str, eaf: bool, *, trained: bool = True) -> Run:
        model = learned(eaf) if trained else new_model(eaf)
        return Run(key, problem, model, new_batch, labeled_pass)

    return make


@pytest.fixture
def look(problem, learned, new_batch):
    """Method, EAF -> the objective of a network that is sure of half of the unlabeled images.

    The method has seen some batches before: a memory may teach nothing while it is empty.
    """

    def make(
        key: str,
        eaf: bool,
        change: Any = lambda batch: batch,
        clock: Clock = LATE,
        **options: Any,
    ) -> tuple[nn.Module, Objective]:
        torch.manual_seed(0)
        model = learned(eaf).train()
        algorithm = ALGORITHMS[key](problem, model, **options)
        for seed in range(4, 8):
            algorithm.loss(new_batch(algorithm.views, seed), model, clock)
        batch = change(new_batch(algorithm.views, 3))
        return model, algorithm.loss(batch, model, clock)

    return make


def held_tensors(value: Any) -> Iterator[Tensor]:
    """Tensors inside plain containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from held_tensors(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from held_tensors(item)


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {
        k: v
        for k, v in vars(module).items()
        if k not in ("_parameters", "_buffers", "_modules", "training")
    }


@every_method
def test_it_can_be_made_with_defaults(key, problem, new_model):
    algorithm = ALGORITHMS[key](problem, new_model())
    assert isinstance(algorithm, Algorithm)
    assert isinstance(algorithm.views, Views)


@every_method
@with_and_without_eaf
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_losses_stay_finite_from_the_first_step_to_the_last(key, eaf, trained, new_run):
    run = new_run(key, eaf, trained=trained)
    assert torch.stack(run.steps(0, TOTAL_STEPS)).isfinite().all()
    assert all(v.isfinite().all() for v in run.tensors().values())


@every_method
@with_and_without_eaf
def test_losses_stay_finite_in_bfloat16(key, eaf, look):
    with torch.autocast("cpu", torch.bfloat16):
        model, objective = look(key, eaf)
    objective.total.backward()
    assert all(term.isfinite() for term in objective.terms.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_method
@with_and_without_eaf
@pytest.mark.parametrize("clock", [MIDDLE, LATE], ids=["middle", "late"])
def test_every_term_teaches_the_network_once_pseudo_labels_are_confident(key, eaf, clock, look):
    model, objective = look(key, eaf, clock=clock)
    parameters = list(model.parameters())
    for name, term in objective.terms.items():
        assert term.shape == ()
        found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().max() > 1e-8 for g in found), name


@pytest.mark.parametrize("key", pseudo_labeling)
@pytest.mark.parametrize("category", ["replace", "add"])
def test_the_ambiguous_loss_teaches_under_the_methods_own_mask(key, category, look):
    _, plain = look(key, True)
    model, objective = look(key, True, category=category)
    assert set(objective.terms) - set(plain.terms) == {"category"}
    assert set(plain.terms) - set(objective.terms) == (
        {"pseudo"} if category == "replace" else set()
    )
    for name in set(plain.terms) & set(objective.terms):
        assert torch.equal(plain.terms[name], objective.terms[name]), name
    assert torch.equal(plain.watch["mask"], objective.watch["mask"])
    found = torch.autograd.grad(objective.terms["category"], list(model.parameters()))
    assert any(g.abs().max() > 1e-8 for g in found)


class Tally:
    """Images that passed forward without, and back with gradient; shared by copies of a network."""

    def __init__(self) -> None:
        self.forward_only = self.backward = 0

    def __deepcopy__(self, _: object) -> Tally:
        return self


class Counted(nn.Module):
    """A backbone that counts the images that pass through it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.tally = Tally()

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        if features.requires_grad:
            features.register_hook(lambda gradient: self._count_backward(len(gradient)))
        else:
            self.tally.forward_only += len(images)
        return features

    def _count_backward(self, number: int) -> None:
        self.tally.backward += number


@every_method
@pytest.mark.parametrize("clock", [MIDDLE, LATE], ids=["middle", "late"])
def test_it_makes_the_passes_that_it_says_and_no_others(key, clock, problem, learned, new_batch):
    model = learned(True).train()
    model.backbone = Counted(model.backbone)
    tally = model.backbone.tally
    algorithm = ALGORITHMS[key](problem, model)
    batch = new_batch(algorithm.views, 3)
    algorithm.loss(batch, model, clock).total.backward()

    labeled, forward, backward = registry.method(key).passes
    b_l, b_u = len(batch.labeled.index), len(batch.unlabeled.index)
    said = labeled * b_l + backward * b_u
    assert tally.forward_only + tally.backward == said + forward * b_u
    # A term that ends before the run does saves its backward passes from then on.
    assert tally.backward == said if clock is MIDDLE else tally.backward <= said


@every_method
def test_a_method_with_unlabeled_views_has_more_than_a_supervised_term(key, look):
    _, objective = look(key, False)
    assert bool(ALGORITHMS[key].views.unlabeled) == (len(objective.terms) > 1)


@every_method
def test_what_is_watched_carries_no_gradient(key, look):
    _, objective = look(key, True)
    assert all(isinstance(v, Tensor) for v in objective.watch.values())
    assert not any(v.requires_grad for v in objective.watch.values())


@every_method
@with_and_without_eaf
def test_saving_and_loading_in_the_middle_continues_with_equal_bits(key, eaf, new_run):
    whole = new_run(key, eaf)
    whole.steps(0, 4)
    file = whole.save()
    resumed = new_run(key, eaf, trained=False)
    resumed.load(file)
    assert torch.equal(
        torch.stack(whole.steps(4, TOTAL_STEPS)), torch.stack(resumed.steps(4, TOTAL_STEPS))
    )
    for name, value in resumed.tensors().items():
        assert torch.equal(value, whole.tensors()[name]), name


@every_method
def test_no_tensor_hides_outside_parameters_and_buffers(key, new_run):
    run = new_run(key, True)
    run.steps(0, EPOCH_STEPS)
    for name, module in run.algorithm.named_modules():
        for attribute, value in plain_attributes(module).items():
            assert not list(held_tensors(value)), f"{name}.{attribute}"


@every_method
def test_nothing_else_changes_without_being_saved(key, new_run):
    run = new_run(key, True)
    modules = dict(run.algorithm.named_modules())
    before = {name: copy.deepcopy(plain_attributes(m)) for name, m in modules.items()}
    run.steps(0, EPOCH_STEPS)
    for name, module in modules.items():
        if type(module).get_extra_state is nn.Module.get_extra_state:
            assert plain_attributes(module) == before[name], name


@every_method
def test_it_says_what_it_remembers(key, new_run):
    assert bool(registry.method(key).state) == bool(new_run(key, False).algorithm.state_dict())


@every_method
def test_all_buffers_are_saved(key, new_run):
    algorithm = new_run(key, True).algorithm
    for name, _ in algorithm.named_buffers():
        # An EAF inside a copied network remembers its latest batch, for logging only.
        if not isinstance(algorithm.get_submodule(name.rpartition(".")[0]), EAF):
            assert name in algorithm.state_dict(), name


@every_method
def test_state_is_float32_and_survives_bfloat16_steps(key, new_run):
    run = new_run(key, True)
    with torch.autocast("cpu", torch.bfloat16):
        run.steps(0, EPOCH_STEPS)
    floating = [v for v in run.algorithm.buffers() if v.is_floating_point()]
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in floating)


@every_method
def test_the_network_is_not_part_of_the_method(key, problem, new_model):
    model = new_model(True)
    algorithm = ALGORITHMS[key](problem, model)
    assert not set(model.modules()) & set(algorithm.modules())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in algorithm.parameters()}


@every_method
def test_a_loss_leaves_network_and_batch_as_they_were(key, problem, learned, new_batch):
    model = learned(True).train()
    algorithm = ALGORITHMS[key](problem, model)
    batch = new_batch(algorithm.views, 3)
    views = [v for part in (batch.labeled, batch.unlabeled) for v in declared(part)]
    before = copy.deepcopy([views, list(model.parameters())])
    flags = [m.training for m in model.modules()]
    algorithm.loss(batch, model, LATE)
    for old, new in zip(before, [views, list(model.parameters())], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert [m.training for m in model.modules()] == flags
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(layer.track_running_stats for layer in layers)


def declared(part: Labeled | Unlabeled) -> list[Tensor]:
    return [v for views in (part.weak, part.strong) if isinstance(views, tuple) for v in views]


def with_other_images(batch: Batch, place: str, kind: str, number: int) -> Batch:
    """The batch with one view replaced by noise."""
    part = getattr(batch, place)
    views = list(getattr(part, kind))
    generator = torch.Generator().manual_seed(99)
    views[number] = 3 * torch.randn(views[number].shape, generator=generator)
    return replace(batch, **{place: replace(part, **{kind: tuple(views)})})


def declared_places(views: Views) -> Iterator[tuple[str, str, int]]:
    for place in ("labeled", "unlabeled"):
        for kind in ("weak", "strong"):
            for number in range(getattr(views, place).count(kind[0])):
                yield place, kind, number


@every_method
def test_every_view_that_is_declared_is_read(key, look):
    # Views that are not declared raise when they are read: see conftest.py.
    _, objective = look(key, False)
    for where in declared_places(ALGORITHMS[key].views):
        _, other = look(key, False, lambda batch, where=where: with_other_images(batch, *where))
        assert any(not torch.equal(v, other.terms[k]) for k, v in objective.terms.items()), where


@every_method
def test_every_option_is_documented(key):
    for option in registry.method(key).options:
        assert len(option.help) > 10, option.name
        assert not option.help.startswith("see :class:"), option.name


@every_method
def test_every_option_has_a_default_that_it_allows(key):
    for option in registry.method(key).options:
        assert option.parse(option.default) == option.default, option.name


@every_method
def test_every_option_is_read(key):
    cls = ALGORITHMS[key]
    lineage = [c for c in cls.__mro__ if issubclass(c, Algorithm)]
    trees = [ast.parse(textwrap.dedent(inspect.getsource(c))) for c in lineage]
    read = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    for tree in trees:
        for constructor in ast.walk(tree):
            if isinstance(constructor, ast.FunctionDef) and constructor.name == "__init__":
                check_options_are_read(constructor, read)


def check_options_are_read(constructor: ast.FunctionDef, read: set[str]) -> None:
    """An option is passed on, or stored in an attribute that a method reads."""
    nodes = [n for statement in constructor.body for n in ast.walk(statement)]
    loaded = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    stored = {
        n.value.id: n.targets[0].attr
        for n in nodes
        if isinstance(n, ast.Assign)
        and isinstance(n.value, ast.Name)
        and isinstance(n.targets[0], ast.Attribute)
    }
    for argument in constructor.args.kwonlyargs:
        assert argument.arg in loaded, f"{argument.arg} is ignored"
        if argument.arg in stored and loaded.count(argument.arg) == 1:
            assert stored[argument.arg] in read, f"{argument.arg} is stored and never read"


@every_method
def test_options_can_only_be_given_by_name(key, problem, new_model):
    with pytest.raises(TypeError):
        ALGORITHMS[key](problem, new_model(), 0.5)


@every_method
def test_an_unknown_option_is_refused(key, problem, new_model):
    with pytest.raises(TypeError):
        ALGORITHMS[key](problem, new_model(), no_such_option=1)


@every_method
def test_its_docstring_has_an_equation(key):
    text = ALGORITHMS[key].__doc__
    assert text is not None
    assert " L = " in text


@pytest.mark.parametrize("key", [k for k in sorted(ALGORITHMS) if ALGORITHMS[k].views.unlabeled])
def test_its_docstring_tells_of_batch_norm_and_of_deviations(key):
    told = " ".join(inspect.getdoc(c) or "" for c in ALGORITHMS[key].__mro__)
    assert "Batch-norm: " in told
    assert "Deviations from the " in told


@every_method
def test_it_never_waits_for_the_device(key):
    tree = ast.parse(inspect.getsource(inspect.getmodule(ALGORITHMS[key])))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"item", "tolist", "cpu", "cuda", "numpy", "nonzero", "unique", "bincount"}


def test_an_unlabeled_batch_has_no_place_for_labels():
    assert {f.name for f in fields(Unlabeled)} == {"index", "weak", "strong"}
    batch = Unlabeled(torch.arange(2))
    with pytest.raises(AttributeError):
        batch.target = torch.zeros(2)


def test_an_undeclared_view_is_noticed(new_batch):
    batch = new_batch(Views("w"), 0)
    with pytest.raises(AssertionError, match="did not declare"):
        batch.unlabeled.weak[0]
    with pytest.raises(AssertionError, match="did not declare"):
        list(batch.labeled.strong)


def test_the_network_of_this_battery_is_sure_of_some_images_and_not_of_others(learned, new_batch):
    for eaf in (False, True):
        with torch.no_grad():
            sure = learned(eaf)(new_batch(Views("w", "w"), 3).unlabeled.weak[0]).probabilities
        confidence = sure.amax(1)
        assert (confidence[:6] > 0.95).sum() >= 4
        assert (confidence < 0.8).sum() >= 2
