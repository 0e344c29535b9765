"""What is drawn in a synthetic face, as pure functions of a seed and an index.

Every number comes from a hash of (seed, index, name), never from a generator with a state, so a
face is the same whichever batch it is drawn in. Neither here nor in the drawing is anything used
but operations that floating point rounds exactly (no exponential, no sine).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.table import EXPRESSIONS

Floats = NDArray[np.float32]

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 20, 23, 26)
"""The facial action units (Ekman and Friesen) that a face moves, in the order of the columns."""

PROTOTYPES = {
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

DROPPED = 0.08
"""Probability that an expression leaves out one of its action units."""

IDLE = 0.1
"""Probability that an action unit moves a little that the expression does not ask for."""

SKINS = ((244, 208, 182), (236, 194, 160), (226, 178, 140), (208, 156, 116), (184, 132, 96), (156, 108, 78))
HAIRS = ((36, 30, 30), (60, 42, 32), (88, 58, 40), (122, 76, 46), (168, 130, 82), (128, 124, 120))


class Dice:
    """Random numbers by counting: what it throws depends on (seed, index, name) alone.

    Args:
        seed: any integer; taken modulo 2**64.
        index: (B,) int64.
    """

    def __init__(self, seed: int, index: NDArray[np.int64]) -> None:
        start = _mix(np.full(1, seed % 2**64, np.uint64))
        self.key = _mix(index.astype(np.uint64) + start)

    def bits(self, name: str, *shape: int) -> NDArray[np.uint64]:
        """(B, *shape) hashed words."""
        count = int(np.prod(shape, dtype=np.int64))
        offset = _mix(np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32))
        return _mix(self.key[:, None] ^ offset).reshape(-1, *shape)

    def uniform(self, name: str, low: float, high: float, *shape: int) -> Floats:
        """(B, *shape) evenly spread over [low, high)."""
        unit = (self.bits(name, *shape) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return low + (high - low) * unit

    def middling(self, name: str, low: float, high: float, *shape: int) -> Floats:
        """(B, *shape) over (low, high), mostly near the middle (a triangular distribution)."""
        return 0.5 * (self.uniform(name, low, high, *shape) + self.uniform(name + "'", low, high, *shape))

    def chance(self, name: str, probability: float, *shape: int) -> Floats:
        """(B, *shape), 1 with the given probability and else 0."""
        return (self.uniform(name, 0, 1, *shape) < probability).astype(np.float32)

    def choice(self, name: str, options: tuple[tuple[int, int, int], ...]) -> Floats:
        """(B, 3) one of a few colors, in [0, 1]."""
        row = (self.uniform(name, 0, 1) * len(options)).astype(np.int64)
        return (np.asarray(options, np.float32) / 255)[row]


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
    asked = _prototypes()[expressions(dice)]
    strength = dice.uniform("strength", 0.35, 1)[:, None] * dice.uniform("unit", 0.65, 1.2, count)
    kept = 1 - dice.chance("dropped", DROPPED, count)
    mirrored = dice.chance("mirrored", 0.5)[:, None, None] > 0
    sided = np.where(mirrored, asked[..., ::-1], asked)
    idle = dice.chance("idle", IDLE, count) * dice.uniform("idle strength", 0, 0.4, count)
    tremor = dice.uniform("tremor", 0.85, 1, count, 2)
    moved = np.maximum((strength * kept)[..., None] * sided, idle[..., None])
    return np.minimum(moved * tremor, np.float32(1))


def _prototypes() -> Floats:
    """(C, U, 2), 1 where an expression moves a unit; contempt on the left."""
    table = np.zeros((len(EXPRESSIONS), len(ACTION_UNITS), 2), np.float32)
    for row, expression in enumerate(EXPRESSIONS):
        sides = 1 if expression == "contempt" else 2
        for unit in PROTOTYPES[expression]:
            table[row, ACTION_UNITS.index(unit), :sides] = 1
    return table


def identity(dice: Dice) -> Identity:
    """Who is drawn."""
    tone = dice.uniform("skin tone", 0.95, 1.05)[:, None]
    skin = np.minimum(dice.choice("skin", SKINS) * tone, np.float32(1))
    hair = dice.choice("hair", HAIRS) * dice.uniform("hair tone", 0.8, 1.15)[:, None]
    rouge = dice.uniform("rouge", 0.0, 0.6)[:, None]
    blue = dice.chance("blue", 0.35)[:, None]
    bearded = dice.chance("bearded", 0.18)
    return Identity(
        width=dice.middling("width", 0.56, 0.72),
        chin=dice.middling("chin", 0.72, 0.82),
        jaw=dice.uniform("jaw", 0.15, 0.42),
        skin=skin,
        hair=hair,
        lips=skin * (np.float32([0.86, 0.58, 0.58]) + rouge * np.float32([0.0, -0.25, -0.2])),
        iris=np.float32([0.3, 0.19, 0.1]) + blue * np.float32([0.0, 0.22, 0.36]),
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
        ambient=dice.uniform("ambient", 0.45, 0.8),
        gain=dice.uniform("gain", 0.88, 1.08),
        tint=dice.uniform("tint", 0.96, 1.04, 3),
        saturation=np.minimum(dice.uniform("saturation", 0.4, 1.6), np.float32(1)),
        blur=dice.uniform("blur", 0.0, 0.035),
        noise=dice.uniform("noise", 0.0, 0.03),
        wall=dice.uniform("wall", 0.4, 0.75)[:, None] + dice.uniform("wall color", -0.1, 0.1, 3),
        shirt=dice.uniform("shirt", 0.2, 0.8, 3),
        cover=dice.chance("cover", 0.08),
        cover_x=dice.uniform("cover x", -0.7, 0.7),
        cover_y=dice.uniform("cover y", -0.3, 0.9),
        cover_size=dice.uniform("cover size", 0.1, 0.22),
        cover_color=dice.uniform("cover color", 0.1, 0.9, 3),
    )


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014): one word to one word."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
