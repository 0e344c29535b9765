import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import PATIENCE

from leaf_fer.data import preparation, store, workers
from leaf_fer.data.decode import decode, fingerprint, resize
from leaf_fer.data.sources import read_faces
from leaf_fer.data.store import default_cache, prepare
from leaf_fer.data.table import FaceTable
from leaf_fer.errors import UserError

Disk = namedtuple("Disk", "total used free")

DRAWN = """
import os, sys, time
from pathlib import Path
import numpy as np
from leaf_fer.data.store import prepare
from leaf_fer.data.table import FaceTable

cache, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def render(rows, size):
    with log.open("a") as file:
        file.write(f"{rows[0]}\\n")
    time.sleep(seconds)
    return np.full((len(rows), size, size, 3), 7, dtype=np.uint8)

count = 1200
names = [f"{row}" for row in range(count)]
zeros = np.zeros(count, dtype=np.int64)
table = FaceTable(("a",), names, zeros, zeros.astype(np.uint8), render=render, key="drawn")
made = prepare(table, 4, cache=cache)
assert made.images.shape == (count, 4, 4, 3) and (made.images == 7).all() and made.valid.all()
"""


def table_of(root: Path, names: list[str], **rest: object) -> FaceTable:
    zeros = np.zeros(len(names), dtype=np.int64)
    return FaceTable(("a", "b"), names, zeros, zeros.astype(np.uint8), root=root, **rest)


def faces(root: Path, count: int = 5, size: int = 8, suffix: str = "png") -> FaceTable:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{row:04d}.{suffix}" for row in range(count)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(root / name)
    return table_of(root, names)


def drawn(count: int = 5, key: str = "drawn", calls: list[int] | None = None) -> FaceTable:
    def render(rows, size):
        if calls is not None:
            calls.append(len(rows))
        return np.broadcast_to(
            (rows % 256).astype(np.uint8)[:, None, None, None], (len(rows), size, size, 3)
        )

    zeros = np.zeros(count, dtype=np.int64)
    names = [f"{row}" for row in range(count)]
    return FaceTable(("a",), names, zeros, zeros.astype(np.uint8), render=render, key=key)


def about(made: store.Store) -> dict[str, object]:
    return json.loads((made.folder / "store.json").read_text())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(ready) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch):
    """A function that forbids decoding from when it is called."""

    def forbid(*_: object) -> None:
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(store, "fill_folder", forbid)


def test_rows_of_the_store_are_rows_of_the_table(tmp_path, cache):
    table = faces(tmp_path / "faces", size=8)
    made = prepare(table, 8, cache=cache)
    for row, name in enumerate(table.names):
        np.testing.assert_array_equal(made.images[row], decode(tmp_path / "faces" / name))


def test_images_are_resized(tmp_path, cache):
    table = faces(tmp_path / "faces", size=20)
    made = prepare(table, 6, cache=cache)
    expected = resize(decode(tmp_path / "faces" / table.names[2]), 6)
    np.testing.assert_array_equal(made.images[2], expected)


def test_images_and_hashes_are_mapped_and_read_only(tmp_path, cache):
    made = prepare(faces(tmp_path / "faces"), 8, cache=cache)
    for mapped in (made.images, made.hashes):
        assert isinstance(mapped, np.memmap)
        assert not mapped.flags.writeable


def test_gather_copies_rows_in_the_order_asked_for(tmp_path, cache):
    made = prepare(faces(tmp_path / "faces"), 8, cache=cache)
    rows = made.gather(np.array([3, 0, 3]))
    np.testing.assert_array_equal(rows, np.stack([made.images[row] for row in (3, 0, 3)]))
    assert type(rows) is np.ndarray
    assert rows.flags.writeable


def test_hashes_are_fingerprints_at_the_original_size(tmp_path, cache):
    table = faces(tmp_path / "faces", size=20)
    made = prepare(table, 6, cache=cache)
    expected = fingerprint(decode(tmp_path / "faces" / table.names[1]))
    np.testing.assert_array_equal(made.hashes[1], expected)


