import os
from pathlib import Path

import pytest

# Before torch is imported, for the processes that tests start too: their tensors are so small that
# threads cost more than they give, and two processes whose threads wait for each other crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PATIENCE = 240
"""Seconds until a test gives up on another process: only what hangs takes so long."""


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, the data and documents beside the repository")
    return folder
