"""The page as people use it, in a real browser."""

import sqlite3

import numpy as np
import pytest
from tests.browser import CHROMIUM, Browser

from leaf_fer import cli
from leaf_fer.data import folder as folders
from leaf_fer.data.saved import read_chosen, with_classes

from .conftest import draw

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

LABELING = (
    "typeof shown !== 'undefined' && progress && !busy && !syncing && (visible || broken || !shown)"
)
"""Whether a face can be answered, or none is left."""
WORDS = ["--classes", "glad,grim,calm", "--order", "random", "--goal", "2"]
NARROW = {"width": 320, "height": 568, "touch": True}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(browser, folder, start):
    """A page of 12 faces."""
    tab = browser.open(start(folder, *WORDS).address, LABELING)
    yield tab
    assert tab.problems == []


def said(folder):
    """What holds, by the name of the face, as another program finds it."""
    base = sqlite3.connect(folder / ".leaf" / "labels.sqlite")
    events = base.execute(
        "SELECT events.id, name, kind, label, undoes FROM events JOIN faces ON face = faces.id"
    ).fetchall()
    base.close()
    undone = {undoes for *_, undoes in events}
    return {
        name: label or kind
        for event, name, kind, label, _ in events
        if kind != "undo" and event not in undone
    }


def test_a_folder_is_labeled_by_keyboard_and_trained_on(page, folder, tmp_path, monkeypatch):
    faces = [page.label(key) for key in "12xs"]
    assert len(set(faces)) == 4
    page.js("(queue.reverse(), show())")  # which is not what would come next
    page.ready()
    shown = page.js("shown.face")
    page.reload()
    assert page.js("shown.face") == shown  # the same face as before
    assert page.text("#totals") == "2 labeled · 8 to go"
    page.key("u")  # undoes what was said before the reload
    page.until("shown?.face === " + str(faces[3]))
    page.label("2")
    for key in "1212121":
        page.label(key)
    page.ready()
    page.label("3")
    page.until("document.querySelector('#done').open")
    assert page.text("#done-title") == "All faces have an answer"
    assert "11 faces labeled, 1 not a face" in page.text("#done-text")
    page.key("Enter")  # the button to write has the focus
    page.until("!document.querySelector('#written').hidden")
    assert page.text("#train") == f"leaf train {folder} --labels {folder}/labels.csv"
    assert "--with-unlabeled" in page.text("#whole")

    file = folder / "labels.csv"
    table = with_classes(folders.read(folder), file)
    rows, targets = read_chosen(file, table, np.zeros((len(table), 16), np.uint8))
    labels = {table.names[r]: table.classes[t] for r, t in zip(rows, targets, strict=True)}
    expected = said(folder)
    assert labels == {name: label for name, label in expected.items() if label != "reject"}
    assert sorted(expected.values()) == [
        *["calm"],
        *["glad"] * 5,
        *["grim"] * 5,
        *["reject"],
    ]

    words = page.text("#train").split()[1:]
    tiny = ["--method", "fixmatch", "--backbone", "test_resnet", "--image-size", "32"]
    small = ["--steps", "2", "--epoch-steps", "1", "--batch-size", "4", "--device", "cpu"]
    assert cli.main([*words, *tiny, *small, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_what_is_not_there_yet_cannot_be_answered(page):
    page.js("visible = false")  # the picture is still on its way
    before = page.js("[shown.face, progress.labeled]")
    page.key("1")
    page.key("s")
    page.js("visible = true")
    assert page.js("[shown.face, progress.labeled]") == before
    page.label("1")
    assert page.js("progress.labeled") == 1


def test_a_key_that_is_held_down_answers_one_face(page):
    page.label("1")
    parts = {"type": "keyDown", "key": "1", "text": "1", "autoRepeat": True}
    for _ in range(5):
        page.call("Input.dispatchKeyEvent", windowsVirtualKeyCode=49, **parts)
    page.ready()
    assert page.js("progress.labeled") == 1


def test_buttons_work_by_keyboard_and_keep_the_focus(page):
    page.js("$('classes').children[1].focus()")
    for count in (1, 2):
        page.key(" ")
        page.until(f"progress.counts[1] === {count}")
        page.ready()
    assert page.js("document.activeElement === $('classes').children[1]")


def test_a_click_does_not_leave_the_focus_where_space_would_answer_again(page):
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    page.touch("#classes button")
    page.until("progress.counts[0] === 1")
    page.ready()
    page.key(" ")
    page.ready()
    assert page.js("progress.labeled") == 1


def test_two_tabs_have_different_faces_and_each_undoes_its_own(browser, page, folder):
    other = browser.open(page.js("location.href"), LABELING)
    seen = {0: set(), 1: set()}
    for number, tab in enumerate((page, other)):
        seen[number] |= set(tab.js("queue.map((one) => one.face)"))
    for key in "12":
        last = page.label(key)
        seen[0] |= {last}
        seen[1] |= {other.label(key)}
    assert not seen[0] & seen[1]
    page.key("u")
    page.until(f"shown.face === {last}")
    assert page.js("progress.labeled") == 3
    assert sorted(said(folder).values()) == ["glad", "glad", "grim"]


def test_a_copied_tab_does_not_show_the_same_face(browser, page):
    other = browser.open(page.js("location.href"), LABELING)
    kept = page.js("sessionStorage.getItem('faces')")
    other.js(f"sessionStorage.setItem('faces', {kept!r})")
    other.js("dispatchEvent(new Event('pagehide'))")
    other.reload()
    assert other.js("shown.face") not in page.js("queue.map((one) => one.face)")


def test_it_says_when_the_program_is_gone_and_that_nothing_is_lost(browser, folder, start):
    program = start(folder, *WORDS)
    page = browser.open(program.address, LABELING)
    page.label("1")
    program.kill()
    page.key("2")
    page.until("!document.querySelector('#gone').hidden")
    assert "Nothing is lost" in page.text("#gone-text")
    assert list(said(folder).values()) == ["glad"]
    assert page.js("shown !== null")  # the face that was not saved is still there


def test_skipped_faces_can_be_looked_at_again(browser, tmp_path, start):
    folder = draw(tmp_path / "few", 3)
    page = browser.open(start(folder, *WORDS).address, LABELING)
    skipped = page.label("s")
    page.label("1")
    page.label("2")
    page.until("document.querySelector('#done').open")
    assert page.text("#again") == "Look again at 1 face that was skipped"
    page.js("document.querySelector('#again').click()")
    page.until(f"shown?.face === {skipped}")
    page.label("3")
    page.until("document.querySelector('#done').open")
    assert page.js("document.querySelector('#again').hidden")
    assert sorted(said(folder).values()) == ["calm", "glad", "grim"]


class TestPhone:
    def test_a_finger_labels(self, browser, folder, start):
        page = browser.open(start(folder, *WORDS).address, LABELING, **NARROW)
        page.touch("#classes button:nth-child(2)")
        page.until("progress.counts[1] === 1")
        page.ready()
        page.touch("#reject")
        page.until("progress.rejected === 1")
        page.ready()
        page.touch("#undo")
        page.until("progress.rejected === 0")

    @pytest.mark.parametrize("dark", [False, True])
    @pytest.mark.parametrize(
        "look",
        [NARROW, {"width": 568, "height": 320, "touch": True}, {"width": 1280, "height": 800}],
    )
    def test_all_fits_on_the_screen_and_buttons_are_large(self, browser, folder, start, look, dark):
        program = start(folder, "--order", "random")  # the eight expressions
        page = browser.open(program.address, LABELING, dark=dark, **look)
        boxes = page.js(
            "[...document.querySelectorAll('#desk button, #frame, header')].map((e) => {"
            "const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]})"
        )
        assert len(boxes) == 8 + 3 + 2
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= look["width"]
            assert 0 <= top < bottom <= look["height"]
            assert bottom - top >= 40
        assert page.js("document.documentElement.scrollWidth") <= look["width"]
        assert page.js("document.documentElement.scrollHeight") <= look["height"]
        face = page.js("document.querySelector('#picture img').getBoundingClientRect().height")
        assert face >= 120
