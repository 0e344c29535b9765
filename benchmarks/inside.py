"""What trained models would teach themselves, by class, and what the experts of LEAF do in them.

    python benchmarks/inside.py RUN [MORE ...] --data DATA --out FILE [--pool 4000]

RUN is the folder of a finished run whose data is DATA, which knows the classes of its unlabeled
images. Two questions are asked of every model, the averaged one of the run:

pseudo-labels of that many unlabeled training images: leaf_fer.metrics.summarize of them all, the
precision of every class, and of those at least THRESHOLD sure their number and precision.

experts, of runs that have an EAF, on the validation part: the mean gate weights of every class; how
much of their variance over images is between classes; the mean of the largest weight; what the EAF
adds to its input and how far the experts' answers are from their mean, both as lengths against that
of the input; the mean gate weights at some steps of training; and what the model says with the EAF
left out, with all experts weighed alike, and with the weights of another image: how many images get
another class, and the accuracies. Places are those of the network, "both" is all of them at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leaf_fer import evidence
from leaf_fer.allocator import keep_memory
from leaf_fer.build import Data, open_data
from leaf_fer.config import Settings, configure, read_yaml
from leaf_fer.engine import watch
from leaf_fer.engine.record import RunFolder
from leaf_fer.errors import UserError, say
from leaf_fer.files import write_json
from leaf_fer.metrics import summarize
from leaf_fer.models import EAF, Classifier
from leaf_fer.predict import Predictor, load
from leaf_fer.report.facts import mean_by_class

Facts = dict[str, Any]
Weigh = Callable[[Tensor], Tensor]
"""Gate weights (N, E) -> others."""

THRESHOLD = 0.8
"""Confidence that a pseudo-label needs; the floor of LEAF's mask."""
BATCH = 256
MOMENTS = 7
"""Of training that are looked at, dense at its beginning."""
PLACES = ("semantic", "instance")


def other_image(weights: Tensor) -> Tensor:
    """Give every image the weights of another one, drawn at random."""
    return weights[torch.randperm(len(weights), generator=torch.Generator().manual_seed(0))]


WEIGHTS: dict[str, Weigh | None] = {
    "left out": None,
    "weighed alike": lambda weights: torch.full_like(weights, 1 / weights.shape[1]),
    "weighed for another image": other_image,
}
"""What is done to an EAF."""


class Reweighed(nn.Module):
    """An EAF whose gate is overruled: (B, W) -> (B, W)."""

    def __init__(self, eaf: EAF, weigh: Weigh) -> None:
        super().__init__()
        self.eaf = eaf
        self.weigh = weigh

    def forward(self, x: Tensor) -> Tensor:
        """Mix the experts' answers with other weights."""
        mixed: Tensor = self.eaf.experts.mix(x.float(), self.weigh(self.eaf.gate(x)))
        return mixed


def pseudo_labels(predictor: Predictor, data: Data, settings: Settings, count: int) -> Facts:
    """What the model says about unlabeled training images, beside their true classes."""
    rows = watch.draw(data.table, data.split, count, settings.split_seed)
    found = evidence.scores(predictor, data.store.images, rows, BATCH)
    targets, said = data.table.targets[rows], found.argmax(axis=1)
    sure = found.max(axis=1) >= THRESHOLD

    def precision(among: NDArray[np.bool_]) -> dict[str, float | None]:
        right = {name: (said == c) & among for c, name in enumerate(predictor.classes)}
        return {
            name: float((targets[chosen] == c).mean()) if chosen.any() else None
            for c, (name, chosen) in enumerate(right.items())
        }

    return {
        **summarize(found, targets, predictor.classes),
        "precision": precision(np.ones_like(sure)),
        "sure": {
            "threshold": THRESHOLD,
            "share": float(sure.mean()),
            "right": float((said == targets)[sure].mean()) if sure.any() else None,
            "shares": {
                name: float((said[sure] == c).mean()) if sure.any() else None
                for c, name in enumerate(predictor.classes)
            },
            "precision": precision(sure),
        },
    }


@torch.inference_mode()
def experts(predictor: Predictor, data: Data) -> Facts:
    """What the experts of a model do with the validation part; nothing if it has no experts.

    Raises:
        UserError: they are not those of the paper, or the run has no validation part.
    """
    network = predictor.model
    assert isinstance(network, Classifier)
    slots = {place: getattr(network, place) for place in PLACES}
    found: dict[str, EAF] = {p: slot for p, slot in slots.items() if isinstance(slot, EAF)}
    if not found:
        return {}
    if any(eaf.shared or eaf.combine != "linear" for eaf in found.values()):
        raise UserError(
            f"{predictor.folder}: its experts are shared or mixed otherwise; expected those of leaf"
        )
    rows = data.split.validation
    if not len(rows):
        raise UserError(f"{predictor.folder}: the run has no validation part to look at")
    targets = data.table.targets[rows]
    kept: list[Tensor] = []
    hook = network.backbone.register_forward_hook(lambda *call: kept.append(call[-1].float()))
    try:
        evidence.scores(predictor, data.store.images, rows, BATCH)
    finally:
        hook.remove()
    pooled = torch.cat(kept)

    def answer(replaced: dict[str, nn.Module]) -> NDArray[np.float32]:
        semantic, instance = ({**slots, **replaced}[place] for place in PLACES)
        features = network.norm(semantic(pooled))
        logits: Tensor = instance(network.head(network.refine(features)))
        return logits.float().softmax(dim=1).numpy()

    usual = answer({})
    facts: Facts = {"places": {}, "changed": {}}
    inputs = {"semantic": pooled}
    inputs["instance"] = network.head(network.refine(network.norm(slots["semantic"](pooled))))
    for place, eaf in found.items():
        facts["places"][place] = work(eaf, inputs[place], targets, predictor.classes)
    for name, weigh in WEIGHTS.items():
        changed: dict[str, nn.Module] = {
            place: nn.Identity() if weigh is None else Reweighed(eaf, weigh)
            for place, eaf in found.items()
        }
        asked = {place: {place: module} for place, module in changed.items()}
        if len(changed) > 1:
            asked["both"] = dict(changed)
        facts["changed"][name] = {
            where: beside(answer(replaced), usual, targets, predictor.classes)
            for where, replaced in asked.items()
        }
    facts["unchanged"] = beside(usual, usual, targets, predictor.classes)
    return facts