def test_the_same_pixels_in_png_and_bmp_have_equal_hashes(tmp_path, cache):
    png = prepare(faces(tmp_path / "png", suffix="png"), 8, cache=cache)
    bmp = prepare(faces(tmp_path / "bmp", suffix="bmp"), 8, cache=cache)
    np.testing.assert_array_equal(png.hashes, bmp.hashes)


def test_different_pixels_have_different_hashes(tmp_path, cache):
    made = prepare(faces(tmp_path / "faces", count=20), 8, cache=cache)
    assert len(np.unique(made.hashes, axis=0)) == 20


def test_faces_are_cut_out_by_their_boxes(tmp_path, cache):
    table = faces(tmp_path / "faces", size=20)
    boxes = np.tile(np.array([2, 4, 8, 10], dtype=np.float32), (5, 1))
    made = prepare(table_of(table.root, table.names, boxes=boxes), 6, cache=cache)
    expected = decode(tmp_path / "faces" / table.names[4])[4:10, 2:8]
    np.testing.assert_array_equal(made.images[4], expected)


def test_faces_are_aligned_by_their_points(tmp_path, cache):
    alignment = pytest.importorskip("leaf_fer.data.alignment")
    table = faces(tmp_path / "faces", size=28)
    points = np.tile((alignment.TEMPLATE / 4).astype(np.float32), (5, 1, 1))
    made = prepare(table_of(table.root, table.names, points=points), 28, cache=cache)
    expected = decode(tmp_path / "faces" / table.names[0])
    np.testing.assert_allclose(made.images[0], expected, atol=1)


def test_drawn_faces_are_stored(cache):
    made = prepare(drawn(1200), 4, cache=cache)
    np.testing.assert_array_equal(made.images[:, 2, 2, 1], np.arange(1200) % 256)


def test_drawn_faces_are_drawn_in_chunks(cache):
    calls: list[int] = []
    prepare(drawn(1200, calls=calls), 4, cache=cache)
    assert calls == [512, 512, 176]


def test_faces_drawn_by_several_processes_are_those_drawn_by_one(cache):
    table = read_faces("synthetic:600")
    alone = prepare(table, 32, cache=cache / "alone", workers=1)
    shared = prepare(table, 32, cache=cache / "shared", workers=3)
    assert [about(made)["processes"] for made in (alone, shared)] == [1, 3]
    for name in ("images.npy", "hashes.npy", "valid.npy", "quarantine.csv"):
        assert (alone.folder / name).read_bytes() == (shared.folder / name).read_bytes()
    np.testing.assert_array_equal(shared.images[2990:], table.render(np.arange(2990, 3000), 32))


def test_many_faces_are_drawn_by_several_processes_unless_told_otherwise(cache, monkeypatch):
    monkeypatch.setattr(preparation, "_cores", lambda: 2)
    made = prepare(read_faces("synthetic:1"), 32, cache=cache)
    assert about(made)["processes"] == 2


def test_a_local_function_draws_in_the_process_that_has_it(cache):
    made = prepare(drawn(1200), 4, cache=cache, workers=2)
    assert about(made)["processes"] == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_size_in_which_faces_cannot_be_drawn_is_told(cache, processes):
    with pytest.raises(UserError, match="size of synthetic faces: expected 32 to 224, got 16"):
        prepare(read_faces("synthetic:1"), 16, cache=cache, workers=processes)


def test_drawn_faces_are_hashed_by_their_pixels(cache):
    made = prepare(drawn(257), 4, cache=cache)
    np.testing.assert_array_equal(made.hashes[0], made.hashes[256])
    assert (made.hashes[0] != made.hashes[1]).any()


def test_another_key_of_drawn_faces_is_another_store(cache):
    first, second = (prepare(drawn(key=key), 4, cache=cache) for key in ("one", "two"))
    assert first.folder != second.folder


