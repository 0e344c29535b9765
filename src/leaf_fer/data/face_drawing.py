"""Draws synthetic faces, a batch at a time, from signed distances.

A shape is a signed distance (B, H, W), negative inside; its coverage is a clipped ramp as wide as
a pixel plus the blur. Coordinates are in face units: the image spans [-1, 1], x to the right and
y down. A head is an ellipsoid; turning it moves what lies on its surface, not its outline.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.dice import Dice, Floats
from leaf_fer.data.face_parameters import ACTION_UNITS, Identity, Scene

Record = TypeVar("Record", Identity, Scene)

DEPTH = 0.75
"""Radius of the head, seen from above, for turning it."""

TOP = 0.8
"""From the middle of the face up to the top of the skull."""


def planes(record: Record, rows: NDArray[np.int64]) -> Record:
    """Some rows of a record, (N,) fields as (B, 1, 1) and (N, 3) fields as (B, 3, 1, 1)."""
    names = [field.name for field in fields(record)]
    return replace(record, **{name: getattr(record, name)[rows][..., None, None] for name in names})


class Muscles:
    """Action units by their number, ready to be combined with planes of pixels.

    Args:
        units: (B, U, 2) float32 in [0, 1].
    """

    def __init__(self, units: Floats) -> None:
        self.units = units

    def both(self, unit: int) -> Floats:
        """(B, 1, 1) mean of the two sides."""
        sides = self.units[:, ACTION_UNITS.index(unit), :, None, None]
        return 0.5 * (sides[:, 0] + sides[:, 1])

    def sided(self, unit: int, right: NDArray[np.bool_]) -> Floats:
        """(B, H, W) the unit of the side on which a pixel lies."""
        sides = self.units[:, ACTION_UNITS.index(unit), :, None, None]
        return np.where(right, sides[:, 1], sides[:, 0])


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image being painted, and where its pixels are.

    Attributes:
        rgb: (B, 3, H, W) float32 in [0, 1], changed in place.
        x: (B, H, W) float32, to the right.
        y: (B, H, W) float32, down.
        edge: (B, 1, 1) float32, width of a soft edge.
    """

    rgb: Floats
    x: Floats
    y: Floats
    edge: Floats

    def band(self, top: float, bottom: float) -> Canvas:
        """The rows between two heights of the image in [-1, 1], sharing the pixels."""
        height = self.rgb.shape[-2]
        rows = slice(int(height * (top + 1) / 2), int(height * (bottom + 1) / 2 + 1))
        return Canvas(self.rgb[..., rows, :], self.x[:, rows], self.y[:, rows], self.edge)

    def coverage(self, distance: Floats) -> Floats:
        """(B, H, W) in [0, 1], how much of each pixel lies inside a shape."""
        return np.clip(0.5 - distance / self.edge, 0, 1)

    def fill(self, distance: Floats, color: Floats, opacity: Floats | float = 1.0) -> None:
        """Paints a shape."""
        if np.any(opacity):
            self._blend(color, self.coverage(distance) * opacity)

    def line(
        self, distance: Floats, half: float | Floats, color: Floats, opacity: Floats | float = 1.0
    ) -> None:
        """Paints a line around the zeros of a distance; one thinner than an edge is fainter."""
        drawn = np.maximum(half, 0.4 * self.edge)
        self.fill(np.abs(distance) - drawn, color, opacity * half / drawn)

    def crease(self, distance: Floats, half: float | Floats, amount: Floats | float) -> None:
        """Darkens along a line, as a wrinkle does; half its width and how much, in [0, 1]."""
        drawn = np.maximum(half, 0.5 * self.edge)
        falloff = np.maximum(1 - np.abs(distance) / (2 * drawn), 0)
        self.rgb[...] *= (1 - falloff * (amount * half / drawn))[:, None]

    def glow(self, squared: Floats, color: Floats, opacity: Floats | float) -> None:
        """Paints a soft spot, given the squared distance from its center, 1 at its rim."""
        falloff = np.maximum(1 - squared, 0)
        self._blend(color, falloff * falloff * opacity)

    def _blend(self, color: Floats, amount: Floats) -> None:
        """Moves the pixels towards a color; amount: (B, H, W) in [0, 1]."""
        change = color - self.rgb
        change *= amount[:, None]  # in place: what is painted together should fit the cache
        self.rgb[...] += change


