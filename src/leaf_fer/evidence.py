"""What a finished run has to show: read from its folder, and computed with its model."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from leaf_fer import functional as fn
from leaf_fer.build import Data, open_data
from leaf_fer.config import Settings, configure, read_yaml
from leaf_fer.data.views import Images
from leaf_fer.engine import watch
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError
from leaf_fer.models import EAF
from leaf_fer.predict import Predictor, load
from leaf_fer.registry import BASELINE, method
from leaf_fer.report.facts import Evidence, Faces, Integers, RunFacts, mean_by_class
from leaf_fer.report.plane import available, embed

SAMPLE = 400
"""Faces whose features and gates are looked at: as many dots as a page can show."""
POOL = 400
"""Unlabeled faces whose pseudo-labels are looked at."""
FEWEST = 4
"""Faces that t-SNE needs."""


@dataclass(frozen=True)
class Look:
    """What a network does with N faces.

    Attributes:
        probabilities: (N, C), rows sum to 1.
        features: (N, D), after the semantic EAF.
        gates: by place in the network, (N, E) weights of the experts, rows sum to 1.
    """

    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    gates: dict[str, NDArray[np.float32]]


def look(predictor: Predictor, pixels: NDArray[np.uint8], rows: Integers, batch: int) -> Look:
    """Classify rows (N,) of decoded images, and keep what happens on the way."""
    found: dict[str, list[Any]] = {}

    def keep(name: str, value: Any) -> None:
        found.setdefault(name, []).append(value.float().cpu())

    network: nn.Module = predictor.model
    hooks = [network.register_forward_hook(lambda *call: keep("features", call[-1].features))]
    names = []
    for name, module in network.named_modules():
        if isinstance(module, EAF):
            names.append(name)
            hook = partial(_keep_output, keep, f"gate {name}")
            hooks.append(module.gate.register_forward_hook(hook))
    try:
        probabilities = scores(predictor, pixels, rows, batch)
    finally:
        for one in hooks:
            one.remove()
    whole = {name: torch.cat(parts).numpy() for name, parts in found.items()}
    gates = {name: whole[f"gate {name}"] for name in names}
    return Look(probabilities, whole["features"], gates)


def _keep_output(keep: Any, name: str, *call: Any) -> None:
    keep(name, call[-1])


def scores(
    predictor: Predictor, pixels: NDArray[np.uint8], rows: Integers, batch: int
) -> NDArray[np.float32]:
    """Class probabilities of rows (N,) of decoded images: (N, C)."""
    images = Images(pixels, predictor.device, resident_bytes=0)
    return predictor.score(images, rows, batch)


def read_run(path: Path) -> RunFacts:
    """What the files of a finished run say.

    Raises:
        UserError: the folder holds no run, or one that is not finished or damaged.
    """
    folder = RunFolder(path)
    if not folder.started:
        raise UserError(f"{path}: not a run folder: expected config.yaml there")
    if not folder.finished:
        raise UserError(
            f"{path}: the run is not finished; go on with: leaf train --resume --out {path}"
        )
    try:
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
        split = (
            json.loads(folder.split.read_text(encoding="utf-8")) if folder.split.exists() else {}
        )
        config = configure(read_yaml(str(folder.config))).to_dict()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not the folder of leaf train: {error}") from None
    uses = ("labeled", "unlabeled", "validation", "test")
    counts = {use: _count(split[use]) for use in uses if use in split}
    part = json.dumps(split.get(metrics.get("part")), sort_keys=True)
    lines = folder.lines() if folder.log.exists() else []
    digest = hashlib.sha256(part.encode()).hexdigest()
    return RunFacts(path, config, metrics, tuple(lines), counts, digest)


def _count(group: Mapping[str, Any]) -> int:
    """Images of a group of a split, which may be described instead of listed."""
    return int(group["count"]) if isinstance(group.get("but"), list) else len(group)


SAME = (
    *("data", "labels", "balance", "split_seed", "validation", "keep_duplicates", "final"),
    *("image_size", "backbone", "init"),
)
"""Options that a supervised run beside another has in common with it."""


def find_supervised(run: RunFacts) -> RunFacts | None:
    """The supervised run beside a run, on the same data, split and labels, that is most like it.

    Of several the one that has most options in common, then the first by name.
    """
    if run.method == BASELINE or not run.measured:
        return None
    found = []
    here = run.path.resolve()
    for folder in sorted(here.parent.iterdir()):
        file = folder / "config.yaml"
        if folder == here or not (folder / "metrics.json").exists() or not file.exists():
            continue
        if f"method: {BASELINE}" not in file.read_text(encoding="utf-8", errors="replace"):
            continue  # reading all of a grid as YAML would take seconds
        try:
            other = read_run(folder)
        except UserError:
            continue
        alike = all(run.config[name] == other.config[name] for name in SAME)
        if (
            other.method == BASELINE
            and alike
            and other.measured
            and other.measured_on == run.measured_on
        ):
            shared = sum(value == other.config.get(name) for name, value in run.config.items())
            found.append((-shared, folder.name, other))
    return min(found, key=lambda one: one[:2])[2] if found else None


NOT_ASKED = frozenset(
    {"data", "method", "eaf", "watch_unlabeled", "report", "cache", "workers", "device"}
)


def supervised_command(run: RunFacts) -> str:
    """The commands that make a supervised run to compare with, and the report anew."""
    usual = configure({"method": BASELINE}).to_dict()
    words = ["leaf", "train", str(run.config["data"]), "--method", BASELINE]
    asked = {
        name: value
        for name, value in run.config.items()
        if name in usual and name not in NOT_ASKED and value != usual[name]
    }
    if asked.get("steps") is None:  # as many steps, not as many epochs: it has no unlabeled images
        asked["steps"] = run.metrics.get("step")
        asked.pop("epochs", None)
    for name, value in asked.items():
        shown = str(value).lower() if isinstance(value, bool) or value is None else str(value)
        words += [f"--{name.replace('_', '-')}", shown]
    out = run.path.with_name(f"{run.name}-{BASELINE}")
    again = shlex.join(["leaf", "report", str(run.path), "--beside", str(out)])
    return f"{shlex.join([*words, '--out', str(out)])}\n{again}"


def gather(
    path: Path,
    *,
    data: Data | None = None,
    probabilities: NDArray[np.float32] | None = None,
    device: str = "auto",
    cache: str | None = None,
) -> Evidence | None:
    """What the model of a run says about its faces.

    Args:
        path: the folder of a finished run.
        data: of the run, if it is open already.
        probabilities: (N, C) of the part that was measured, if they are known.
        device: where to compute.
        cache: folder of the decoded images; that of the run if None.

    Returns:
        None where there are no labeled faces to look at.

    Raises:
        UserError: model or data are not there.
    """
    folder = RunFolder(path)
    config = configure(read_yaml(str(folder.config)))
    settings = replace(config.settings, cache=cache or config.settings.cache)
    data = data or open_data(settings, folder.split)
    part = json.loads(folder.metrics.read_text(encoding="utf-8")).get("part")
    rows = getattr(data.split, part) if part else data.split.test
    if not len(rows):
        return None
    predictor = load(path, device=device, precision=settings.precision)
    batch = settings.eval_batch_size
    if probabilities is None:
        probabilities = scores(predictor, data.store.images, rows, batch)
    mass = float(config.options.get("mass", watch.MASS))
    chosen = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    sample = np.sort(chosen).astype(np.int64)
    found = look(predictor, data.store.images, rows[sample], batch)
    targets = data.table.targets[rows]
    pool = _pool(predictor, data, settings, mass)
    facts = None
    if pool is not None:
        facts = watch.quality(pool.probabilities, pool.targets, data.table.classes, mass)
    drawable = len(sample) >= FEWEST and np.ptp(found.features) > 0 and available()
    return Evidence(
        data.table.classes,
        mass,
        _faces(data, rows, probabilities, mass),
        pool,
        facts,
        sample,
        embed([found.features])[0] if drawable else None,
        {
            name: mean_by_class(weights, targets[sample], len(data.table.classes))
            for name, weights in found.gates.items()
        },
    )


def _faces(data: Data, rows: Integers, probabilities: NDArray[np.float32], mass: float) -> Faces:
    sets = fn.candidate_set(torch.from_numpy(probabilities), mass).numpy()
    return Faces(
        data.table.targets[rows],
        probabilities,
        sets,
        lambda places: data.store.gather(rows[places]),
        lambda place: str(data.table.names[rows[place]]),
    )


def _pool(predictor: Predictor, data: Data, settings: Settings, mass: float) -> Faces | None:
    """Some unlabeled faces whose class is known, if the method has a use for them."""
    if not method(settings.method).views[1] or not len(data.split.unlabeled):
        return None
    try:
        rows = watch.draw(data.table, data.split, POOL, settings.split_seed)
    except UserError:  # the data knows no class
        return None
    found = scores(predictor, data.store.images, rows, settings.eval_batch_size)
    return _faces(data, rows, found, mass)
