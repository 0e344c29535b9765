"""Colors of pages: contrast as WCAG 2 has it, at least 4.5 for text and 3 for lines and dots."""

from __future__ import annotations

import re

import numpy as np
import pytest

from leaf_fer.report.frame import style

TEXT = [
    *[("ink", ground) for ground in ("page", "card", "tint", "bar", "rule", "heat")],
    *[("soft", ground) for ground in ("page", "card", "tint", "rule")],
    *[("leaf", "page"), ("leaf", "card"), ("warn", "card"), ("warn", "tint"), ("leaf", "tint")],
]


def themes():
    light, dark = re.findall(r":root \{(.*?)\}", style(), re.S)[:2]
    return {"light": colors(light), "dark": colors(dark)}


def colors(block):
    found = {}
    for name, value in re.findall(r"--(\w+): ([^;]+);", block):
        if value.startswith("#"):
            digits = value[1:] if len(value) == 7 else "".join(2 * d for d in value[1:])
            found[name] = [int(digits[i : i + 2], 16) for i in (0, 2, 4)]
        else:
            found[name] = [int(part) for part in value.split()]
    return found


def contrast(one, other):
    def light(color):
        share = np.array(color) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground"), TEXT)
def test_text_can_be_read(theme, front, ground):
    found = themes()[theme]
    assert contrast(found[front], found[ground]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_and_dots_can_be_seen(theme):
    found = themes()[theme]
    for name in [f"c{slot}" for slot in range(8)] + ["leaf", "frame"]:
        assert contrast(found[name], found["card"]) >= 3, name
