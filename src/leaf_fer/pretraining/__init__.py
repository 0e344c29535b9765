"""Ways to train an encoder on faces without labels, by the name that selects them."""

from leaf_fer.algorithm import Algorithm
from leaf_fer.pretraining.distill import Distill
from leaf_fer.pretraining.two_views import BarlowTwins, SimCLR, VICReg

PRETRAINING: dict[str, type[Algorithm]] = {
    "simclr": SimCLR,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "distill": Distill,
}

__all__ = ["PRETRAINING"]
