"""Where the eyes, nose and mouth of a face belong, and how to move them there."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZE = 112
"""Side in pixels of the square image that :data:`TEMPLATE` is made for."""

TEMPLATE: NDArray[np.float64] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""(5, 2), x and y in pixels of the ArcFace template (Deng et al., 2019, arXiv:1801.07698).

Eye on the image's left, eye on its right, tip of the nose, left and right corner of the mouth.
Multiply by size / :data:`SIZE` for images of another size.
"""
TEMPLATE.flags.writeable = False


def similarity(points: ArrayLike, template: ArrayLike = TEMPLATE) -> NDArray[np.float64]:
    """The turn, zoom and shift that bring points closest to a template (Umeyama, 1991).

        min over s > 0, R, t of  sum_i |s R points_i + t - template_i|^2

    In the plane, and without reflections, the least squares have a closed form: with the centered
    points p_i and q_i as complex numbers, s R multiplies by sum_i conj(p_i) q_i / sum_i |p_i|^2.

    Args:
        points: (N, 2), x and y; N >= 2.
        template: (N, 2), where the points should go.

    Returns:
        (2, 3) matrix M with M @ (x, y, 1) close to the template.

    Raises:
        ValueError: all points coincide or are not finite, or no turn is better than another.
    """
    source, goal = np.asarray(points, dtype=np.float64), np.asarray(template, dtype=np.float64)
    p, q = source[:, 0] + 1j * source[:, 1], goal[:, 0] + 1j * goal[:, 1]
    center, spread = p.mean(), np.abs(p - p.mean()) ** 2
    product = np.sum((p - center).conj() * (q - q.mean()))
    if not (np.isfinite(product) and abs(product) > 0):
        raise ValueError(f"expected points of a face, got {source.tolist()}")
    turn = product / spread.sum()
    shift = q.mean() - turn * center
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def five_points(landmarks: ArrayLike) -> NDArray[np.float64]:
    """The five points of :data:`TEMPLATE` from the 68 points of the iBUG annotation.

    An eye is the mean of its six points.

    Args:
        landmarks: (..., 68, 2), x and y.

    Returns:
        (..., 5, 2).
    """
    marks = np.asarray(landmarks)
    eyes = (marks[..., 36:42, :], marks[..., 42:48, :])
    left, right = (eye.mean(axis=-2, dtype=np.float64) for eye in eyes)
    rest = (marks[..., index, :] for index in (30, 48, 54))
    return np.stack([left, right, *rest], axis=-2, dtype=np.float64)
