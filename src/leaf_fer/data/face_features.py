"""The moving parts of a synthetic face: brows, eyes, nose and mouth, shaped by action units."""

from __future__ import annotations

import numpy as np

from leaf_fer.data.dice import Floats
from leaf_fer.data.face_drawing import Canvas, Muscles
from leaf_fer.data.face_parameters import Identity, Scene

EYES = -0.1
"""Height of the eyes."""

MOUTH = 0.42
"""Height of the relaxed mouth."""

FAR = np.float32(1)
"""A distance at which nothing is painted."""

WHITE = np.array([0.95, 0.94, 0.92], np.float32)[:, None, None]
BLACK = np.array([0.07, 0.05, 0.05], np.float32)[:, None, None]
CAVITY = np.array([0.27, 0.06, 0.07], np.float32)[:, None, None]
TONGUE = np.array([0.72, 0.34, 0.34], np.float32)[:, None, None]


def paint_brows(canvas: Canvas, face: Identity, muscles: Muscles) -> None:
    """Brows and the wrinkles around them: units 1 and 2 raise, 4 lowers and knits."""
    one, two, four, nine = (muscles.both(unit) for unit in (1, 2, 4, 9))
    start = 0.11 - 0.045 * four
    along = (np.abs(canvas.x) - start) / 0.36
    rest = EYES - face.brow_height
    inner = rest + 0.02 - 0.18 * one + (0.14 - 0.08 * one) * four + 0.05 * nine
    outer = rest + 0.04 - 0.16 * two + 0.02 * four
    arch = 0.03 + 0.03 * two - 0.025 * four
    middle = inner + (outer - inner) * along - 4 * arch * along * (1 - along)
    thick = face.brow_weight * (1.25 - 0.6 * along)
    ends = 0.36 * (np.abs(along - 0.5) - 0.5)
    canvas.fill(np.maximum(np.abs(canvas.y - middle) - thick, ends), 0.45 * face.hair, 0.92)
    _forehead(canvas, face, muscles, rest)


def _forehead(canvas: Canvas, face: Identity, muscles: Muscles, rest: Floats) -> None:
    """Lines across the forehead (1 and 2) and between the brows (4)."""
    raised = 0.5 * (muscles.both(1) + muscles.both(2))
    x = canvas.x
    fade = np.maximum(1 - np.square(x / 0.34), 0)
    bent = canvas.y - rest + 0.12 * x * x
    for height in (0.21, 0.31):
        canvas.crease(bent + height, 0.014, fade * (0.6 * raised + 0.25 * face.age))
    between = np.maximum(1 - np.square((canvas.y - rest - 0.04) / 0.12), 0)
    canvas.crease(np.abs(x) - 0.035, 0.014, 0.75 * between * muscles.both(4))


def paint_eyes(canvas: Canvas, face: Identity, view: Scene, muscles: Muscles) -> None:
    """Eyes: unit 5 raises the upper lid, 7 tightens, 6 and 9 raise the lower lid."""
    one, four, five, six, seven, nine = (muscles.both(unit) for unit in (1, 4, 5, 6, 7, 9))
    outward = np.abs(canvas.x) - face.eye_gap
    y = canvas.y - EYES + 0.05 * outward
    half = 0.15 * face.eye_size
    along = outward / half
    bow = 1 - along * along
    upper = face.eye_size * (0.075 + 0.065 * five - 0.033 * seven - 0.012 * six - 0.02 * nine)
    upper = upper * (1 - 0.12 * four * (1 - five)) * (1 - 0.25 * one * (1 - five) * along)
    lower = face.eye_size * (0.052 + 0.008 * five - 0.03 * six - 0.03 * seven - 0.016 * nine)
    lid, bottom = -upper * bow, lower * bow
    opening = np.maximum(lid - y, y - bottom)
    socket = np.square(outward / 0.26) + np.square((y + 0.02) / 0.2)
    canvas.glow(socket, 0.6 * face.skin, 0.5)
    _eyeball(canvas, face, view, opening, (outward, y))
    ends = half * (np.abs(along) - 1)
    canvas.line(np.maximum(np.abs(y - lid), ends), 0.014, BLACK, 0.9)
    canvas.crease(np.maximum(np.abs(y - bottom), ends), 0.01, 0.35 + 0.3 * seven)
    canvas.crease(np.maximum(np.abs(y - lid + 0.045), ends), 0.01, 0.4 - 0.3 * five)
    bag = 0.1 + 0.55 * np.maximum(six, 0.6 * seven) + 0.2 * face.age
    canvas.crease(np.maximum(np.abs(y - bottom - 0.055), ends), 0.016, bag)
    beyond = outward - half
    for slope in (-0.5, 0.1, 0.6):
        foot = np.maximum(np.abs(y - slope * beyond), np.abs(beyond - 0.1) - 0.05)
        canvas.crease(foot, 0.01, 0.6 * six)


