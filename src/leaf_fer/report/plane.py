"""Features in the plane, by t-SNE; needs scikit-learn where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]


def available() -> bool:
    """Whether scikit-learn is installed."""
    try:
        import sklearn.manifold  # noqa: F401
    except ImportError:
        return False
    return True


def embed(runs: Sequence[NDArray[np.float32]]) -> list[Plane]:
    """Lay out the same N >= 4 faces for every run: arrays (N, D) -> (N, 2)."""
    from sklearn.manifold import TSNE

    start = _principal(runs[0])
    planes: list[Plane] = []
    for run in runs:
        tsne: Any = TSNE(
            perplexity=min(30.0, (len(run) - 1) / 3),
            init=start,
            random_state=0,
            method="barnes_hut",
        )
        plane: Plane = tsne.fit_transform(run.astype(np.float32)).astype(np.float64)
        planes.append(aligned(plane, planes[0]) if planes else plane - plane.mean(axis=0))
    return planes


def _principal(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two principal components with the small scale that t-SNE starts from: (N, D) -> (N, 2)."""
    centered = (values - values.mean(axis=0)).astype(np.float64)
    vectors, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    plane = vectors[:, :2] * lengths[:2]
    plane *= 1e-4 / max(plane[:, 0].std(), 1e-12)
    return np.asarray(plane, dtype=np.float32)


def aligned(plane: Plane, model: Plane) -> Plane:
    """Turn, mirror, scale and move points onto others as well as it goes: (N, 2), (N, 2) -> (N, 2).

    Example:
        >>> model = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> bool(np.allclose(aligned(3 * model @ np.array([[0, 1], [1, 0]]) + 5, model), model))
        True
    """
    centered = plane - plane.mean(axis=0)
    left, scale, right = np.linalg.svd(centered.T @ (model - model.mean(axis=0)))
    size = scale.sum() / np.square(centered).sum()
    return np.asarray(size * centered @ left @ right + model.mean(axis=0), dtype=np.float64)
