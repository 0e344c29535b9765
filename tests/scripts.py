"""Python files that belong to no package, as modules."""

import importlib.util
import sys
from contextlib import contextmanager


@contextmanager
def loaded(path):
    """The module of a file, while it is needed."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]
