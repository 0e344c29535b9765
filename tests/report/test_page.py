from __future__ import annotations

import numpy as np
import pytest

from leaf_fer.errors import UserError
from leaf_fer.report.page import LONGEST, Page, drawable, extent, plain_style, save, wrap


def test_text_is_as_wide_as_it_is_drawn():
    with plain_style():
        page = Page(3, 1)
        text = page.text(0.5, 0.5, "happiness", 10)
        box = text.get_window_extent()
        assert extent("happiness", 10) == pytest.approx((box.width / 150, box.height / 150))


def test_a_line_is_at_most_as_wide_as_asked():
    lines = wrap("compound_happily_surprised or sad-and-angry", 10, 1.2).split("\n")
    assert len(lines) > 2
    assert max(extent(line, 10)[0] for line in lines) <= 1.2


def test_a_line_breaks_between_words():
    assert wrap("fear and anger", 10, extent("fear and", 10)[0]) == "fear and\nanger"


def test_a_word_breaks_if_it_is_longer_than_a_line():
    broken = wrap("Schadenfreude", 10, 0.5)
    assert "\n" in broken
    assert broken.replace("\n", "") == "Schadenfreude"


def test_text_that_fits_stays_as_it_is():
    assert wrap("  two  spaces ", 10, 5) == "  two  spaces"


def test_letters_without_a_shape_become_escapes():
    assert drawable("a\tb\udc80\U0010ffff") == "a\\tb\\udc80\\U0010ffff"


def test_a_page_that_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match="show fewer images"):
        Page(10, LONGEST + 1)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        save(Page(1, 1).figure, tmp_path / "missing" / "page.png")


def test_an_image_keeps_its_colors_and_its_place(tmp_path):
    from PIL import Image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = (200, 10, 20)  # the upper half
    page = Page(2, 2)
    page.image(0.5, 0.5, 1, pixels)
    save(page.figure, tmp_path / "page.png")
    drawn = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert drawn[100, 150].tolist() == [200, 10, 20]
    assert drawn[200, 150].tolist() == [0, 0, 0]
    assert drawn[40, 150].tolist() == [255, 255, 255]
