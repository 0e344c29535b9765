"""A window that shows pictures as they come."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leaf_fer.errors import UserError

ADVICE = "--no-window prints rows instead"


class Window:
    """A window of Tk, which comes with Python; OpenCV without a display of its own has none.

    Args:
        title: of the window.

    Raises:
        UserError: there is no Tk, or no screen.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise UserError(
                f"leaf live: Python has no windows here ({error}); install Tk, or {ADVICE}"
            ) from None
        self._tk, self._photo = tkinter, ImageTk.PhotoImage
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(f"leaf live: no window can be opened ({error}); {ADVICE}") from None
        self._root.title(title)
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, self._close)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._picture: Any = None  # Tk does not keep it

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show a picture, (H, W, 3) uint8; whether the window is still open."""
        if self._open:
            self._picture = self._photo(Image.fromarray(image), master=self._root)
            self._label.configure(image=self._picture)
            self._root.update()
        return self._open

    def _close(self, *_: object) -> None:
        self._open = False

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._picture = None
        self._root.destroy()