@dataclass(frozen=True, eq=False)
class Head:
    """A head on the image: its outline before and its surface after it is turned.

    Attributes:
        u: (B, H, W) pixels relative to the outline, to the right.
        v: (B, H, W) pixels relative to the outline, down.
        surface: the canvas with coordinates on the face, in which its parts are drawn.
        outline: (B, H, W) signed distance to the outline.
        light: (B, H, W) factor of the light on the surface.
    """

    u: Floats
    v: Floats
    surface: Canvas
    outline: Floats
    light: Floats


def begin(face: Identity, view: Scene, muscles: Muscles, size: int) -> Head:
    """A canvas of the wall's color, and the head's place on it."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    x, y = axis[None, None, :] - view.shift_x, axis[None, :, None] - view.shift_y
    secant = np.sqrt(1 + view.roll * view.roll) * view.zoom
    u, v = (x + view.roll * y) / secant, (y - view.roll * x) / secant
    rgb = np.broadcast_to(view.wall, (len(u), 3, size, size)) * (1 - 0.15 * axis[None, None, None])
    s = _turned(u, view.yaw)
    t = _turned(v, view.pitch)
    edge = np.float32(2.6 / size) / view.zoom + view.blur
    chin = face.chin + 0.1 * muscles.both(26)
    nx = u / (face.width * (1 - face.jaw * np.square(np.clip(v / chin, 0, 1))))
    ny = v / np.where(v < 0, np.float32(TOP), chin)
    squared = nx * nx + ny * ny
    outline = (np.sqrt(squared) - 1) * 0.65
    light = _light(nx, ny, squared, view)
    return Head(u, v, Canvas(rgb.astype(np.float32), s, t, edge), outline, light)


def _turned(along: Floats, sine: Floats) -> Floats:
    """Where on the unturned head lies what is seen at a place, one axis at a time."""
    depth = np.sqrt(np.maximum(DEPTH * DEPTH - along * along, 0.0))
    turned: Floats = along * np.sqrt(1 - sine * sine) - depth * sine
    return turned


def _light(nx: Floats, ny: Floats, squared: Floats, view: Scene) -> Floats:
    """Lambert's law on the ellipsoid plus ambient light."""
    nz = np.sqrt(np.maximum(1 - 0.9 * squared, 0.0))
    length = np.sqrt(view.light_x * view.light_x + view.light_y * view.light_y + 0.6)
    toward = (nx * view.light_x + ny * view.light_y + nz * np.float32(0.775)) / length
    light: Floats = view.ambient + (1 - view.ambient) * np.clip(1.15 * toward, 0, 1)
    return light


def paint_behind(head: Head, face: Identity, view: Scene) -> None:
    """Hair, neck, shirt and ears: what the face covers."""
    canvas, side = head.surface, np.abs(head.u)
    cap = _cap(head, face)
    mane = np.maximum(side - face.width - 0.11, -0.2 - head.v)
    back = np.where(face.long_hair > 0, np.minimum(cap, mane), np.maximum(cap, head.v - 0.02))
    canvas.fill(back, 0.75 * face.hair)
    neck = np.maximum(side - 0.62 * face.width, 0.45 - head.v)
    canvas.fill(neck, 0.62 * face.skin)
    canvas.fill(0.93 + 0.08 * side - head.v, view.shirt)
    x = (side - face.width - 0.02 + 0.06 * view.yaw * np.sign(head.u)) / 0.09
    y = head.v / 0.19
    ear = np.sqrt(x * x + y * y) - 1
    canvas.fill(0.1 * ear, 0.9 * face.skin, 1 - face.long_hair)
    canvas.fill(0.1 * ear + 0.045, 0.65 * face.skin, 1 - face.long_hair)