def _eyeball(
    canvas: Canvas, face: Identity, view: Scene, opening: Floats, place: tuple[Floats, Floats]
) -> None:
    """White, iris, pupil and a reflection, inside the lids."""
    canvas.fill(opening, WHITE * (0.6 + 0.4 * face.skin))
    outward, y = place
    x = outward - view.gaze * np.sign(canvas.x)
    middle = np.sqrt(x * x + np.square(y + 0.012))
    canvas.fill(np.maximum(middle - 0.068, opening), 0.5 * face.iris)
    canvas.fill(np.maximum(middle - 0.056, opening), face.iris)
    canvas.fill(np.maximum(middle - 0.03, opening), BLACK)
    spot = np.square(x * np.sign(canvas.x) + 0.022) + np.square(y + 0.035)
    canvas.glow(spot * 1600, WHITE, canvas.coverage(opening))


def paint_nose(canvas: Canvas, face: Identity, view: Scene, muscles: Muscles) -> None:
    """The nose: unit 9 wrinkles and lifts it, unit 10 widens its wings a little."""
    nine, ten = muscles.both(9), muscles.both(10)
    tip = EYES + face.nose_length - 0.035 * nine
    x, y = canvas.x - 0.14 * view.yaw, canvas.y - tip
    width = face.nose_width * (1 + 0.15 * nine + 0.1 * ten)
    up = np.clip(-y / face.nose_length, 0, 1)
    shade = x + np.sign(view.light_x) * (0.045 + 0.6 * width * (1 - up))
    canvas.crease(np.where(y < 0.03, shade, FAR), 0.03, 0.3 * np.minimum(1, 4 * (1 - up)))
    ridge = np.square(x / 0.05) + np.square((y + 0.1) / 0.2)
    canvas.glow(ridge, np.minimum(1.25 * face.skin, 1), 0.5)
    canvas.glow(np.square(x / width) + np.square((y - 0.055) / 0.07), 0.55 * face.skin, 0.6)
    side = np.abs(x)
    hole = np.sqrt(np.square((side - 0.5 * width) / 0.036) + np.square((y - 0.035) / 0.02))
    canvas.fill(0.025 * (hole - 1), 0.25 * face.skin, 0.85)
    wing = np.sqrt(np.square(side - width + 0.03) + np.square(y)) - 0.045
    canvas.crease(np.where(side > width - 0.03, wing, FAR), 0.012, 0.4 + 0.3 * nine)
    narrow = np.maximum(1 - np.square(x / 0.1), 0)
    for height in (0.16, 0.26):
        canvas.crease(y + height - 0.5 * side, 0.018, 0.65 * narrow * nine)


