"""What is drawn in a synthetic face, as pure functions of a seed and an index.

Every number comes from a hash of (seed, index, name), never from a generator with a state, so a
face is the same whichever batch it is drawn in. Neither here nor in the drawing is anything used
but operations that floating point rounds exactly (no exponential, no sine), so it should also be
the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.dice import Dice, Floats
from leaf_fer.data.table import EXPRESSIONS

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 20, 23, 26)
"""The facial action units (Ekman and Friesen) that a face moves, in the order of the columns."""

PROTOTYPES: dict[str, tuple[int, ...]] = {
    "neutral": (),
    "happiness": (6, 12),
    "surprise": (1, 2, 5, 26),
    "sadness": (1, 4, 15),
    "anger": (4, 5, 7, 23),
    "disgust": (9, 10, 15),
    "fear": (1, 2, 4, 5, 20, 26),
    "contempt": (12, 14),
}
"""The action units of each expression; contempt moves one side of the face only."""

COMPANIONS: dict[str, tuple[int, ...]] = {"anger": (9, 10), "disgust": (4, 7), "surprise": (4, 20)}
"""Action units that an expression borrows at times from one that it is mistaken for."""

BORROWED = 0.3
"""Probability of each companion."""

DROPPED = 0.1
"""Probability that an expression leaves out one of its action units."""

IDLE = 0.1
"""Probability that an action unit moves a little that the expression does not ask for."""

SKINS = (
    (242, 206, 180),
    (235, 194, 160),
    (226, 180, 142),
    (212, 162, 122),
    (192, 140, 102),
    (168, 118, 86),
)
HAIRS = ((40, 33, 32), (62, 44, 34), (86, 58, 42), (116, 74, 48), (152, 118, 76), (120, 115, 110))


@dataclass(frozen=True, eq=False)
class Identity:
    """Who is drawn. (B,) float32 in face units (half the image is 1), colors (B, 3) in [0, 1].

    Attributes:
        width: half the width of the head.
        chin: from the middle of the face down to the chin.
        jaw: how much the face narrows towards the chin.
        skin: color of the skin.
        hair: color of hair and brows.
        lips: color of the lips.
        iris: color of the eyes.
        hairline: height of the hair over the forehead.
        parting: where the hairline is lowest, negative to the left.
        long_hair: 0 or 1, hair down to the shoulders.
        eye_gap: from the middle of the face to the middle of an eye.
        eye_size: factor on the eyes.
        brow_height: from the eyes to the brows.
        brow_weight: half the thickness of the brows.
        nose_length: from the eyes to the tip of the nose.
        nose_width: from the middle to a wing of the nose.
        mouth_width: from the middle to a corner of the relaxed mouth.
        lip_weight: factor on the thickness of the lips.
        beard: opacity of a beard.
        mustache: opacity of a mustache.
        glasses: opacity of glasses, 0 for none.
        age: strength of wrinkles that are there at rest.
    """

    width: Floats
    chin: Floats
    jaw: Floats
    skin: Floats
    hair: Floats
    lips: Floats
    iris: Floats
    hairline: Floats
    parting: Floats
    long_hair: Floats
    eye_gap: Floats
    eye_size: Floats
    brow_height: Floats
    brow_weight: Floats
    nose_length: Floats
    nose_width: Floats
    mouth_width: Floats
    lip_weight: Floats
    beard: Floats
    mustache: Floats
    glasses: Floats
    age: Floats


@dataclass(frozen=True, eq=False)
class Scene:
    """How the face is seen. (B,) float32 in face units, colors (B, 3) in [0, 1].

    Attributes:
        yaw: sine of the turn to the side.
        pitch: sine of the turn up or down.
        roll: tangent of the tilt.
        zoom: factor on the size of the face.
        shift_x: the face's place, to the right.
        shift_y: the face's place, down.
        gaze: where the eyes look, to the right.
        light_x: direction of the light, negative from the left.
        light_y: direction of the light, negative from above.
        ambient: share of light that has no direction.
        gain: brightness of the image.
        tint: color of the light.
        saturation: 0 for grey to 1.
        blur: width of the edges.
        noise: amplitude of the noise.
        wall: color behind the face.
        shirt: color below the face.
        cover: 0 or 1, whether something hides a part of the face.
        cover_x: one end of what hides it, to the right.
        cover_y: one end of what hides it, down.
        cover_size: half its thickness.
        cover_color: its color.
    """

    yaw: Floats
    pitch: Floats
    roll: Floats
    zoom: Floats
    shift_x: Floats
    shift_y: Floats
    gaze: Floats
    light_x: Floats
    light_y: Floats
    ambient: Floats
    gain: Floats
    tint: Floats
    saturation: Floats
    blur: Floats
    noise: Floats
    wall: Floats
    shirt: Floats
    cover: Floats
    cover_x: Floats
    cover_y: Floats
    cover_size: Floats
    cover_color: Floats


def expressions(dice: Dice) -> NDArray[np.int64]:
    """(B,) int64 in [0, 8), index into :data:`~leaf_fer.data.table.EXPRESSIONS`."""
    return (dice.uniform("expression", 0, 1) * len(EXPRESSIONS)).astype(np.int64)


def intensities(dice: Dice) -> Floats:
    """How far each action unit moves: (B, U, 2) float32 in [0, 1], U :data:`ACTION_UNITS`.

    The last axis is the left and the right side of the image. An expression has one strength for
    the whole face; its units vary around it, some are left out, and others move a little.
    """
    count = len(ACTION_UNITS)
    expression = expressions(dice)
    strength = dice.uniform("strength", 0.4, 1)[:, None] * dice.uniform("unit", 0.65, 1.2, count)
    kept = 1 - dice.chance("dropped", DROPPED, count)
    borrowed = dice.chance("borrowed", BORROWED, count) * dice.uniform("loan", 0.3, 0.8, count)
    idle = dice.chance("idle", IDLE, count) * dice.uniform("idle strength", 0, 0.4, count)
    own = (strength * kept)[..., None] * _table(PROTOTYPES)[expression]
    loan = (strength * borrowed)[..., None] * _table(COMPANIONS)[expression]
    moved = np.maximum(np.maximum(own, loan), idle[..., None])
    mirrored = dice.chance("mirrored", 0.5)[:, None, None] > 0
    moved = np.where(mirrored, moved[..., ::-1], moved)
    return np.minimum(moved * dice.uniform("tremor", 0.85, 1, count, 2), np.float32(1))


def _table(units: dict[str, tuple[int, ...]]) -> Floats:
    """(C, U, 2), 1 where an expression moves a unit; contempt on the left alone."""
    table = np.zeros((len(EXPRESSIONS), len(ACTION_UNITS), 2), np.float32)
    for expression, moved in units.items():
        sides = 1 if expression == "contempt" else 2
        for unit in moved:
            table[EXPRESSIONS.index(expression), ACTION_UNITS.index(unit), :sides] = 1
    return table


def identity(dice: Dice) -> Identity:
    """Who is drawn."""
    tone = dice.uniform("skin tone", 0.95, 1.05)[:, None]
    skin = np.minimum(dice.choice("skin", SKINS) * tone, np.float32(1))
    hair = dice.choice("hair", HAIRS) * dice.uniform("hair tone", 0.85, 1.1)[:, None]
    rouge = dice.uniform("rouge", 0.1, 0.6)[:, None]
    blue = dice.chance("blue", 0.35)[:, None]
    bearded = dice.chance("bearded", 0.18)
    return Identity(
        width=dice.middling("width", 0.56, 0.72),
        chin=dice.middling("chin", 0.72, 0.82),
        jaw=dice.uniform("jaw", 0.15, 0.42),
        skin=skin,
        hair=hair,
        lips=skin * (_color(0.86, 0.58, 0.58) + rouge * _color(0.0, -0.25, -0.2)),
        iris=_color(0.3, 0.19, 0.1) + blue * _color(0.0, 0.22, 0.36),
        hairline=dice.uniform("hairline", -0.74, -0.54),
        parting=dice.uniform("parting", -0.3, 0.3),
        long_hair=dice.chance("long hair", 0.4) * (1 - bearded),
        eye_gap=dice.middling("eye gap", 0.25, 0.31),
        eye_size=dice.middling("eye size", 1.0, 1.18),
        brow_height=dice.middling("brow height", 0.17, 0.23),
        brow_weight=dice.uniform("brow weight", 0.024, 0.038),
        nose_length=dice.middling("nose length", 0.25, 0.34),
        nose_width=dice.middling("nose width", 0.085, 0.13),
        mouth_width=dice.middling("mouth width", 0.22, 0.28),
        lip_weight=dice.middling("lip weight", 0.75, 1.3),
        beard=bearded * dice.uniform("beard", 0.35, 0.9),
        mustache=bearded * dice.chance("mustache", 0.7) * dice.uniform("beard", 0.35, 0.9),
        glasses=dice.chance("glasses", 0.15),
        age=dice.uniform("age", 0, 0.25),
    )


def scene(dice: Dice) -> Scene:
    """How the face is seen."""
    return Scene(
        yaw=dice.middling("yaw", -0.22, 0.22),
        pitch=dice.middling("pitch", -0.08, 0.08),
        roll=dice.middling("roll", -0.1, 0.1),
        zoom=dice.uniform("zoom", 1.2, 1.32),
        shift_x=dice.middling("shift x", -0.04, 0.04),
        shift_y=dice.middling("shift y", -0.06, 0.02),
        gaze=dice.middling("gaze", -0.05, 0.05),
        light_x=dice.uniform("light x", -0.4, 0.4),
        light_y=dice.uniform("light y", -0.6, 0.1),
        ambient=dice.uniform("ambient", 0.55, 0.85),
        gain=dice.uniform("gain", 0.9, 1.08),
        tint=dice.uniform("tint", 0.96, 1.04, 3),
        saturation=np.minimum(dice.uniform("saturation", 0.5, 1.5), np.float32(1)),
        blur=dice.uniform("blur", 0.0, 0.025),
        noise=dice.uniform("noise", 0.0, 0.018),
        wall=dice.uniform("wall", 0.45, 0.7)[:, None] + dice.uniform("wall color", -0.08, 0.08, 3),
        shirt=dice.uniform("shirt", 0.3, 0.7, 3),
        cover=dice.chance("cover", 0.08),
        cover_x=dice.uniform("cover x", -0.7, 0.7),
        cover_y=dice.uniform("cover y", -0.3, 0.9),
        cover_size=dice.uniform("cover size", 0.1, 0.22),
        cover_color=dice.uniform("cover color", 0.1, 0.9, 3),
    )


def _color(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], np.float32)
