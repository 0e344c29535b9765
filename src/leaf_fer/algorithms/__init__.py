"""The methods, by the name that selects them."""

from leaf_fer.algorithm import Algorithm
from leaf_fer.algorithms.adacm import AdaCM
from leaf_fer.algorithms.adamatch import AdaMatch
from leaf_fer.algorithms.comatch import CoMatch
from leaf_fer.algorithms.dash import Dash
from leaf_fer.algorithms.defixmatch import DeFixMatch
from leaf_fer.algorithms.fixmatch import FixMatch
from leaf_fer.algorithms.flexmatch import FlexMatch
from leaf_fer.algorithms.freematch import FreeMatch
from leaf_fer.algorithms.leaf import LEAF, LEAFLiteral, LEAFRelease
from leaf_fer.algorithms.leaf_plus import LEAFPlus
from leaf_fer.algorithms.lion import LION
from leaf_fer.algorithms.mean_teacher import MeanTeacher
from leaf_fer.algorithms.mixmatch import MixMatch
from leaf_fer.algorithms.pi_model import PiModel
from leaf_fer.algorithms.pseudo_label import PseudoLabel
from leaf_fer.algorithms.remixmatch import ReMixMatch
from leaf_fer.algorithms.simmatch import SimMatch
from leaf_fer.algorithms.softmatch import SoftMatch
from leaf_fer.algorithms.supervised import Supervised
from leaf_fer.algorithms.uda import UDA
from leaf_fer.algorithms.vat import VAT

ALGORITHMS: dict[str, type[Algorithm]] = {
    "supervised": Supervised,
    "pi_model": PiModel,
    "pseudo_label": PseudoLabel,
    "vat": VAT,
    "uda": UDA,
    "mean_teacher": MeanTeacher,
    "mixmatch": MixMatch,
    "remixmatch": ReMixMatch,
    "fixmatch": FixMatch,
    "defixmatch": DeFixMatch,
    "dash": Dash,
    "comatch": CoMatch,
    "simmatch": SimMatch,
    "adamatch": AdaMatch,
    "flexmatch": FlexMatch,
    "freematch": FreeMatch,
    "softmatch": SoftMatch,
    "adacm": AdaCM,
    "lion": LION,
    "leaf": LEAF,
    "leaf_plus": LEAFPlus,
    "leaf_literal": LEAFLiteral,
    "leaf_release": LEAFRelease,
}

__all__ = ["ALGORITHMS", "Algorithm"]