def paint_mouth(canvas: Canvas, face: Identity, muscles: Muscles) -> None:
    """The mouth: corners by 12, 15, 20, 23 and 14; lips by 10 and 23; opening by 26."""
    right = canvas.x > 0
    ten, twenty, tight, jaw = (muscles.both(unit) for unit in (10, 20, 23, 26))
    pull, dimple, sink = (muscles.sided(unit, right) for unit in (12, 14, 15))
    wide = 1 + 0.3 * pull + 0.4 * twenty - 0.22 * tight - 0.15 * jaw + 0.12 * dimple
    reach = face.mouth_width * wide
    corner = -0.19 * pull + 0.16 * sink - 0.03 * dimple + 0.02 * twenty
    side = np.abs(canvas.x)
    along = np.minimum(side / reach, 1)
    bow = 1 - along * along
    center = MOUTH + 0.03 * jaw + 0.02 * muscles.both(12) - 0.02 * ten
    line = canvas.y - center - corner * along * along
    smile = np.maximum(muscles.both(12) - 0.3, 0)
    top = bow * (0.09 * ten + 0.06 * smile + 0.015 * jaw + 0.03 * twenty)
    low = bow * (0.3 * jaw + 0.16 * smile + 0.07 * twenty + 0.02 * ten)
    weight = face.lip_weight * (1 - 0.75 * tight) * (1 - 0.25 * twenty)
    cupid = 1 - 0.3 * np.maximum(1 - np.square(side / 0.05), 0)
    upper = 0.055 * weight * bow * cupid
    lower = 0.07 * weight * bow
    ends = 0.6 * (side - reach)
    lips = np.maximum(np.maximum(-line - top - upper, line - low - lower), ends)
    canvas.crease(line - low - lower - 0.035, 0.03, 0.45 * bow)
    patch = np.maximum(np.abs(line + top + upper + 0.05) - 0.04, ends)
    canvas.fill(patch, 0.85 * face.hair, face.mustache)
    canvas.fill(lips, face.lips)
    inside = np.maximum(np.maximum(-line - top, line - low), ends)
    _cavity(canvas, inside, line + top, low + top)
    canvas.line(np.maximum(np.abs(inside), ends), 0.011, 3 * BLACK, 0.85)
    _folds(canvas, face, muscles, (reach, center + corner))


def _cavity(canvas: Canvas, inside: Floats, below: Floats, gap: Floats) -> None:
    """What an open mouth shows: teeth near the upper lip, tongue near the lower."""
    canvas.fill(inside, CAVITY)
    canvas.fill(np.maximum(inside + 0.008, below - 0.065), WHITE, 0.95)
    canvas.fill(np.maximum(inside + 0.01, 0.6 * gap - below + 0.05), TONGUE, 0.7)


def _folds(canvas: Canvas, face: Identity, muscles: Muscles, corner: tuple[Floats, Floats]) -> None:
    """Folds from the nose past the mouth (9, 10, 12), beside the corner (14), below it (15)."""
    right = canvas.x > 0
    pull, dimple, sink = (muscles.sided(unit, right) for unit in (12, 14, 15))
    lift = np.maximum(muscles.both(10), 0.7 * muscles.both(9))
    x, y = corner
    side = np.abs(canvas.x)
    start = face.nose_width + 0.035
    down = (canvas.y - 0.17 + 0.05 * lift) / (y - 0.13 + 0.05 * lift)
    path = start + (x + 0.06 - start) * (1 - np.square(1 - np.clip(down, 0, 1)))
    fade = np.maximum(1 - np.square(2 * down - 1), 0)
    depth = np.minimum(0.15 + 0.5 * pull + 0.7 * lift + 0.3 * face.age, 0.9)
    canvas.crease(side - path, 0.016, fade * depth)
    tuck = np.sqrt(np.square(side - x - 0.035) + np.square((canvas.y - y) / 2.5))
    canvas.crease(tuck, 0.02, 0.7 * dimple)
    below = canvas.y - y
    fade = np.maximum(1 - np.square((below - 0.09) / 0.09), 0)
    canvas.crease(side - x - 0.02 - 0.2 * below, 0.014, 0.7 * fade * sink)


def paint_glasses(canvas: Canvas, face: Identity, head: Floats) -> None:
    """Frames around the eyes, a bridge and temples; head: (B, H, W), distance to its outline."""
    if not face.glasses.any():
        return
    x, y = np.abs(np.abs(canvas.x) - face.eye_gap), np.abs(canvas.y - EYES - 0.02)
    corner = np.sqrt(np.square(np.maximum(x - 0.09, 0)) + np.square(np.maximum(y - 0.05, 0)))
    frame = corner - 0.1
    canvas.fill(frame, WHITE, 0.08 * face.glasses)
    canvas.line(frame, 0.013, BLACK, 0.9 * face.glasses)
    beside = np.maximum(np.maximum(np.abs(canvas.y - EYES + 0.02), -0.5 * frame), head - 0.02)
    canvas.line(beside, 0.013, BLACK, 0.9 * face.glasses)