def test_worker_processes_store_what_one_process_stores(tmp_path, cache):
    table = faces(tmp_path / "faces", count=70, size=12)
    (tmp_path / "faces" / "0013.png").write_bytes(b"no image")
    alone = prepare(table, 12, cache=cache / "alone", workers=1)
    shared = prepare(table, 12, cache=cache / "shared", workers=2)
    np.testing.assert_array_equal(alone.images, shared.images)
    np.testing.assert_array_equal(alone.hashes, shared.hashes)
    assert alone.quarantine == shared.quarantine == [("0013.png", "is not an image")]


def test_chunks_of_several_workers_land_in_their_rows(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK_ROWS", 7)
    table = faces(tmp_path / "faces", count=60)
    made = prepare(table, 8, cache=cache, workers=3)
    expected = [decode(tmp_path / "faces" / name) for name in table.names]
    np.testing.assert_array_equal(made.images, np.stack(expected))


def test_only_a_few_chunks_per_worker_are_made_in_advance(tmp_path):
    photos, made = workers.Photos([tmp_path / "none.png"]), []
    (tmp_path / "images.npy").touch()

    def chunks():
        for row in range(100):
            made.append(row)
            yield workers.Chunk(photos, 2, tmp_path / "images.npy", 12 * row)

    filled = workers.fill_all(chunks(), 2)
    next(filled)
    assert len(made) <= 2 * workers.AHEAD
    assert len(list(filled)) == 99


def test_a_script_without_a_main_guard_may_use_workers(tmp_path, cache):
    faces(tmp_path / "faces", count=30)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from leaf_fer.data.store import prepare\n"
        "from leaf_fer.data.table import FaceTable\n"
        f"root = Path({str(tmp_path / 'faces')!r})\n"
        "names = sorted(path.name for path in root.iterdir())\n"
        "zeros = np.zeros(30, dtype=np.int64)\n"
        "table = FaceTable(('a',), names, zeros, zeros.astype(np.uint8), root=root)\n"
        f"prepare(table, 8, cache=Path({str(cache)!r}), workers=2)\n"
    )
    process = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    assert process.communicate()[1] == ""
    assert process.returncode == 0


def test_a_worker_that_dies_is_reported_and_leaves_nothing(tmp_path, cache, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.stdin.buffer.read(9)"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    monkeypatch.setattr(workers, "_start", lambda: subprocess.Popen(command, **pipes))
    with pytest.raises(UserError, match="workers: a process died"):
        prepare(faces(tmp_path / "faces"), 8, cache=cache, workers=2)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_second_start_decodes_nothing(tmp_path, cache, no_decoding):
    table = faces(tmp_path / "faces")
    first = prepare(table, 8, cache=cache)
    no_decoding()
    second = prepare(table, 8, cache=cache)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.hashes, second.hashes)
    np.testing.assert_array_equal(first.valid, second.valid)


def test_a_second_start_reads_the_quarantine_again(tmp_path, cache, no_decoding):
    table = faces(tmp_path / "faces")
    (tmp_path / "faces" / table.names[1]).write_bytes(b"")
    first = prepare(table, 8, cache=cache)
    no_decoding()
    assert (
        prepare(table, 8, cache=cache).quarantine == first.quarantine == [("0001.png", "is empty")]
    )


def test_a_folder_of_faces_may_move(tmp_path, cache, no_decoding):
    table = faces(tmp_path / "old" / "faces")
    prepare(table, 8, cache=cache)
    no_decoding()
    (tmp_path / "old").rename(tmp_path / "new")
    prepare(table_of(tmp_path / "new" / "faces", table.names), 8, cache=cache)


def test_a_store_opens_in_a_cache_that_cannot_be_written(tmp_path, cache, monkeypatch):
    table = faces(tmp_path / "faces")
    prepare(table, 8, cache=cache)

    def denied(*_: object) -> None:
        raise AssertionError("locked for reading")

    monkeypatch.setattr(store, "FileLock", denied)
    prepare(table, 8, cache=cache)


