"""The methods, by the name that selects them."""

from leaf_fer.algorithm import Algorithm
from leaf_fer.algorithms.leaf import LEAF, LEAFLiteral, LEAFRelease
from leaf_fer.algorithms.supervised import Supervised

ALGORITHMS: dict[str, type[Algorithm]] = {
    "supervised": Supervised,
    "leaf": LEAF,
    "leaf_literal": LEAFLiteral,
    "leaf_release": LEAFRelease,
}

__all__ = ["ALGORITHMS", "Algorithm"]
