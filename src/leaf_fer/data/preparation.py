"""What is written into the folder of a store, once."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from leaf_fer.data.table import FaceTable
from leaf_fer.data.workers import Chunk, Drawings, Filled, Photos, fill_all, travels
from leaf_fer.errors import UserError, say

VERSION = 1
"""Of the files and of all that turns an image into pixels; another one means another store."""

FILES = ("images.npy", "hashes.npy", "valid.npy", "quarantine.csv")
"""All but ``store.json``, which is written last and tells their sizes."""

FEW = 512
"""Up to so many images, starting worker processes takes longer than decoding."""

SLOW = 5.0
"""Seconds from which on a preparation says how fast it was."""

CHUNK_ROWS, DRAWN_ROWS = 64, 512
CHUNK_BYTES = 16 * 2**20
"""Most rows that a worker gets at once, of photos and of drawings, and most bytes of pixels."""


def fill_folder(
    folder: Path, table: FaceTable, size: int, workers: int | None, progress: bool
) -> None:
    """Decode or draw a table into an empty folder; see :func:`leaf_fer.data.store.prepare`.

    Raises:
        OSError: the files cannot be written.
        UserError: no image can be read, the faces cannot be drawn, or a worker died.
    """
    start = time.monotonic()
    file = folder / "images.npy"
    offset = _allocate(file, (len(table), size, size, 3))
    rows = _chunk_rows(table, size)
    processes = _processes(table, rows, workers)
    chunks = (
        Chunk(_faces(table, row, row + rows), size, file, offset + row * 3 * size**2)
        for row in range(0, len(table), rows)
    )
    hashes, reasons = _collect(fill_all(chunks, processes), table, progress)
    if all(reasons):
        first = f"the first, {table.names[0]}, {reasons[0]}"
        raise UserError(f"none of the {len(table)} images in {table.root} can be read: {first}")
    np.save(folder / "hashes.npy", hashes)
    np.save(folder / "valid.npy", np.array([not reason for reason in reasons]))
    _list_quarantine(folder / "quarantine.csv", table.names, reasons)
    for name in FILES:
        synchronize(folder / name)
    seconds = time.monotonic() - start
    _seal(folder, len(table), size, seconds, processes)
    if progress and seconds > SLOW:
        rate = f"{len(table) / seconds:,.0f}/s, {processes} process{'es' * (processes > 1)}"
        say(f"prepared {len(table):,} images in {seconds:,.0f} s ({rate})")


def synchronize(path: Path) -> None:
    """Wait until a file or folder is on disk, where folders can be waited for."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocate(path: Path, shape: tuple[int, ...]) -> int:
    """Write the head of an array of uint8 and leave room for the rest; where the rest begins.

    The pixels are written later by ordinary writes, not through a memory map, because a full
    disk kills a process that writes through a map.
    """
    with path.open("wb") as file:
        head = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        offset = file.tell()
        file.truncate(offset + int(np.prod(shape)))
    return offset


def _chunk_rows(table: FaceTable, size: int) -> int:
    most = CHUNK_ROWS if table.render is None else DRAWN_ROWS
    return max(1, min(most, CHUNK_BYTES // (3 * size**2)))


def _processes(table: FaceTable, chunk_rows: int, workers: int | None) -> int:
    """How many are used: one per core where nobody says, as far as there are chunks for them."""
    if table.render is not None and not travels(table.render):
        return 1
    if workers is None:
        return 1 if len(table) <= FEW else min(_cores(), -(-len(table) // chunk_rows))
    return workers


def _faces(table: FaceTable, start: int, stop: int) -> Photos | Drawings:
    """Some rows of a table, as far as there are rows."""
    rows = range(start, min(stop, len(table)))
    if table.render is not None:
        return Drawings(table.render, np.array(rows, dtype=np.int64))
    root = table.root or Path()
    return Photos(
        [root / table.names[row] for row in rows],
        None if table.boxes is None else table.boxes[start:stop],
        None if table.points is None else table.points[start:stop],
    )


def _collect(
    filled: Generator[Filled], table: FaceTable, progress: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    """The fingerprints of all rows, and why a row is unreadable, while a bar shows progress."""
    quiet = None if progress else True  # None: only where stderr is a terminal
    word = "decoding" if table.render is None else "drawing"
    hashes: list[NDArray[np.uint8]] = []
    reasons: list[str] = []
    with closing(filled), tqdm(total=len(table), desc=word, unit="img", disable=quiet) as bar:
        for part in filled:
            hashes.append(part.hashes)
            reasons += part.reasons
            bar.update(len(part.reasons))
    return np.concatenate(hashes), reasons


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _list_quarantine(path: Path, names: Sequence[str], reasons: list[str]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "reason"))
        writer.writerows(pair for pair in zip(names, reasons, strict=True) if pair[1])


def _seal(folder: Path, count: int, size: int, seconds: float, processes: int) -> None:
    about = {
        "version": VERSION,
        "count": count,
        "size": size,
        "key": folder.stem.rpartition("-")[2],
        "seconds": round(seconds, 3),
        "images_per_second": round(count / seconds, 1),
        "processes": processes,
        "pillow": PIL.__version__,
        "bytes": {name: (folder / name).stat().st_size for name in FILES},
    }
    (folder / "store.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    synchronize(folder / "store.json")
    synchronize(folder)
