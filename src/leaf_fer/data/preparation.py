"""What is written into the folder of a store, once."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from leaf_fer.data.decode import fingerprint
from leaf_fer.data.table import FaceTable
from leaf_fer.data.workers import Chunk, Filled, fill_all
from leaf_fer.errors import UserError

VERSION = 1
"""Of the files and of all that turns an image into pixels; another one means another store."""

FILES = ("images.npy", "hashes.npy", "valid.npy", "quarantine.csv")
"""All but ``store.json``, which is written last and tells their sizes."""

FEW = 512
"""Up to so many images, starting worker processes takes longer than decoding."""

CHUNK_ROWS = 64
CHUNK_BYTES = 16 * 2**20


def fill_folder(
    folder: Path, table: FaceTable, size: int, workers: int | None, progress: bool
) -> None:
    """Decode a table into an empty folder; see :func:`leaf_fer.data.store.prepare`.

    Raises:
        OSError: the files cannot be written.
        UserError: no image can be read, or a worker died.
    """
    start = time.monotonic()
    offset = _allocate(folder / "images.npy", (len(table), size, size, 3))
    if table.render is None:
        filled = _decoded(folder / "images.npy", offset, table, size, workers)
    else:
        filled = _drawn(folder / "images.npy", offset, table, size)
    quiet = None if progress else True  # None: only where stderr is a terminal
    hashes: list[NDArray[np.uint8]] = []
    reasons: list[str] = []
    with (
        closing(filled),
        tqdm(total=len(table), desc="decoding", unit="img", disable=quiet) as bar,
    ):
        for part in filled:
            hashes.append(part.hashes)
            reasons += part.reasons
            bar.update(len(part.reasons))
    if all(reasons):
        first = f"the first, {table.names[0]}, {reasons[0]}"
        raise UserError(f"none of the {len(table)} images in {table.root} can be read: {first}")
    np.save(folder / "hashes.npy", np.concatenate(hashes))
    np.save(folder / "valid.npy", np.array([not reason for reason in reasons]))
    _list_quarantine(folder / "quarantine.csv", table.names, reasons)
    _seal(folder, len(table), size, time.monotonic() - start)


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


def _decoded(
    file: Path, offset: int, table: FaceTable, size: int, workers: int | None
) -> Generator[Filled]:
    row_bytes = size * size * 3
    rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes))
    if workers is None:
        workers = 1 if len(table) <= FEW else min(_cores(), -(-len(table) // rows))
    root = table.root or Path()

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(table), rows):
            here = slice(start, start + rows)
            yield Chunk(
                paths=[root / name for name in table.names[here]],
                boxes=None if table.boxes is None else table.boxes[here],
                points=None if table.points is None else table.points[here],
                size=size,
                file=file,
                offset=offset + start * row_bytes,
            )

    yield from fill_all(chunks(), workers)


def _drawn(path: Path, offset: int, table: FaceTable, size: int) -> Generator[Filled]:
    assert table.render is not None
    with path.open("r+b") as file:
        file.seek(offset)
        for start in range(0, len(table), FEW):
            rows = np.arange(start, min(start + FEW, len(table)), dtype=np.int64)
            images = np.ascontiguousarray(table.render(rows, size))
            file.write(images.data)
            yield Filled(np.stack([fingerprint(image) for image in images]), [""] * len(rows))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _list_quarantine(path: Path, names: list[str], reasons: list[str]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "reason"))
        writer.writerows(pair for pair in zip(names, reasons, strict=True) if pair[1])


def _seal(folder: Path, count: int, size: int, seconds: float) -> None:
    about = {
        "version": VERSION,
        "count": count,
        "size": size,
        "key": folder.stem.rpartition("-")[2],
        "seconds": round(seconds, 3),
        "images_per_second": round(count / seconds, 1),
        "pillow": PIL.__version__,
        "bytes": {name: (folder / name).stat().st_size for name in FILES},
    }
    (folder / "store.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    for name in (*FILES, "store.json"):
        synchronize(folder / name)
    synchronize(folder)
