"""Videos that tests write."""

import numpy as np

from leaf_fer.faces.film import Film


def gray(level, height=48, width=64):
    return np.full((height, width, 3), level, np.uint8)


def video(path, count=20, rate=25.0, times=None):
    """A film whose picture n has the gray level 10 n, modulo 250."""
    with Film(path) as film:
        for number, seconds in enumerate(times or np.arange(count) / rate):
            film.add(gray(10 * number % 250), seconds)
    return path


def levels(found):
    return [round(frame.image.mean() / 10) for frame in found]
