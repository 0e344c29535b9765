import io
from itertools import cycle

import numpy as np
import pytest
from PIL import Image

from leaf_fer.data.decode import UnreadableImage
from leaf_fer.errors import UserError
from leaf_fer.labeling.journal import Conflict
from leaf_fer.labeling.order import Random, Useful

from .conftest import CLASSES, A, B, C, draw


def first(offered):
    return offered["faces"][0]


def go(desk, tab, count=1, kind="label"):
    """Answer some faces as they come; their numbers."""
    faces = []
    for _ in range(count):
        shown = first(desk.offer(tab))
        choice = shown["face"] % len(CLASSES) if kind == "label" else None
        desk.answer(tab, shown["face"], kind, choice, shown["over"])
        faces.append(shown["face"])
    return faces


def test_a_tab_gets_the_face_to_show_and_the_next(open_desk):
    desk = open_desk()
    one, two = desk.offer(A)["faces"]
    assert one["over"] == two["over"] == 0
    desk.answer(A, one["face"], "skip", None, 0)
    assert first(desk.offer(A, [two["face"]])) == two


def test_a_tab_keeps_what_it_shows(open_desk):
    desk = open_desk()
    wanted = [one["face"] for one in desk.offer(A)["faces"]]
    assert [one["face"] for one in desk.offer(A, wanted)["faces"]] == wanted
    assert [one["face"] for one in desk.offer(A, wanted[::-1])["faces"]] == wanted[::-1]


def test_tabs_that_take_turns_never_get_the_same_face(open_desk, tmp_path):
    desks = [open_desk(), open_desk()]  # two programs over the same journal
    shown = {A: set(), B: set(), C: set()}
    for tab, desk in zip(cycle((A, B, C)), cycle(desks), strict=False):
        faces = desk.offer(tab)["faces"]
        if not faces:
            break
        shown[tab] |= {one["face"] for one in faces}
        desk.answer(tab, faces[0]["face"], "label", 0, 0)
    everything = sorted(face for faces in shown.values() for face in faces)
    assert everything == list(range(1, 13))


def test_a_face_that_two_people_answer_has_the_first_answer(open_desk):
    desk = open_desk()
    shown = first(desk.offer(A))
    desk.journal.leave(A)
    desk.answer(B, shown["face"], "label", 1, 0)
    with pytest.raises(Conflict):
        desk.answer(A, shown["face"], "label", 2, 0)
    assert desk.progress(A)["counts"] == [0, 1, 0]


def test_a_reload_gets_the_same_faces(open_desk):
    desk = open_desk()
    go(desk, A, 3)
    faces = [one["face"] for one in desk.offer(A)["faces"]]
    desk.journal.leave(A)
    assert [one["face"] for one in desk.offer(B, faces)["faces"]] == faces


def test_progress_counts_what_holds(open_desk):
    desk = open_desk()
    go(desk, A, 4)
    go(desk, A, 2, "skip")
    go(desk, A, 1, "reject")
    progress = desk.progress(A)
    assert sum(progress["counts"]) == progress["labeled"] == 4
    assert (progress["skipped"], progress["rejected"], progress["left"]) == (2, 1, 5)
    assert progress["undo"]


def test_undo_shows_the_face_again(open_desk):
    desk = open_desk()
    assert desk.undo(A) | {"progress": None} == {"undone": None, "face": None, "progress": None}
    (face,) = go(desk, A)
    undone = desk.undo(A)
    assert undone["undone"] == CLASSES[face % 3]
    assert undone["face"] == {"face": face, "over": 0}
    assert undone["progress"]["labeled"] == 0
    assert first(desk.offer(A, [face]))["face"] == face


