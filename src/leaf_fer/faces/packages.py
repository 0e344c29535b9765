"""Packages that only the faces of photos and videos need, imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from leaf_fer.errors import UserError

OLDEST = {"cv2": 5, "av": 15}
"""Versions. OpenCV 4 sees faces that are not there, once a network's input changes its size."""


def package(name: str) -> Any:
    """Import a package of the extra ``faces``.

    Raises:
        UserError: it is not installed, or something that it needs is not, or it is too old.
    """
    try:
        module = import_module(name)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"faces: needs {name} ({reason}): pip install 'leaf-fer[faces]'") from None
    if int(module.__version__.split(".")[0]) < OLDEST[name]:
        raise UserError(
            f"faces: needs {name} {OLDEST[name]} or newer, not {module.__version__}: "
            "pip install --upgrade 'leaf-fer[faces]'"
        )
    return module


@contextmanager
def silent(cv2: Any) -> Iterator[None]:
    """OpenCV prints no warnings: what matters to us it raises or returns."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