def test_another_size_is_another_store(tmp_path, cache):
    table = faces(tmp_path / "faces")
    assert prepare(table, 8, cache=cache).folder != prepare(table, 9, cache=cache).folder


def test_other_boxes_are_another_store(tmp_path, cache):
    table = faces(tmp_path / "faces")
    boxed = table_of(table.root, table.names, boxes=np.float32([[0, 0, 4, 4]] * 5))
    assert prepare(table, 8, cache=cache).folder != prepare(boxed, 8, cache=cache).folder


def test_another_order_is_another_store(tmp_path, cache):
    table = faces(tmp_path / "faces")
    turned = table_of(table.root, table.names[::-1])
    assert prepare(table, 8, cache=cache).folder != prepare(turned, 8, cache=cache).folder


def test_a_changed_file_is_decoded(tmp_path, cache):
    table = faces(tmp_path / "faces")
    first = prepare(table, 8, cache=cache)
    changed = tmp_path / "faces" / table.names[0]
    Image.new("RGB", (8, 8), (9, 9, 9)).save(changed)
    second = prepare(table, 8, cache=cache)
    assert first.folder != second.folder
    assert (second.images[0] == 9).all()


def test_a_file_that_appears_is_decoded(tmp_path, cache):
    table = faces(tmp_path / "faces")
    content = (tmp_path / "faces" / table.names[0]).read_bytes()
    (tmp_path / "faces" / table.names[0]).unlink()
    assert not prepare(table, 8, cache=cache).valid[0]
    (tmp_path / "faces" / table.names[0]).write_bytes(content)
    assert prepare(table, 8, cache=cache).valid[0]


def test_a_file_that_may_be_read_at_last_is_decoded(tmp_path, cache):
    table = faces(tmp_path / "faces")
    (tmp_path / "faces" / table.names[0]).chmod(0)
    first = prepare(table, 8, cache=cache)
    (tmp_path / "faces" / table.names[0]).chmod(0o644)
    assert prepare(table, 8, cache=cache).folder != first.folder


def test_the_folder_is_named_after_the_data_set_and_the_size(tmp_path, cache):
    made = prepare(faces(tmp_path / "My Faces (2)"), 8, cache=cache)
    slug, size, key = made.folder.name.rsplit("-", 2)
    assert (slug, size) == ("my-faces-2", "8px")
    assert len(key) == 16


def test_unreadable_images_are_black_invalid_and_listed(tmp_path, cache, capsys):
    table = faces(tmp_path / "faces")
    (tmp_path / "faces" / "0001.png").write_bytes(b"")
    (tmp_path / "faces" / "0003.png").unlink()
    made = prepare(table, 8, cache=cache)
    assert made.valid.tolist() == [True, False, True, False, True]
    assert not made.images[[1, 3]].any()
    assert not made.hashes[[1, 3]].any()
    with (made.folder / "quarantine.csv").open(newline="") as file:
        listed = list(csv.reader(file))
    assert listed == [["name", "reason"], ["0001.png", "is empty"], ["0003.png", "does not exist"]]


def test_the_user_is_told_how_many_images_are_unreadable(tmp_path, cache, capsys):
    table = faces(tmp_path / "faces")
    (tmp_path / "faces" / "0001.png").write_bytes(b"")
    made = prepare(table, 8, cache=cache)
    told = f"1 of 5 images cannot be read; see {made.folder / 'quarantine.csv'}\n"
    assert capsys.readouterr().err == told


def test_nothing_is_said_where_all_is_well(tmp_path, cache, capsys):
    made = prepare(faces(tmp_path / "faces"), 8, cache=cache)
    assert (made.folder / "quarantine.csv").read_text().split() == ["name,reason"]
    assert capsys.readouterr() == ("", "")


