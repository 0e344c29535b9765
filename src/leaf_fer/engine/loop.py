"""The training loop, in the order in which things happen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from leaf_fer import processes
from leaf_fer.algorithm import Algorithm
from leaf_fer.data.stream import seed_of
from leaf_fer.data.views import Batches
from leaf_fer.memory import Average
from leaf_fer.models import EAF, Classifier
from leaf_fer.types import Batch, Clock, Objective

if TYPE_CHECKING:  # importing Fabric takes seconds, and prediction does not need it
    from lightning_fabric import Fabric


class Interrupted(Exception):  # noqa: N818  # not an error: somebody asked for it
    """Training stopped early because it was asked to; everything is saved."""


class Diverged(ArithmeticError):  # noqa: N818  # it names what happened, as Interrupted does
    """A loss is no longer a finite number."""


@dataclass
class State:
    """Everything of a run that changes.

    Attributes:
        model: the network that is trained.
        algorithm: the method, with what only training needs.
        average: the moving average of the network, which is evaluated.
        optimizer: over the parameters of both.
        step: optimizer steps done.
        facts: numbers that outlive a restart: seconds, the best score so far, ...
    """

    model: Classifier
    algorithm: Algorithm
    average: Average
    optimizer: torch.optim.Optimizer
    step: int = 0
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def averaged(self) -> Classifier:
        """The averaged network: the one that counts."""
        assert isinstance(self.average.model, Classifier)
        return self.average.model

    def modules(self) -> dict[str, nn.Module]:
        """The modules by the names they have in a checkpoint."""
        return {"model": self.model, "average": self.average, "algorithm": self.algorithm}


class Hooks(Protocol):
    """What the loop calls besides the method: where results go."""

    def step(self, clock: Clock, objective: Objective, state: State) -> None:
        """After every step."""

    def epoch(self, clock: Clock, state: State) -> None:
        """After every epoch and after the last step."""

    def save(self, state: State) -> None:
        """When the run must be able to go on from here."""


def fit(
    fabric: Fabric,
    state: State,
    batches: Batches,
    hooks: Hooks,
    *,
    total_steps: int,
    epoch_steps: int,
    rate: Callable[[float], float],
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train from ``state.step`` to ``total_steps``.

    Step k depends on the weights and (seed, k) alone: its batch is drawn from them, and so are
    dropout and all other random numbers. After every step all processes hold the same state.

    Args:
        fabric: device, precision and processes.
        state: changed in place.
        batches: the data.
        hooks: recording, evaluating and saving.
        total_steps: optimizer steps of the whole run.
        epoch_steps: steps of an epoch.
        rate: share of the run that is done, in [0, 1) -> learning rate.
        seed: of everything random in a step.
        stop: asked after every step; true ends the run early, saved.

    Raises:
        Interrupted: ``stop`` said so.
        Diverged: a loss is not finite.
    """
    train = Training(fabric, state, seed)
    watchdog = Watchdog(fabric.device)
    wish = processes.Agreement()
    for step in range(state.step, total_steps):
        clock = Clock(step, total_steps, epoch_steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate(clock.progress)
        loss, objective = train.step(batches.at(step), clock)
        watchdog.look(step, loss, objective)
        hooks.step(clock, objective, state)

        clock = Clock(state.step, total_steps, epoch_steps)
        ends = state.step % epoch_steps == 0 or state.step == total_steps
        asked = wish.any(stop())
        if ends or asked:
            watchdog.raise_if_diverged()
        if ends:
            with torch.no_grad(), fabric.autocast():
                labeled = batches.labeled_pass(clock.epoch)
                state.algorithm.after_epoch(state.averaged, labeled, clock)
            hooks.epoch(clock, state)
        if ends or asked:
            hooks.save(state)
        if asked and state.step < total_steps:
            raise Interrupted(f"stopped after step {state.step} of {total_steps}")


class Training:
    """The steps of a run.

    Args:
        fabric: device, precision and processes.
        state: changed by every step.
        seed: of everything random in a step.
    """

    def __init__(self, fabric: Fabric, state: State, seed: int) -> None:
        self.fabric = fabric
        self.state = state
        self.seed = seed
        model, self.optimizer = fabric.setup(state.model, state.optimizer)
        model.train()
        self.model: nn.Module = processes.Spread(model) if processes.world() > 1 else model
        self._floating = [b for b in state.model.buffers() if b.is_floating_point()]
        self._shared = [p for p in state.algorithm.parameters() if p.requires_grad]

    def step(self, batch: Batch, clock: Clock) -> tuple[Tensor, Objective]:
        """Make one step; return the loss and its terms."""
        state = self.state
        torch.manual_seed(seed_of(self.seed, "step", clock.step))
        with self.fabric.autocast():
            objective = state.algorithm.loss(batch, self.model, clock)
        loss = objective.total + balance(state.model)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        # The network's gradients are shared by now. A method's own parts see the whole batch in
        # every process; the mean only takes away what kernels may round in another order.
        processes.average([p.grad for p in self._shared if p.grad is not None])
        self.optimizer.step()
        processes.average(self._floating)  # batch-norm's statistics
        state.average.update(state.model)
        state.algorithm.after_step(state.model)
        state.step = clock.step + 1
        return loss, objective


def balance(model: nn.Module) -> Tensor | float:
    """The load-balancing losses of all gates, as of the latest batch."""
    return sum(
        (m.penalty for m in model.modules() if isinstance(m, EAF) and m.penalty is not None), 0.0
    )


def cosine(progress: float) -> float:
    """Factor of the learning rate, cos(7 pi / 16 * progress): 1 at the start, 0.195 at the end."""
    return math.cos(7 * math.pi / 16 * progress)


class Watchdog:
    """Remembers the first loss that is not finite, without waiting for the device at every step."""

    def __init__(self, device: torch.device) -> None:
        self.first = torch.full((), -1, dtype=torch.int64, device=device)
        self.names: list[str] = []
        self.values = torch.zeros(0, device=device)

    def look(self, step: int, loss: Tensor, objective: Objective) -> None:
        """Take note of one step; where looking costs nothing, complain at once.

        Raises:
            Diverged: see :meth:`raise_if_diverged`.
        """
        terms = torch.stack([term.detach().float() for term in objective.terms.values()])
        names = list(objective.terms)
        if self.names != names:
            if self.names:  # a method changes its terms, which is rare enough to wait
                self.raise_if_diverged()
            self.names, self.values = names, terms
        fresh = (self.first < 0) & ~loss.detach().isfinite()
        self.values = torch.where(fresh, terms, self.values)
        self.first = torch.where(fresh, step, self.first)
        if self.first.device.type == "cpu":
            self.raise_if_diverged()

    def raise_if_diverged(self) -> None:
        """Wait for the device and look.

        Raises:
            Diverged: with the step as its second argument and the terms in its text.
        """
        step = int(self.first)
        if step >= 0:
            values = dict(zip(self.names, self.values.tolist(), strict=True))
            terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise Diverged(f"the loss is not finite at step {step}: {terms}", step)
