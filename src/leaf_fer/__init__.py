"""leaf-fer: facial expressions from a few labeled and many unlabeled faces.

Example:
    >>> import leaf_fer
    >>> leaf_fer.__version__
    '0.1.0'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from leaf_fer.version import __version__

if TYPE_CHECKING:
    from leaf_fer import functional
    from leaf_fer.hub import push_to_hub
    from leaf_fer.models import attach_eaf
    from leaf_fer.predict import Predictor, load
    from leaf_fer.training import train

__all__ = ["Predictor", "__version__", "attach_eaf", "functional", "load", "push_to_hub", "train"]


def __getattr__(name: str) -> Any:
    # torch is imported when it is first needed: `leaf --help` does not wait for it.
    if name in ("Predictor", "load"):
        from leaf_fer import predict

        return getattr(predict, name)
    if name == "attach_eaf":
        from leaf_fer import models

        return models.attach_eaf
    if name == "functional":
        return importlib.import_module("leaf_fer.functional")
    if name == "push_to_hub":
        from leaf_fer import hub

        return hub.push_to_hub
    if name == "train":
        from leaf_fer import training

        return training.train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