def test_names_of_any_characters_can_be_quarantined(tmp_path, cache, no_decoding):
    table = faces(tmp_path / "faces")
    odd = ['a,"b"\n.png', "\udcff.png", "ü é.png"]
    table = table_of(table.root, [*table.names, *odd])
    made = prepare(table, 8, cache=cache)
    no_decoding()
    assert prepare(table, 8, cache=cache).quarantine == made.quarantine
    assert [name for name, _ in made.quarantine] == odd


def test_a_box_outside_its_image_is_quarantined(tmp_path, cache):
    table = faces(tmp_path / "faces")
    boxes = np.float32([[0, 0, 8, 8]] * 4 + [[20, 20, 30, 30]])
    made = prepare(table_of(table.root, table.names, boxes=boxes), 8, cache=cache)
    assert made.quarantine == [
        ("0004.png", "is 8 x 8 pixels, none inside its box (20, 20, 30, 30)")
    ]


def test_only_unreadable_images_are_an_error_and_not_stored(tmp_path, cache):
    (tmp_path / "faces").mkdir()
    with pytest.raises(UserError, match=r"none of the 2 images .* a.png, does not exist"):
        prepare(table_of(tmp_path / "faces", ["a.png", "b.png"]), 8, cache=cache)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_no_images_are_an_error(tmp_path, cache):
    with pytest.raises(UserError, match="at least one image"):
        prepare(table_of(tmp_path, []), 8, cache=cache)


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 8, "workers": 0}])
def test_options_out_of_range_are_errors(tmp_path, cache, options):
    with pytest.raises(UserError, match="expected at least 1"):
        prepare(faces(tmp_path / "faces"), cache=cache, **options)


def test_the_record_tells_count_size_and_rate(tmp_path, cache):
    made = prepare(faces(tmp_path / "faces"), 8, cache=cache)
    found = about(made)
    assert (found["count"], found["size"], found["processes"]) == (5, 8, 1)
    assert found["images_per_second"] > 0
    assert made.folder.name.endswith(found["key"])


def test_a_preparation_that_took_long_tells_its_rate(tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr(preparation, "SLOW", -1)
    prepare(faces(tmp_path / "faces"), 8, cache=cache, workers=2)
    assert re.fullmatch(
        r"prepared 5 images in \d+ s \(\d+/s, 2 processes\)\n", capsys.readouterr().err
    )
    prepare(faces(tmp_path / "faces"), 9, cache=cache, progress=False)
    assert capsys.readouterr().err == ""


def test_the_key_of_a_store_never_changes(tmp_path):
    # If this fails, all that anybody has prepared is prepared once more.
    names = ["a b.png", "\xe9'.png", "gone.png"]
    for name in names[:2]:
        (tmp_path / name).write_bytes(b"123")
        (tmp_path / name).chmod(0o644)
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    boxes = np.float32([[0, 0, 4, 4]] * 3)
    assert store._key(table_of(tmp_path, names, boxes=boxes), 8) == "dbfba04a7b6433d4"
    assert store._key(read_faces("synthetic:100"), 48) == "7f866685f9a49bbf"


@pytest.mark.parametrize("name", ["images.npy", "hashes.npy", "valid.npy", "quarantine.csv"])
def test_a_truncated_file_of_the_store_is_made_again(tmp_path, cache, capsys, name):
    table = faces(tmp_path / "faces")
    first = prepare(table, 8, cache=cache)
    expected = first.images.copy()
    os.truncate(first.folder / name, 9)
    np.testing.assert_array_equal(prepare(table, 8, cache=cache).images, expected)
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 0}'])
def test_a_store_without_its_record_is_made_again(tmp_path, cache, capsys, content):
    table = faces(tmp_path / "faces")
    folder = prepare(table, 8, cache=cache).folder
    (folder / "store.json").write_text(content)
    prepare(table, 8, cache=cache)
    assert capsys.readouterr().err.count("is damaged") == 1
    prepare(table, 8, cache=cache)
    assert capsys.readouterr().err == ""


