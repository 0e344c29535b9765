"""What a model says of the faces of pictures, over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaf_fer.faces.footage import Loss
from leaf_fer.faces.tracking import Smoother
from leaf_fer.predict import Choose, Predictor
from leaf_fer.scenes.looking import Seen, Sight, begins

TOGETHER = 8
"""Pictures whose faces are classified in one batch: a video often shows one face at a time."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture and what is said of its N faces.

    Attributes:
        sight: the picture and its faces.
        scores: (N, C) float64, rows sum to 1.
        chosen: (N, C) bool, candidate sets; None where none were asked for.
    """

    sight: Sight
    scores: NDArray[np.float64]
    chosen: NDArray[np.bool_] | None


class Judge:
    """Classifies faces, and averages the scores of one that is followed through a video.

    Args:
        predictor: the model.
        batch_size: faces, >= 1, of a forward pass.
        smooth: seconds >= 0, see :class:`~leaf_fer.faces.tracking.Smoother`; 0 averages nothing.
        choose: makes candidate sets, of the averaged scores.
        together: pictures, >= 1, that may wait for each other.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch_size: int = 256,
        smooth: float = 0.0,
        choose: Choose | None = None,
        together: int = TOGETHER,
    ) -> None:
        self._predictor = predictor
        self._batch_size = batch_size
        self._seconds = smooth
        self._choose = choose
        self._together = together
        self._smoother = Smoother(smooth)
        self._last: Seen | None = None

    def judge(self, seen: Iterable[Sight | Loss]) -> Iterator[Judged | Loss]:
        """Judge pictures as they come, in their order."""
        waiting: list[Sight] = []
        for one in seen:
            if isinstance(one, Loss):
                yield from self._answers(waiting)
                waiting = []
                yield one
                continue
            waiting.append(one)
            if len(waiting) >= self._together or one.frame.seconds is None:
                yield from self._answers(waiting)
                waiting = []
        yield from self._answers(waiting)

    def _answers(self, sights: list[Sight]) -> Iterator[Judged]:
        if not sights:
            return
        crops = np.concatenate([sight.crops for sight in sights])
        parts = [
            self._predictor.probabilities(crops[start : start + self._batch_size])
            for start in range(0, len(crops), self._batch_size)
        ]
        scores = np.concatenate([np.zeros((0, len(self._predictor.classes)), np.float32), *parts])
        ends = np.cumsum([len(sight.faces) for sight in sights])[:-1]
        for sight, own in zip(sights, np.split(scores, ends), strict=True):
            said = self._smoothed(sight, own)
            chosen = None
            if self._choose is not None:
                chosen = self._choose(said.astype(np.float32))
            yield Judged(sight, said, chosen)

    def _smoothed(self, sight: Sight, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        frame = sight.frame
        if begins(frame, self._last):
            self._smoother = Smoother(self._seconds)
        self._last = (frame.path, frame.index)
        if frame.seconds is None:
            return scores.astype(np.float64)
        return self._smoother.smooth(sight.tracks, scores, frame.seconds)
