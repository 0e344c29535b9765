"""Sheets of faces: what was predicted for them, and what the classes look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from leaf_fer.report.page import GRAY, INK, MARGIN, Page, drawable, extent, plain_style, save, wrap

NAME, SMALL, CAPTION = 10.0, 8.0, 9.0  # points
GAP = 0.14  # inches between faces with captions
CLOSE = 0.06  # inches between faces without, and from a face to its caption
RIGHT, WRONG, UNKNOWN = "#0072B2", "#B34A00", INK  # all have a contrast above 5 on white


def prediction_sheet(
    images: NDArray[np.uint8],
    truth: Sequence[str | None] | None,
    predicted: Sequence[str],
    confidence: Sequence[float],
    path: Path,
    columns: int = 8,
    candidates: Sequence[Sequence[str]] | None = None,
    notes: Sequence[str] | None = None,
) -> None:
    """Draw faces with what was predicted for them, and whether that is right.

    Args:
        images: (N, S, S, 3), N >= 1.
        truth: N names of true classes, None for a face of which it is not known.
        predicted: N names.
        confidence: N probabilities of the predicted classes, in [0, 1].
        path: file to write.
        columns: faces in a row, >= 1.
        candidates: N lists of the classes that a face may well show.
        notes: N last lines, such as the votes of annotators; empty for none.

    Raises:
        ValueError: shapes, lengths or ranges are not as above.
        UserError: the file cannot be written.
    """
    _check_images("images", images)
    lists = {"truth": truth, "predicted": predicted, "confidence": confidence,
             "candidates": candidates, "notes": notes}  # fmt: skip
    for name, values in lists.items():
        if values is not None and len(values) != len(images):
            raise ValueError(f"expected {len(images)} {name}, one an image, got {len(values)}")
    if not len(images) or columns < 1:
        raise ValueError(f"expected images and columns >= 1, got {len(images)} and {columns}")
    if not all(0 <= value <= 1 for value in confidence):
        raise ValueError(f"expected 0 <= confidence <= 1, got {list(confidence)}")
    num_images = len(images)
    facts = zip(predicted, confidence, truth or [None] * num_images,
                candidates or [()] * num_images, notes or [""] * num_images,
                strict=True)  # fmt: skip
    with plain_style():
        captions = [_caption(*one) for one in facts]
        save(_sheet(images, captions, min(columns, num_images)).figure, path)


def _caption(
    predicted: str, confidence: float, truth: str | None, candidates: Sequence[str], note: str
) -> tuple[str, str, str]:
    """First line, further lines and color of what stands under a face."""
    if truth is None:
        mark, color = "", UNKNOWN
    elif truth == predicted:
        mark, color = "✔\N{NO-BREAK SPACE}", RIGHT
    else:
        mark, color = "✘\N{NO-BREAK SPACE}", WRONG
    said = f"{mark}{drawable(predicted)} {100 * confidence:.0f}\N{NO-BREAK SPACE}%"
    more = [f"true: {drawable(truth)}"] if truth is not None and truth != predicted else []
    if candidates:
        more.append("candidates: " + ", ".join(drawable(name) for name in candidates))
    if note:
        more.append(drawable(note))
    return said, "\n".join(more), color


def _sheet(images: NDArray[np.uint8], captions: list[tuple[str, str, str]], columns: int) -> Page:
    firsts = [extent(said, CAPTION, "bold")[0] for said, _, _ in captions]
    side = min(max(1.2, *firsts), 1.8)
    texts = [
        (
            wrap(said, CAPTION, side, "bold"),
            "\n".join(wrap(line, SMALL, side) for line in more.split("\n")),
            color,
        )
        for said, more, color in captions
    ]
    heights = [extent(a, CAPTION, "bold")[1] + 0.03 + extent(b, SMALL)[1] for a, b, _ in texts]
    rows = [max(heights[i : i + columns]) for i in range(0, len(texts), columns)]
    tops = MARGIN + np.cumsum([0.0] + [side + CLOSE + text + GAP for text in rows])
    page = Page(2 * MARGIN + columns * (side + GAP) - GAP, tops[-1] - GAP + MARGIN)
    for i, (said, more, color) in enumerate(texts):
        x, y = MARGIN + i % columns * (side + GAP), float(tops[i // columns])
        page.image(x, y, side, images[i])
        page.axes.add_patch(
            Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=1.5)
        )
        under = y + side + CLOSE
        page.text(x, under, said, CAPTION, color=color, weight="bold")
        page.text(x, under + extent(said, CAPTION, "bold")[1] + 0.03, more, SMALL)
    return page


def contact_sheet(images: Mapping[str, NDArray[np.uint8]], path: Path) -> None:
    """Draw samples of every class, one class a row.

    Args:
        images: by class name, (n, S, S, 3); n may differ and may be 0.
        path: file to write.

    Raises:
        ValueError: there is no class, or shapes are not as above.
        UserError: the file cannot be written.
    """
    if not images:
        raise ValueError("expected images of at least one class, got none")
    for name, samples in images.items():
        _check_images(name, samples)
    with plain_style():
        names = [wrap(drawable(name), NAME, 1.6) for name in images]
        widths, heights = zip(*(extent(name, NAME) for name in names), strict=True)
        side, step = 0.9, max(0.96, max(heights) + 0.1)
        left = MARGIN + max(widths) + 0.15
        most = max(1, *(len(samples) for samples in images.values()))
        page = Page(left + most * (side + CLOSE) - CLOSE + MARGIN,
                    2 * MARGIN + len(names) * step - CLOSE)  # fmt: skip
        for row, (name, samples) in enumerate(zip(names, images.values(), strict=True)):
            y = MARGIN + row * step
            page.text(MARGIN, y + side / 2, name, NAME, va="center")
            for column, sample in enumerate(samples):
                page.image(left + column * (side + CLOSE), y, side, sample)
            if not len(samples):
                page.text(left, y + side / 2, "no images", SMALL, va="center", color=GRAY)
        save(page.figure, path)


def _check_images(name: str, images: NDArray[np.uint8]) -> None:
    shape = np.shape(images)
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or not shape[1]:
        raise ValueError(f"{name}: expected images (N, S, S, 3), got {shape}")
    if images.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8, got {images.dtype}")
