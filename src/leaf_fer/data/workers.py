"""Decoding on all cores.

Threads are no help with small faces: most of the time goes into Python, which runs one of them at
a time. The worker processes are plain children that talk through their pipes. Unlike those of
``multiprocessing`` they never import the caller's script, so notebooks and scripts without a
``__main__`` guard work, and nothing is forked while other threads run.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import UnreadableImage, cut, decode, fingerprint, lenient
from leaf_fer.errors import UserError


@dataclass(frozen=True)
class Chunk:
    """A few consecutive rows to decode, and where their pixels go.

    Attributes:
        paths: n image files.
        boxes: (n, 4) float32, or None.
        points: (n, 5, 2) float32, or None.
        size: pixels per side of a stored face.
        file: the file that the pixels are written into.
        offset: where in it the first of the rows begins, in bytes.
    """

    paths: list[Path]
    boxes: NDArray[np.float32] | None
    points: NDArray[np.float32] | None
    size: int
    file: Path
    offset: int


@dataclass(frozen=True)
class Filled:
    """What is known of the rows of a chunk besides their pixels.

    Attributes:
        hashes: (n, 16) uint8, fingerprints of the decoded images; zeros where unreadable.
        reasons: n strings, why an image is unreadable; empty for the others.
    """

    hashes: NDArray[np.uint8]
    reasons: list[str]


def fill(chunk: Chunk) -> Filled:
    """Decode a chunk in this process; unreadable images become black.

    Raises:
        OSError: the pixels cannot be written.
    """
    count = len(chunk.paths)
    images = np.zeros((count, chunk.size, chunk.size, 3), dtype=np.uint8)
    hashes = np.zeros((count, 16), dtype=np.uint8)
    reasons = [""] * count
    with lenient:
        for row, path in enumerate(chunk.paths):
            box = None if chunk.boxes is None else chunk.boxes[row]
            points = None if chunk.points is None else chunk.points[row]
            try:
                image = decode(path)
                images[row] = cut(image, chunk.size, box, points)
                hashes[row] = fingerprint(image)
            except UnreadableImage as error:
                reasons[row] = str(error)
    with chunk.file.open("r+b") as file:
        file.seek(chunk.offset)
        file.write(images.data)
    return Filled(hashes, reasons)


def fill_all(chunks: Iterable[Chunk], workers: int) -> Iterator[Filled]:
    """Decode chunks, yielding in their order; in this process if there is one worker only.

    Closing the iterator early, as an exception does, stops the workers.

    Raises:
        OSError: the pixels cannot be written.
        UserError: a worker died.
    """
    if workers == 1:
        yield from map(fill, chunks)
        return
    processes: list[subprocess.Popen[bytes]] = []
    pool = ThreadPoolExecutor(workers)  # its threads only wait for answers
    try:
        idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for _ in range(workers):
            processes.append(_start())
            idle.put(processes[-1])
        yield from pool.map(partial(_ask, idle), chunks)
    finally:
        for process in processes:
            process.kill()
        pool.shutdown(cancel_futures=True)
        for process in processes:
            process.communicate()


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", "from leaf_fer.data.workers import serve; serve()"]
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": path}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _ask(idle: SimpleQueue[subprocess.Popen[bytes]], chunk: Chunk) -> Filled:
    process = idle.get()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(chunk, process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        raise UserError(
            "workers: a process died while it decoded images, perhaps for lack of memory; "
            "try again with fewer, workers=1 to use none"
        ) from error
    finally:
        idle.put(process)
    if isinstance(answer, OSError):
        raise answer
    assert isinstance(answer, Filled)
    return answer


def serve() -> None:
    """Run a worker: decode the chunks that arrive on stdin until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    with suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):
        while True:
            chunk = pickle.load(sys.stdin.buffer)
            try:
                answer: Filled | OSError = fill(chunk)
            except OSError as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    os._exit(0)  # the parent is gone: an orderly exit would complain about the broken pipe