def test_skipped_faces_come_again_when_asked_for_and_no_other_is_left(open_desk):
    desk = open_desk()
    skipped = go(desk, A, 2, "skip")
    go(desk, A, 9)
    assert len(desk.offer(A)["faces"]) == 1
    assert [one["face"] for one in desk.offer(A, again=True)["faces"]][1] == skipped[0]
    go(desk, A)
    assert desk.offer(A)["faces"] == []
    again = desk.offer(A, again=True)["faces"]
    assert [one["face"] for one in again] == skipped
    desk.answer(A, skipped[0], "label", 1, again[0]["over"])
    assert desk.progress(A)["skipped"] == 1
    assert [one["face"] for one in desk.offer(A, again=True)["faces"]] == skipped[1:]


def test_faces_that_cannot_be_read_are_not_shown(open_desk):
    valid = np.arange(12) % 3 != 0
    desk = open_desk(valid=valid)
    assert desk.progress(A)["left"] == 8
    go(desk, A, 8)
    assert desk.offer(A)["faces"] == []


def test_labels_by_folder_count_and_teach(open_desk, folder):
    for name in CLASSES:
        draw(folder / name, 3)

    class Watching(Random):
        def next(self, free, rows, targets, seen):
            self.taught = list(zip(rows.tolist(), targets.tolist(), strict=True))
            return super().next(free, rows, targets, seen)

    order = Watching(21, 0)
    desk = open_desk(order)
    assert desk.progress(A)["counts"] == [3, 3, 3]
    assert desk.progress(A)["left"] == 12
    (face,) = go(desk, A)
    desk.offer(A)
    names = desk.faces.table.names
    taught = [(names[row], CLASSES[target]) for row, target in order.taught]
    assert taught[:3] == [(f"calm/{n:02}.png", "calm") for n in range(3)]
    assert len(taught) == 10
    assert taught[-1] == (names[desk._rows[face]], CLASSES[face % 3])


def test_a_desk_that_was_left_goes_on_as_if_it_had_not_been(open_desk):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 5)).astype(np.float32)

    def order():
        return Useful(features, np.arange(12), len(CLASSES), seed=0)

    desk = open_desk(order())
    go(desk, A, 7)
    expected = first(desk.offer(A))
    desk.journal.leave(A)
    desk.journal.close()
    assert first(open_desk(order()).offer(B)) == expected


def test_new_files_change_no_answer(open_desk, folder):
    desk = open_desk()
    faces = go(desk, A, 5)
    said = {desk.faces.table.names[desk._rows[face]]: face % 3 for face in faces}
    draw(folder / "unlabeled", 2)
    (folder / "11.png").rename(folder / "0.png")
    desk = open_desk()
    found = {
        desk.faces.table.names[desk._rows[face]]: CLASSES.index(answer.label)
        for face, answer in desk._answers().items()
    }
    assert found == {name: choice for name, choice in said.items() if name != "11.png"}


@pytest.mark.parametrize(
    ("face", "kind", "choice"),
    [(99, "label", 0), (1, "label", 3), (1, "label", None), (1, "skip", 1), (1, "label", -1)],
)
def test_answers_that_cannot_be_are_refused(open_desk, face, kind, choice):
    desk = open_desk()
    with pytest.raises(UserError, match="no such"):
        desk.answer(A, face, kind, choice, 0)
    assert desk.progress(A)["left"] == 12


class TestPicture:
    def test_small_ones_keep_every_pixel(self, open_desk, folder):
        desk = open_desk()
        face = desk._numbers[3]
        with (
            Image.open(io.BytesIO(desk.picture(face))) as image,
            Image.open(folder / "03.png") as file,
        ):
            assert np.array_equal(np.asarray(image), np.asarray(file))

    def test_large_ones_are_made_smaller_in_their_shape(self, open_desk, folder):
        Image.new("RGB", (3000, 1500), "red").save(folder / "03.png")
        desk = open_desk()
        content = desk.picture(desk._numbers[3])
        with Image.open(io.BytesIO(content)) as image:
            assert (image.size, image.format) == ((1024, 512), "JPEG")

    def test_one_that_is_gone_says_so(self, open_desk, folder):
        desk = open_desk()
        (folder / "03.png").unlink()
        with pytest.raises(UnreadableImage, match="does not exist"):
            desk.picture(desk._numbers[3])
