"""What a set of predictions is worth. Plain NumPy: no torch is needed to read or merge results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Count pairs: (N,), (N,) -> (C, C), rows are true classes, columns predicted ones."""
    pairs = np.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15
) -> float:
    """Return the expected calibration error (Guo et al., 2017, arXiv:1706.04599), eq. (3).

    Args:
        confidence: (N,), probability of the predicted class.
        correct: (N,), whether the prediction is right.
        bins: intervals of equal width, open below and closed above.

    Returns:
        Mean over samples of |accuracy - confidence| of their bin, in [0, 1].
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count samples by confidence, in the bins of :func:`calibration_error`.

    Args:
        confidence: (N,), probability of the predicted class.
        correct: (N,), whether the prediction is right.
        bins: B, intervals of equal width, open below and closed above.

    Returns:
        Counts, accuracy and mean confidence of the bins, (B,) each; NaN in empty bins.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(place, weights=correct, minlength=bins) / count
        sure = np.bincount(place, weights=confidence, minlength=bins) / count
    return count, accuracy, sure


def recall_errors(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard error of the recall of every class: (C, C) counts -> (C,), NaN without samples.

    Of h hits among n it is that of a share of (h + 1) / (n + 2) (Laplace's rule), which is not 0
    where all or none of a few samples are right.

    Args:
        matrix: counts, rows are true classes.
    """
    hits, truth = matrix.diagonal(), matrix.sum(axis=1)
    share = (hits + 1) / (truth + 2)
    with np.errstate(divide="ignore"):
        error = np.sqrt(share * (1 - share) / truth)
    return np.where(truth > 0, error, np.nan)


def balanced_error(matrix: NDArray[np.int64]) -> float:
    """Return the standard error of balanced accuracy, the mean recall of the classes that occur.

    It is what another draw of as many samples of every class would change; not what another draw of
    labels or another seed of training would.

    Args:
        matrix: (C, C) counts, rows are true classes, not all 0.
    """
    errors = recall_errors(matrix)
    there = errors[~np.isnan(errors)]
    return float(np.sqrt(np.square(there).sum()) / len(there))


def separation(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64]
) -> float | None:
    """Return how well two classes are told apart, on average over all pairs: M of Hand & Till.

    Hand & Till (2001, Machine Learning 45:171-186), eq. (7). For classes i != j, A(i|j) is the
    probability that a sample of i gets a higher p_i than one of j, half of it for ties: the area
    under the ROC curve of the pair. It depends on no threshold, and on rare classes far less by
    chance than their recall.

    Args:
        probabilities: (N, C), rows sum to 1.
        targets: (N,) int64 in [0, C).

    Returns:
        Mean A(i|j) of the classes that occur, in [0, 1], 0.5 by chance; None for fewer than two.
    """
    present = np.unique(targets)
    areas = []
    for i in present:
        scores = [np.sort(probabilities[targets == j, i]) for j in present if j != i]
        own = probabilities[targets == i, i]
        for others in scores:
            below, up_to = (np.searchsorted(others, own, side) for side in ("left", "right"))
            areas.append((below + up_to).mean() / (2 * len(others)))
    return float(np.mean(areas)) if areas else None


def summarize(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Compute the metrics of a run, ready for JSON.

    Args:
        probabilities: (N, C), rows sum to 1; N >= 1.
        targets: (N,) int64 in [0, C).
        classes: names of the C classes.

    Returns:
        ``overall_accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur;
        ``per_class_recall`` by name, None for a class that does not occur; ``macro_f1`` over the
        classes that occur or are predicted; ``auc``, see :func:`separation`; ``ece`` with 15
        bins; ``confusion_matrix`` with true classes as rows; ``predicted_shares`` by name;
        ``classes``; ``count``.
    """
    predictions = probabilities.argmax(axis=1)
    matrix = confusion_matrix(targets, predictions, len(classes))
    hits, truth, said = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present, seen = truth > 0, truth + said > 0
    recall = hits / np.maximum(truth, 1)
    f1 = 2 * hits / np.maximum(truth + said, 1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    return {
        "overall_accuracy": float(hits.sum() / len(targets)),
        "balanced_accuracy": float(recall[present].mean()),
        "per_class_recall": {
            name: float(value) if there else None
            for name, value, there in zip(classes, recall, present, strict=True)
        },
        "macro_f1": float(f1[seen].mean()),
        "auc": separation(probabilities, targets),
        "ece": calibration_error(confidence, predictions == targets),
        "confusion_matrix": matrix.tolist(),
        "predicted_shares": {
            name: float(value) for name, value in zip(classes, said / len(targets), strict=True)
        },
        "classes": list(classes),
        "count": len(targets),
    }
