"""``leaf faces``, ``leaf live``, and ``leaf predict`` on photos and videos."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from leaf_fer.errors import UserError, say
from leaf_fer.faces.footage import Every, Frame, Loss, camera, footage
from leaf_fer.options import describe
from leaf_fer.ranges import Count
from leaf_fer.recipe import Recipe, write
from leaf_fer.rows import Rows, style_of
from leaf_fer.scenes.choice import Wish, margin_of, settle
from leaf_fer.scenes.looking import Looker, Sight, look_at
from leaf_fer.scenes.sources import find_sources

if TYPE_CHECKING:
    from leaf_fer.predict import Predictor

LARGEST = 4096  # pixels per side of a crop


def wish(command: argparse.Namespace) -> Wish:
    """What was asked about finding and cutting faces.

    Raises:
        UserError: a margin that cannot be.
    """
    weights = Path(command.detector_weights) if command.detector_weights else None
    word = command.detector or "auto"
    return Wish(word, weights, command.align, margin_of(command.margin))


def smooth_of(text: str) -> float:
    """The value of ``--smooth``.

    Raises:
        UserError: not a number of seconds.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"--smooth {text}: expected seconds >= 0; 0 averages nothing")
    return seconds


def faces(command: argparse.Namespace) -> int:
    """``leaf faces``.

    Returns:
        0; 1 if a file could not be read, or no face was found.

    Raises:
        UserError: a mistake in what was asked for.
    """
    out, every = Path(command.out), Every.parse(command.every)
    size = describe(Count, "size", 112).parse(command.size)
    if size > LARGEST:
        raise UserError(f"--size {size}: expected at most {LARGEST} pixels")
    asked = wish(command)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: expected a new or empty folder")
    names = find_sources(command.paths)
    from leaf_fer.faces.detection import find_detector
    from leaf_fer.scenes.album import make
    from leaf_fer.scenes.crops import COLUMNS, TABLE, write_crops

    detector = find_detector(asked.detector, asked.weights)
    recipe = Recipe(asked.align or "points", asked.margin or 0.0, size, detector.name)
    make(out, "--out")
    write(out, recipe)
    table = out / f"{TABLE}.{command.format}"
    report = _Report()
    with Rows(command.format, COLUMNS, table) as rows:
        seen = look_at(_shown(footage(names, every)), Looker(detector, recipe, size, every))
        for one in write_crops(seen, out, names, rows):
            report.add(one)
    report.close()
    say(f"{report.faces} faces of {report.files} files in {out}, listed in {table}")
    return 1 if report.lost or not report.faces else 0


def predict(
    command: argparse.Namespace,
    *,
    coverage: float | None,
    per_class: bool,
    batch_size: int,
    device: str,
    precision: str,
) -> int:
    """``leaf predict`` with a detector.

    Returns:
        0; 1 if a file could not be read, or not to its end.

    Raises:
        UserError: a mistake in what was asked for.
    """
    out = Path(command.out) if command.out else None
    style, every = style_of(command.format, out), Every.parse(command.every)
    asked, smooth = wish(command), smooth_of(command.smooth)
    names = find_sources(command.paths)
    from leaf_fer.scenes.album import Album
    from leaf_fer.scenes.judging import Judge
    from leaf_fer.scenes.verdicts import columns, lost, verdicts

    predictor, looker = _begin(command.model, asked, every, device, precision)
    choose = predictor.chooser(coverage, per_class=per_class)
    judge = Judge(predictor, batch_size=batch_size, smooth=smooth, choose=choose)
    report = _Report()
    with ExitStack() as stack:
        rows = stack.enter_context(Rows(style, columns(predictor.classes), out))
        album = Album(Path(command.annotate), names) if command.annotate else None
        if album is not None:
            stack.enter_context(album)
        hidden = out is None and sys.stdout.isatty()
        frames = _shown(footage(names, every), hidden=hidden)
        for one in judge.judge(look_at(frames, looker)):
            if isinstance(one, Loss):
                report.add(one)
                rows.add(lost(one, predictor.classes))
                continue
            report.add(one.sight)
            found = verdicts(one, predictor.classes)
            if command.abstain:
                found = [verdict.unsure() for verdict in found]
            for verdict in found:
                rows.add(verdict)
            if album is not None:
                album.add(one.sight, [verdict.caption() for verdict in found])
        report.close()
    return 1 if report.lost else 0


def live(
    command: argparse.Namespace,
    *,
    coverage: float | None,
    per_class: bool,
    batch_size: int,
    device: str,
    precision: str,
) -> int:
    """``leaf live``.

    Returns:
        0.

    Raises:
        UserError: a mistake in what was asked for; no camera, no screen.
    """
    out = Path(command.out) if command.out else None
    style, every = style_of(command.format, out), Every.parse(command.every)
    asked, smooth = wish(command), smooth_of(command.smooth)
    limit = None
    if command.frames is not None:
        limit = describe(Count, "frames", 1).parse(command.frames)
    if not command.camera.isdecimal() and not Path(command.camera).is_file():
        raise UserError(f"--camera {command.camera}: expected a number, or the file of a video")
    from leaf_fer.scenes.judging import Judge
    from leaf_fer.scenes.live import watch

    predictor, looker = _begin(command.model, asked, every, device, precision)
    choose = predictor.chooser(coverage, per_class=per_class)
    number = int(command.camera) if command.camera.isdecimal() else command.camera
    watch(
        camera(number, every),
        looker,
        Judge(predictor, batch_size=batch_size, smooth=smooth, choose=choose, together=1),
        predictor.classes,
        style=style,
        out=out,
        window=not command.no_window,
        abstain=command.abstain,
        limit=limit,
    )
    return 0


def _begin(
    model: str, asked: Wish, every: Every, device: str, precision: str
) -> tuple[Predictor, Looker]:
    """A model, and what finds and cuts faces for it."""
    from leaf_fer.allocator import keep_memory
    from leaf_fer.predict import load

    keep_memory()
    predictor = load(model, device=device, precision=precision)
    detector, recipe = settle(asked, predictor.card.alignment)
    size = predictor.card.architecture.image_size
    return predictor, Looker(detector, recipe, size, every)


def _shown(found: Iterable[Frame | Loss], *, hidden: bool = False) -> Iterator[Frame | Loss]:
    """Pictures, counted on a terminal as they come."""
    yield from tqdm(found, unit="picture", disable=True if hidden else None)


class _Report:
    """Tells of files that were lost or show no face.

    Attributes:
        faces: that were seen.
        files: that were seen or lost.
        lost: files, whole or in part.
    """

    def __init__(self) -> None:
        self.faces = self.files = self.lost = 0
        self._of: Path | None = None
        self._seen: Counter[Path] = Counter()

    def add(self, one: Sight | Loss) -> None:
        """Count a picture, or tell of a loss."""
        path = one.path if isinstance(one, Loss) else one.frame.path
        if path != self._of:
            self.close()
            self._of = path
            self.files += 1
        if isinstance(one, Loss):
            self.lost += 1
            say(f"leaf: {one.path}: {one.reason}")
            self._of = None
        else:
            self.faces += len(one.faces)
            self._seen[path] += len(one.faces)

    def close(self) -> None:
        """Tell of the last file."""
        if self._of is not None and not self._seen[self._of]:
            say(f"leaf: {self._of}: no face found")
        self._of = None
        self._seen.clear()
