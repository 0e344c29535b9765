"""Decoding and drawing on all cores.

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
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from leaf_fer.data.decode import UnreadableImage, cut, decode, fingerprint, lenient
from leaf_fer.errors import UserError

Pixels = NDArray[np.uint8]
"""(n, size, size, 3)."""

AHEAD = 4
"""Chunks per worker that are handed out before the first of them is taken back."""


@dataclass(frozen=True)
class Filled:
    """What is known of the rows of a chunk besides their pixels.

    Attributes:
        hashes: (n, 16) uint8, fingerprints of the whole images; zeros where unreadable.
        reasons: n strings, why an image is unreadable; empty for the others.
    """

    hashes: NDArray[np.uint8]
    reasons: list[str]


@dataclass(frozen=True)
class Photos:
    """Faces in image files.

    Attributes:
        paths: n image files.
        boxes: (n, 4) float32, or None.
        points: (n, 5, 2) float32, or None.
    """

    paths: list[Path]
    boxes: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None

    def look(self, size: int) -> tuple[Pixels, Filled]:
        """Decode them; unreadable images become black."""
        count = len(self.paths)
        images = np.zeros((count, size, size, 3), dtype=np.uint8)
        hashes = np.zeros((count, 16), dtype=np.uint8)
        reasons = [""] * count
        with lenient:
            for row, path in enumerate(self.paths):
                box = None if self.boxes is None else self.boxes[row]
                points = None if self.points is None else self.points[row]
                try:
                    image = decode(path)
                    images[row] = cut(image, size, box, points)
                    hashes[row] = fingerprint(image)
                except UnreadableImage as error:
                    reasons[row] = str(error)
        return images, Filled(hashes, reasons)


@dataclass(frozen=True)
class Drawings:
    """Faces that are drawn.

    Attributes:
        render: see :class:`~leaf_fer.data.table.FaceTable`.
        rows: (n,) int64, which faces.
    """

    render: Callable[[NDArray[np.int64], int], Pixels]
    rows: NDArray[np.int64]

    def look(self, size: int) -> tuple[Pixels, Filled]:
        """Draw them."""
        images = np.ascontiguousarray(self.render(self.rows, size))
        hashes = np.stack([fingerprint(image) for image in images])
        return images, Filled(hashes, [""] * len(images))


@dataclass(frozen=True)
class Chunk:
    """A few consecutive rows, and where their pixels go.

    Attributes:
        faces: what the rows show.
        size: pixels per side of a stored face.
        file: the file that the pixels are written into.
        offset: where in it the first of the rows begins, in bytes.
    """

    faces: Photos | Drawings
    size: int
    file: Path
    offset: int


def travels(render: object) -> bool:
    """Whether a worker process can have a function: it imports modules, but not the script."""
    try:
        return b"__main__" not in pickle.dumps(render)
    except (AttributeError, TypeError, pickle.PicklingError):
        return False


def fill(chunk: Chunk) -> Filled:
    """Decode or draw a chunk in this process.

    Raises:
        OSError: the pixels cannot be written.
        UserError: the faces cannot be drawn in this size.
    """
    images, filled = chunk.faces.look(chunk.size)
    with chunk.file.open("r+b") as file:
        file.seek(chunk.offset)
        file.write(images.data)
    return filled


def fill_all(chunks: Iterable[Chunk], workers: int) -> Generator[Filled]:
    """Fill chunks, yielding in their order; in this process if there is one worker only.

    Closing the iterator early, as an exception does, stops the workers. Of the chunks only a few
    per worker are in memory at any time.

    Raises:
        OSError: the pixels cannot be written.
        UserError: the faces cannot be drawn in this size, or a worker died.
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
        waiting: deque[Future[Filled]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_ask, idle, chunk))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
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
            "workers: a process died while it prepared images, perhaps for lack of memory; "
            "try again with fewer, workers=1 to use none"
        ) from error
    finally:
        idle.put(process)
    if isinstance(answer, OSError | UserError):
        raise answer
    assert isinstance(answer, Filled)
    return answer


def serve() -> None:
    """Run a worker: fill the chunks that arrive on stdin until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    with suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):
        while True:
            chunk = pickle.load(sys.stdin.buffer)
            try:
                answer: Filled | OSError | UserError = fill(chunk)
            except (OSError, UserError) as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    os._exit(0)  # the parent is gone: an orderly exit would complain about the broken pipe