def work(eaf: EAF, x: Tensor, targets: NDArray[np.int64], classes: tuple[str, ...]) -> Facts:
    """How an EAF uses its experts for inputs (N, W), and how much they do."""
    weights, answers = eaf.gate(x), eaf.experts(x)
    means = mean_by_class(weights.numpy(), targets, len(classes))
    between = np.square(means[targets] - weights.numpy().mean(axis=0)).sum()
    whole = np.square(weights.numpy() - weights.numpy().mean(axis=0)).sum()
    size = x.norm(dim=1)
    added = (eaf(x) - x).norm(dim=1) / size
    apart = (answers - answers.mean(dim=1, keepdim=True)).norm(dim=2).mean(dim=1) / size
    return {
        "weights": dict(zip(classes, means.round(4).tolist(), strict=True)),
        "usage": weights.mean(dim=0).tolist(),
        "largest": float(weights.max(dim=1).values.mean()),
        "between_classes": float(between / whole) if whole else None,
        "added": float(added.mean()),
        "apart": float(apart.mean()),
    }


def trace(folder: RunFolder) -> dict[str, dict[str, list[float]]]:
    """Mean gate weights while the run trained: by place and step, MOMENTS of them."""
    lines = [line for line in folder.lines() if "experts" in line]
    chosen = sorted({round(at) for at in np.geomspace(1, len(lines), MOMENTS)}) if lines else []
    return {
        place: {str(lines[at - 1]["step"]): lines[at - 1]["experts"][place][0] for at in chosen}
        for place in (lines[0]["experts"] if lines else ())
    }


def beside(
    found: NDArray[np.float32],
    usual: NDArray[np.float32],
    targets: NDArray[np.int64],
    classes: tuple[str, ...],
) -> Facts:
    """Both accuracies, and how many images get another class than usual."""
    facts = summarize(found, targets, classes)
    return {
        "other_class": float((found.argmax(axis=1) != usual.argmax(axis=1)).mean()),
        **{name: facts[name] for name in ("balanced_accuracy", "overall_accuracy", "auc")},
    }


def examine(path: Path, data: str, pool: int) -> Facts:
    """Everything about one run.

    Raises:
        UserError: the run or its data is not usable.
    """
    run = evidence.read_run(path)
    settings = configure({**read_yaml(str(RunFolder(path).config)), "data": data}).settings
    opened = open_data(settings, RunFolder(path).split)
    predictor = load(path, device="cpu", precision="float32")
    found = experts(predictor, opened)
    if found:
        found["training"] = trace(RunFolder(path))
    return {
        "method": run.method,
        "labels": settings.labels,
        "seed": settings.split_seed,
        "count": {
            "pool": min(pool, len(opened.split.unlabeled)),
            "validation": len(opened.split.validation),
        },
        "pseudo_labels": pseudo_labels(predictor, opened, settings, pool),
        "experts": found,
    }


def table(found: Facts) -> str:
    """Sure pseudo-labels by class in Markdown: their share and how many are right, percent."""
    looks = {name: facts["pseudo_labels"] for name, facts in found.items()}
    first = next(iter(looks.values()))
    truth = np.array(first["confusion_matrix"]).sum(axis=1)

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f}"

    rows = [["", "in the pool", *looks], ["---", *["---:"] * (1 + len(looks))]]
    for name, count in zip(first["classes"], truth, strict=True):
        sure = [look["sure"] for look in looks.values()]
        cells = [f"{percent(s['shares'][name])}, {percent(s['precision'][name])}" for s in sure]
        rows.append([name, percent(count / truth.sum()), *cells])
    cells = [f"{percent(s['share'])}, {percent(s['right'])}" for s in sure]
    rows.append(["all", "", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Read the command line; print a line for every run, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", required=True)
    parser.add_argument("--pool", type=int, default=4000, help="unlabeled images to look at")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    command = parser.parse_args()
    keep_memory()
    found: Facts = {}
    try:
        if command.pool < 1:
            raise UserError(f"--pool {command.pool}: expected a number >= 1")
        for path in command.runs:
            found[path.name] = facts = examine(path, command.data, command.pool)
            labels = facts["pseudo_labels"]
            print(
                f"{path.name}: pseudo-labels {100 * labels['overall_accuracy']:.1f} % right, "
                f"{100 * labels['sure']['share']:.1f} % sure",
                flush=True,
            )
            write_json(command.out, found)
        print(f"\n{table(found)}")
    except UserError as error:
        say(f"inside.py: error: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
