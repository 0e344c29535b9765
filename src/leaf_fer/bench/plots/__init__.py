"""The figures of the paper, and ours, from the records of runs. Torch is imported where needed."""

from collections.abc import Callable, Sequence

from leaf_fer.bench.plots.bars import eaf
from leaf_fer.bench.plots.choice import Choice, Draw
from leaf_fer.bench.plots.confusion import confusion
from leaf_fer.bench.plots.differences import differences
from leaf_fer.bench.plots.features import features
from leaf_fer.bench.plots.lines import experts, labels
from leaf_fer.bench.plots.pseudo import pseudo
from leaf_fer.bench.plots.reliability import reliability
from leaf_fer.bench.plots.usage import usage
from leaf_fer.bench.records import Record

KINDS: dict[str, Callable[[Sequence[Record], Choice], Draw]] = {
    "labels": labels,
    "differences": differences,
    "features": features,
    "experts": experts,
    "eaf": eaf,
    "usage": usage,
    "pseudo": pseudo,
    "reliability": reliability,
    "confusion": confusion,
}
