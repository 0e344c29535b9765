from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image


@dataclass
class Drawing:
    """What was drawn: boxes are in pixels from the lower left, the picture is (H, W, 3)."""

    pixels: np.ndarray
    texts: dict[Text, Bbox] = field(default_factory=dict)
    images: dict[AxesImage, Bbox] = field(default_factory=dict)

    @property
    def boxes(self):
        """Where texts and images are."""
        return {**self.texts, **self.images}

    @property
    def words(self):
        """The texts as they read, spaces of all kinds alike."""
        return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in self.texts]


@pytest.fixture(scope="session")
def record(tmp_path_factory) -> Callable[[Callable[[Path], None]], Drawing]:
    """Let a function draw to a path, and say what came to lie where."""

    def watch(kind, boxes, patch):
        original = kind.draw

        def watched(artist, renderer):
            if artist.get_visible() and getattr(artist, "get_text", lambda: "image")():
                boxes[artist] = artist.get_window_extent(renderer)
            original(artist, renderer)

        patch.setattr(kind, "draw", watched)

    def recorded(draw):
        path = tmp_path_factory.mktemp("pictures") / "picture.png"
        texts, images = {}, {}
        with pytest.MonkeyPatch.context() as patch:
            watch(Text, texts, patch)
            watch(AxesImage, images, patch)
            draw(path)
        assert [path] == list(path.parent.iterdir())
        pixels = np.asarray(Image.open(path).convert("RGB"))
        return Drawing(pixels, texts, images)

    return recorded