def _cap(head: Head, face: Identity) -> Floats:
    """Distance to the outline of the hair, seen as an ellipse a little larger than the skull."""
    x, y = head.u / (face.width + 0.12), (head.v + 0.08) / (TOP + 0.06)
    distance: Floats = (np.sqrt(x * x + y * y) - 1) * 0.7
    return distance


def paint_skin(head: Head, face: Identity) -> None:
    """The head and the beard, without eyes, nose and mouth."""
    canvas = head.surface
    canvas.fill(head.outline, face.skin)
    blush = np.square((np.abs(canvas.x) - 0.36) / 0.24) + np.square((canvas.y - 0.2) / 0.2)
    canvas.glow(blush, 0.92 * face.lips, 0.35)
    side = np.square(canvas.x / face.width)
    edge = np.maximum(head.outline, 0.6 * (0.58 - 0.75 * side * side - canvas.y))
    canvas.fill(edge, 0.85 * face.hair, face.beard)


def paint_front(head: Head, face: Identity, view: Scene) -> None:
    """Light on all that is painted of the face so far, then the hair that covers it."""
    canvas = head.surface
    inside = canvas.coverage(head.outline)
    canvas.rgb[...] *= (1 + inside * (head.light - 1))[:, None]
    bow = np.square((canvas.x - face.parting) / face.width)
    hairline = np.minimum(face.hairline + 0.1 * bow, -0.4) + 0.5 * np.square(
        np.square(head.u / face.width)
    )
    fringe = np.maximum(_cap(head, face), 0.7 * (head.v - np.minimum(hairline, 0.05)))
    canvas.fill(fringe, face.hair * (0.55 + 0.45 * view.ambient[:, None]))
    gloss = np.square((head.u - 0.4 * view.light_x) / 0.4) + np.square((head.v + 0.78) / 0.1)
    canvas.glow(gloss, np.ones(1, np.float32), 0.2 * canvas.coverage(fringe))


def finish(canvas: Canvas, view: Scene, dice: Dice) -> NDArray[np.uint8]:
    """What hides the face, then color, brightness and noise: (B, H, W, 3) uint8."""
    if view.cover.any():
        _cover(canvas, view)
    rgb = canvas.rgb
    grey = 0.3 * rgb[:, :1] + 0.59 * rgb[:, 1:2] + 0.11 * rgb[:, 2:]
    rgb = (grey + (rgb - grey) * view.saturation[:, None]) * (view.gain[:, None] * view.tint)
    rgb = rgb + view.noise[:, None] * _grain(dice, rgb.shape[-1])
    return np.moveaxis(np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8), 1, -1)


def _cover(canvas: Canvas, view: Scene) -> None:
    """A hand or the like in front of the face."""
    size = canvas.rgb.shape[-1]
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    x, y = axis[None, None, :] - view.cover_x, axis[None, :, None] - view.cover_y
    across = (x + y * view.cover_x) * 0.9
    away = np.sqrt(across * across + np.square(np.minimum(y, 0))) / view.cover_size
    color = view.cover_color * (1.1 - 0.4 * np.minimum(away, 1))[:, None]
    canvas.fill((away - 1) * view.cover_size, color, view.cover)


def _grain(dice: Dice, size: int) -> Floats:
    """(B, 3, H, W) noise of mean 0, near normal, the same in most of the three channels."""
    words = dice.bits("grain", size, size)
    ten = np.uint64(1023)
    parts = [((words >> np.uint64(bit)) & ten).astype(np.float32) for bit in range(0, 60, 10)]
    shared = parts[0] + parts[1] + parts[2] - 1534.5
    own = np.stack(parts[3:], axis=1) - 511.5
    return (shared[:, None] + own) * np.float32(1 / 512)
