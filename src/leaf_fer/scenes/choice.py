"""Which detector finds faces and how they are cut out: as the model has learned, unless told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from leaf_fer.errors import UserError, say
from leaf_fer.faces.detection import Detector, find_detector
from leaf_fer.faces.weights import centerface_file
from leaf_fer.recipe import Recipe, compare


@dataclass(frozen=True)
class Wish:
    """What a user asked for; None leaves it to the model.

    Attributes:
        detector: ``auto``, ``yunet`` or ``centerface``.
        weights: its file.
        align: ``points`` or ``box``.
        margin: in [0, 1].
    """

    detector: str = "auto"
    weights: Path | None = None
    align: str | None = None
    margin: float | None = None


def margin_of(text: str | None) -> float | None:
    """The value of ``--margin``.

    Raises:
        UserError: not a number in [0, 1].
    """
    if text is None:
        return None
    try:
        margin = float(text)
        Recipe(margin=margin)
    except ValueError:
        raise UserError(f"--margin {text}: expected a number in [0, 1]") from None
    return margin


def settle(wish: Wish, learned: Recipe | None) -> tuple[Detector, Recipe]:
    """Detector and recipe for a model; warn where they are not those that it has learned with.

    Args:
        wish: what was asked for.
        learned: from the model; None if it does not know.

    Raises:
        UserError: the detector cannot be had.
    """
    word, known = wish.detector, learned or Recipe()
    if word == "auto" and known.detector == "centerface" and wish.weights is None:
        word = "centerface" if centerface_file() else "auto"
    detector = find_detector(word, wish.weights)
    margin = known.margin if wish.margin is None else wish.margin
    recipe = Recipe(wish.align or known.align, margin, known.size, detector.name)
    if learned is None and wish.align is None and wish.margin is None:
        say(
            "leaf: warning: the model does not say how the faces were cut that it has learned "
            f"from; taking {recipe} (see --align, --margin)"
        )
    compare(learned, recipe, f"--detector {wish.detector}")
    return detector, recipe
