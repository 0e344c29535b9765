"""The window of `leaf live`, on a screen that only exists in memory."""

import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("tkinter")
BEGIN = """
import numpy as np
from leaf_fer.scenes.window import Window

def picture(level):
    return np.full((60, 80, 3), level, np.uint8)

with Window("faces") as window:
    root = window._root
    assert window.show(picture(0))
"""


@pytest.fixture
def screen():
    """The number of a screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24"]
    process = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as stream:
        yield stream.readline().strip()
    process.terminate()
    process.wait()


@pytest.mark.parametrize(
    "code",
    [
        """
    assert root.title() == "faces"
    assert (root.winfo_width(), root.winfo_height()) == (80, 60)
    assert root.winfo_viewable()
    for level in (100, 200):
        assert window.show(picture(level))
        assert window._picture._PhotoImage__photo.get(40, 30) == (level,) * 3
""",
        *[
            f"""
    root.focus_force()
    root.update()
    root.event_generate("{key}")
    assert not window.show(picture(1))
    assert not window.show(picture(2))
"""
            for key in ("<Escape>", "q")
        ],
        """
    root.tk.call(*root.protocol("WM_DELETE_WINDOW").split())
    assert not window.show(picture(1))
""",
    ],
    ids=["it shows pictures", "escape", "q", "its button"],
)
def test_the_window_on_a_screen(screen, code):
    # In a process of its own: Tk ends one whose screen is gone.
    environment = os.environ | {"DISPLAY": f":{screen}"}
    words = [sys.executable, "-c", BEGIN + code + "print('closed')\n"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.stdout == "closed\n", done.stderr
