"""What is remembered from step to step: modules whose whole state is buffers."""

from leaf_fer.memory.average import Average
from leaf_fer.memory.margin import ClassMargin
from leaf_fer.memory.queue import Queue
from leaf_fer.memory.running import Alignment, RunningMean, WindowAlignment
from leaf_fer.memory.table import LabelTable

__all__ = [
    "Alignment",
    "Average",
    "ClassMargin",
    "LabelTable",
    "Queue",
    "RunningMean",
    "WindowAlignment",
]
