"""What a run does besides training: log, show progress, evaluate, keep the best, save."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from leaf_fer.engine.checkpoint import save_checkpoint
from leaf_fer.engine.loop import State
from leaf_fer.engine.record import Journal, RunFolder
from leaf_fer.models import EAF
from leaf_fer.types import Clock, Objective

COLLAPSE = 0.9
"""Share of the predictions that one class may take before a run is called collapsed."""
BEGINNING = 0.1
"""Share of a run in which it is not called collapsed: fresh heads often name one class at first."""
IDLE = 1e-3
"""Share of the pseudo-labels that a mask must let through, and keep out, to be called one."""

Validate = Callable[[torch.nn.Module], dict[str, Any]]


class Follower:
    """The hooks of all processes of a run but the first: they take part, and write nothing.

    Args:
        validate: see :class:`Recorder`; processes validate together.
        watch: likewise.
    """

    def __init__(self, validate: Validate | None, watch: Validate | None = None) -> None:
        self.validate = validate
        self.watch = watch

    def step(self, clock: Clock, objective: Objective, state: State) -> None:
        """Do nothing."""

    def epoch(self, clock: Clock, state: State) -> None:
        """Evaluate the averaged weights with the others."""
        for evaluate in (self.validate, self.watch):
            if evaluate is not None:
                evaluate(state.averaged)

    def save(self, state: State) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Recorder:
    """The hooks of a run that lives in a folder.

    Args:
        folder: the run folder.
        state: as it is when training starts or goes on.
        total_steps: of the whole run.
        validate: network -> metrics on the validation part, or None where there is none.
        keep: called when the averaged network is the best on validation so far.
        classes: names of the C classes.
        even: whether no class has most of the labels, so that one class taking nearly all
            predictions means collapse.
        log_steps: steps between two lines of the log.
        watch: network -> how many pseudo-labels are right, which is only written down.
    """

    def __init__(
        self,
        folder: RunFolder,
        state: State,
        *,
        total_steps: int,
        validate: Validate | None,
        keep: Callable[[State], None],
        classes: tuple[str, ...],
        even: bool,
        log_steps: int,
        watch: Validate | None = None,
    ) -> None:
        self.folder = folder
        self.validate = validate
        self.keep = keep
        self.classes = classes
        self.even = even
        self.beginning = BEGINNING * total_steps
        self._collapsed = False
        self.log_steps = log_steps
        self.watch = watch
        self.journal = Journal(folder, state.step)
        self.bar = tqdm(
            total=total_steps, initial=state.step, unit="step", disable=None, dynamic_ncols=True
        )
        self._sums: dict[str, dict[str, tuple[Tensor, int]]] = {}
        self._count = 0
        self._epoch = 0
        self._since = time.perf_counter()

    def step(self, clock: Clock, objective: Objective, state: State) -> None:
        """Add the step to the running means; write them every ``log_steps``."""
        gates = {
            name: torch.stack([gate.importance, gate.frequency])
            for name, gate in state.model.named_modules()
            if isinstance(gate, EAF)
        }
        groups = {"loss": objective.terms, "watch": objective.watch, "experts": gates}
        for group, values in groups.items():
            sums = self._sums.setdefault(group, {})
            for name, value in values.items():
                value = value.detach().float()
                total, count = sums.get(name, (torch.zeros_like(value), 0))
                sums[name] = total + value, count + 1
        self._count += 1
        self._epoch = clock.epoch
        if (clock.step + 1) % self.log_steps == 0:
            self.flush(state)
        self.bar.update()

    def flush(self, state: State) -> None:
        """Write the means since the last line. The only place that waits for the device."""
        if not self._count:
            return
        line: dict[str, Any] = {"epoch": self._epoch, "lr": state.optimizer.param_groups[0]["lr"]}
        for group, sums in self._sums.items():
            line[group] = {name: (total / n).tolist() for name, (total, n) in sums.items()}
        now = time.perf_counter()
        line["steps_per_second"] = self._count / (now - self._since)
        state.facts["seconds"] = state.facts.get("seconds", 0.0) + now - self._since
        self.bar.set_postfix({k: f"{v:.3f}" for k, v in line["loss"].items()}, refresh=False)
        self.journal.write(state.step, line)
        if "shares" in line["watch"]:
            self._warn_of_collapse(state.step, line["watch"]["shares"])
        self._sums, self._count, self._since = {}, 0, now

    def epoch(self, clock: Clock, state: State) -> None:
        """Evaluate the averaged weights; what that takes is no time of training."""
        self.flush(state)
        now = time.perf_counter()
        if self.validate is not None:
            self._judge(clock, state, self.validate(state.averaged))
        if self.watch is not None:
            line = {"epoch": clock.epoch, "unlabeled": self.watch(state.averaged)}
            self.journal.write(state.step, line)
        if state.step - clock.epoch_steps < clock.total_steps / 2 <= state.step:
            self._warn_of_mask(state.step)
        self._since += time.perf_counter() - now

    def _judge(self, clock: Clock, state: State, found: Mapping[str, Any]) -> None:
        """Keep the averaged weights if they are the best on validation, warn of a collapse."""
        score = found["balanced_accuracy"]
        if score > state.facts.get("best", -1.0):
            state.facts.update(best=score, best_step=state.step)
            self.keep(state)
        self.bar.write(
            f"step {state.step}: validation balanced accuracy {100 * score:.2f} %, "
            f"overall {100 * found['overall_accuracy']:.2f} %",
            file=sys.stderr,
        )
        self._warn_of_collapse(state.step, list(found["predicted_shares"].values()))
        line = {k: v for k, v in found.items() if k not in ("confusion_matrix", "classes")}
        self.journal.write(state.step, {"epoch": clock.epoch, "validation": line})

    def _warn_of_collapse(self, step: int, shares: list[float]) -> None:
        """Say once that one class takes nearly all predictions, and again if it came back."""
        if step <= self.beginning:
            return
        share, name = max(zip(shares, self.classes, strict=True))
        fresh, self._collapsed = not self._collapsed, self.even and share > COLLAPSE
        if self._collapsed and fresh:
            self._warn(
                step, f"{100 * share:.0f} % of the predictions are {name!r}: the run has collapsed"
            )

    def _warn_of_mask(self, step: int) -> None:
        """Say if all pseudo-labels have counted from the start on, or none has."""
        lines = [line.get("watch", {}) for line in self.folder.lines()]
        masks = [line["mask"] for line in lines if "mask" in line]
        if masks and min(masks) > 1 - IDLE:
            self._warn(
                step, f"every pseudo-label of the first {step} steps has counted, doubtful ones too"
            )
        if masks and max(masks) < IDLE:
            self._warn(step, f"no pseudo-label of the first {step} steps has counted")

    def _warn(self, step: int, warning: str) -> None:
        self.bar.write(f"warning: step {step}: {warning}", file=sys.stderr)
        self.journal.write(step, {"warning": warning})

    def save(self, state: State) -> None:
        """Write the checkpoint, and first what was not logged yet."""
        self.flush(state)
        now = time.perf_counter()
        facts = {**state.facts, "step": state.step}
        save_checkpoint(self.folder.checkpoint, state.modules(), state.optimizer, facts)
        self._since += time.perf_counter() - now

    def close(self) -> None:
        """Close files and the bar."""
        self.journal.close()
        self.bar.close()