def test_two_processes_at_once_make_one_store(tmp_path, cache):
    log = tmp_path / "log"
    processes = [python(DRAWN, cache, log, 0.3) for _ in range(2)]
    told = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert log.read_text().split() == ["0", "512", "1024"]
    assert sum("waiting for another process" in text for text in told) == 1


def test_a_killed_preparation_leaves_nothing_behind_for_the_next(tmp_path, cache):
    log = tmp_path / "log"
    process = python(DRAWN, cache, log, 60)
    wait_until(lambda: log.exists() and log.read_text())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(cache.glob("*.part"))
    again = python(DRAWN, cache, tmp_path / "second", 0)
    assert again.communicate(timeout=PATIENCE)[1] == ""
    assert again.returncode == 0
    assert not list(cache.glob("*.part"))


def test_what_a_killed_preparation_left_is_removed_by_any_other(tmp_path, cache):
    leftover = cache / "other-8px-0123456789abcdef.part"
    leftover.mkdir(parents=True)
    (leftover / "images.npy").write_bytes(b"half")
    prepare(faces(tmp_path / "faces"), 8, cache=cache)
    assert not leftover.exists()


def test_what_another_process_is_preparing_is_left_alone(tmp_path, cache):
    log = tmp_path / "log"
    process = python(DRAWN, cache, log, 0.3)
    wait_until(lambda: log.exists() and log.read_text())
    prepare(faces(tmp_path / "faces"), 8, cache=cache)
    assert process.communicate(timeout=PATIENCE)[1] == ""
    assert process.returncode == 0


def test_an_interrupt_leaves_nothing(cache):
    def render(rows, size):
        raise KeyboardInterrupt

    zeros = np.zeros(3, dtype=np.int64)
    table = FaceTable(("a",), list("abc"), zeros, zeros.astype(np.uint8), render=render, key="k")
    with pytest.raises(KeyboardInterrupt):
        prepare(table, 4, cache=cache)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_too_small_a_disk_is_an_error_before_decoding(tmp_path, cache, monkeypatch, no_decoding):
    no_decoding()
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: Disk(10**9, 10**9, 3 * 2**20))
    message = r"cache: 41.3 MiB are needed in .*, 3.0 MiB are free; LEAF_CACHE"
    with pytest.raises(UserError, match=message):
        prepare(faces(tmp_path / "faces", size=4), 1700, cache=cache)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up_is_an_error_that_leaves_nothing(
    tmp_path, cache, monkeypatch, workers
):
    def allocate(path: Path, shape: tuple[int, ...]) -> int:
        path.symlink_to("/dev/full")
        return 128

    monkeypatch.setattr(preparation, "_allocate", allocate)
    with pytest.raises(UserError, match=r"cache: .* are needed .* LEAF_CACHE"):
        prepare(faces(tmp_path / "faces"), 8, cache=cache, workers=workers)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_write_error_of_a_worker_reaches_the_caller(tmp_path):
    photos = workers.Photos([tmp_path / "a.png"])
    chunk = workers.Chunk(photos, 4, tmp_path / "none" / "images.npy", 0)
    with pytest.raises(FileNotFoundError):
        list(workers.fill_all([chunk], 2))


def test_a_cache_that_is_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cache: cannot write in .* LEAF_CACHE"):
        prepare(faces(tmp_path / "faces"), 8, cache=tmp_path / "file" / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, cache):
    cache.mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"cache: cannot write in .* LEAF_CACHE"):
        prepare(faces(tmp_path / "faces"), 8, cache=cache)


def test_the_cache_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LEAF_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("LEAF_CACHE")
    assert default_cache() == tmp_path / "xdg" / "leaf-fer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "leaf-fer"


def test_the_store_needs_no_torch():
    code = "import sys, leaf_fer.data.store; assert 'torch' not in sys.modules"
    process = python(code)
    assert process.communicate() == (None, "")
    assert process.returncode == 0
