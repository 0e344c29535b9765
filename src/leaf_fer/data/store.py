"""Decoded faces on disk: every image is opened once, and training only ever copies rows.

A store is a folder in the cache. It is built under another name and renamed when complete, so a
folder with its final name is whole; a lock keeps processes from building the same one twice.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from re import sub

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from leaf_fer.data.preparation import FILES, VERSION, fill_folder, synchronize
from leaf_fer.data.table import FaceTable
from leaf_fer.errors import UserError


@dataclass(frozen=True, eq=False)
class Store:
    """The faces of a table, decoded. Row i belongs to row i of the table.

    Attributes:
        images: (N, size, size, 3) uint8 RGB, mapped from disk, read-only; black where not valid.
        hashes: (N, 16) uint8, mapped and read-only; equal for equal pixels at original size
            whatever the file format.
        valid: (N,) bool, whether the image could be read.
        quarantine: name and reason of each image that could not.
        folder: where this is stored; deleting it has no other effect than decoding again.
        size: pixels per side.
    """

    images: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    quarantine: list[tuple[str, str]]
    folder: Path
    size: int

    def __len__(self) -> int:
        return len(self.valid)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n,) -> (n, size, size, 3) uint8, a copy of these rows in memory."""
        return np.take(np.asarray(self.images), rows, axis=0)


def default_cache() -> Path:
    """``$LEAF_CACHE``, else ``$XDG_CACHE_HOME/leaf-fer``, else ``~/.cache/leaf-fer``."""
    if folder := os.environ.get("LEAF_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leaf-fer"


def prepare(
    table: FaceTable,
    size: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Store:
    """The store of a table, decoded now unless that has been done before.

    It is found again by the names, sizes and modification times of the files, the boxes and
    points, and ``size``; faces that are drawn by the key of their table. The folder of the files
    may move, but not change its name.

    Args:
        table: the faces.
        size: pixels per side, >= 1.
        cache: the folder of all stores; :func:`default_cache` if None.
        workers: processes that decode, >= 1; None means one per core, none for few images.
        progress: show a bar while decoding, and say so when waiting for another process; the bar
            stays away where stderr is not a terminal.

    Raises:
        UserError: an option out of range, no image at all or none that can be read, a cache
            folder that cannot be written, or a full disk.
    """
    if size < 1 or (workers is not None and workers < 1):
        raise UserError(f"size and workers: expected at least 1, got {size} and {workers}")
    if not len(table):
        raise UserError(f"expected at least one image, {table.root or table.key} has none")
    cache = default_cache() if cache is None else cache
    key = _key(table, size)
    folder = cache / f"{_slug(table)}-{size}px-{key}"
    store = _open(folder, len(table), size, complain=False)
    if store is None:
        try:
            store = _build_once(folder, table, size, workers, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(_full(cache, _bytes(len(table), size))) from error
            raise UserError(
                f"cache: cannot write in {cache} ({error.strerror or error}); "
                "LEAF_CACHE can name another folder"
            ) from error
    if store.quarantine:
        listed = f"{len(store.quarantine)} of {len(store)} images cannot be read"
        print(f"{listed}; see {folder / 'quarantine.csv'}", file=sys.stderr)
    return store


def _key(table: FaceTable, size: int) -> str:
    digest = blake2b(repr((VERSION, size, len(table), table.key)).encode(), digest_size=8)
    pieces = map(repr, _identities(table))
    while piece := "".join(islice(pieces, 4096)):  # one by one takes longer
        digest.update(piece.encode())
    for numbers in (table.boxes, table.points):
        digest.update(b"-" if numbers is None else np.ascontiguousarray(numbers, "<f4").tobytes())
    return digest.hexdigest()


def _identities(table: FaceTable) -> Iterator[tuple[str | int, ...]]:
    """Of each image its name and what changes with its file; nothing more of a drawn one."""
    if table.render is not None:
        return zip(table.names)
    root = os.fspath(table.root or "")
    return ((name, *_state(f"{root}/{name}")) for name in table.names)


def _state(path: str) -> tuple[int, ...]:
    """What changes with the content of a file, or with whether it may be read at all."""
    try:
        status = os.stat(path)  # noqa: PTH116 (speed)
    except (OSError, ValueError):
        return (-1,)
    return status.st_size, status.st_mtime_ns, status.st_mode & 0o444


def _slug(table: FaceTable) -> str:
    name = table.root.resolve().name if table.root else table.key
    return sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32] or "faces"


def _bytes(count: int, size: int) -> int:
    return count * (size * size * 3 + 16 + 1) + 4096


def _full(cache: Path, needed: int) -> str:
    free = shutil.disk_usage(cache).free
    return (
        f"cache: {needed / 2**20:,.1f} MiB are needed in {cache}, {free / 2**20:,.1f} MiB are "
        "free; LEAF_CACHE can name a folder on another disk"
    )


def _open(folder: Path, count: int, size: int, *, complain: bool) -> Store | None:
    """The store in a folder, or None if there is none or it is not what was once finished."""
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / "store.json").read_text("utf-8"))
        found = {name: (folder / name).stat().st_size for name in FILES}
        expected = {"version": VERSION, "count": count, "size": size, "bytes": found}
        if {name: about.get(name) for name in expected} != expected:
            raise ValueError("files and store.json disagree")
        images = np.load(folder / "images.npy", mmap_mode="r")
        hashes = np.load(folder / "hashes.npy", mmap_mode="r")
        valid = np.load(folder / "valid.npy")
        with (folder / "quarantine.csv").open(
            encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            quarantine = [(name, reason) for name, reason in list(csv.reader(file))[1:]]
        if images.shape != (count, size, size, 3) or len(quarantine) != count - valid.sum():
            raise ValueError("files disagree")
    except (OSError, ValueError, AttributeError) as error:
        if complain:
            print(f"{folder} is damaged ({error}); decoding again", file=sys.stderr)
        return None
    return Store(images, hashes, valid, quarantine, folder, size)


def _build_once(
    folder: Path, table: FaceTable, size: int, workers: int | None, progress: bool
) -> Store:
    """Build a store, or wait until another process has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"waiting for another process to prepare {folder}", file=sys.stderr)
        lock.acquire()
    try:
        store = _open(folder, len(table), size, complain=True)
        if store is None:
            _build(folder, table, size, workers, progress)
            store = _open(folder, len(table), size, complain=False)
    finally:
        lock.release()
    assert store is not None
    return store


def _build(folder: Path, table: FaceTable, size: int, workers: int | None, progress: bool) -> None:
    """Build a store whose lock is held, under another name until it is complete."""
    part = folder.with_name(f"{folder.name}.part")
    _sweep(part)
    needed = _bytes(len(table), size)
    if shutil.disk_usage(folder.parent).free < needed:
        raise UserError(_full(folder.parent, needed))
    part.mkdir()
    try:
        fill_folder(part, table, size, workers, progress)
        if folder.exists():  # damaged, as _open found
            shutil.rmtree(folder)
        part.rename(folder)
        synchronize(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(part: Path) -> None:
    """Remove what killed preparations left behind, of this store and of all others."""
    shutil.rmtree(part, ignore_errors=True)
    for other in part.parent.glob("*.part"):
        with suppress(Timeout, OSError), _lock(other.with_suffix("")).acquire(timeout=0):
            shutil.rmtree(other, ignore_errors=True)


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))
