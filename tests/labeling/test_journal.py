import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from leaf_fer.errors import UserError
from leaf_fer.labeling import journal as module
from leaf_fer.labeling.journal import ALIVE_SECONDS, Conflict, Journal

from .conftest import CLASSES, A, B, C

NAMES = ["a.png", "b/c.png", "d.png"]


@pytest.fixture
def journal(open_journal):
    made = open_journal()
    assert made.numbers(NAMES) == {"a.png": 1, "b/c.png": 2, "d.png": 3}
    return made


@pytest.fixture
def clock(monkeypatch):
    """Seconds that can be moved on."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def said(journal):
    """What holds: face -> label or kind."""
    return {face: answer.label or answer.kind for face, answer in journal.answers().items()}


def rows(tmp_path, query="SELECT * FROM events ORDER BY id"):
    base = sqlite3.connect(tmp_path / "labels.sqlite")
    found = base.execute(query).fetchall()
    base.close()
    return found


class TestAnswers:
    def test_another_process_finds_an_answer_once_it_is_given(self, journal, tmp_path):
        journal.answer(A, 1, "label", "glad")
        code = "import json, sqlite3, sys; print(json.dumps(sqlite3.connect(sys.argv[1]).execute"
        code += "('SELECT tab, face, kind, label FROM events').fetchall()))"
        command = [sys.executable, "-c", code, tmp_path / "labels.sqlite"]
        done = subprocess.run(command, capture_output=True, check=True)
        assert json.loads(done.stdout) == [[A, 1, "label", "glad"]]

    def test_every_answer_is_waited_for_until_it_is_on_disk(self, journal):
        (mode,) = journal._base.execute("PRAGMA journal_mode").fetchone()
        (level,) = journal._base.execute("PRAGMA synchronous").fetchone()
        assert (mode, level) == ("wal", 2)  # FULL: the log is synchronized at every commit

    def test_they_are_there_again_in_their_order(self, journal, open_journal):
        journal.answer(A, 2, "label", "grim")
        journal.answer(A, 3, "skip")
        journal.answer(B, 1, "reject")
        journal.close()
        again = open_journal()
        assert list(said(again).items()) == [(2, "grim"), (3, "skip"), (1, "reject")]

    def test_one_journal_sees_what_is_said_in_another(self, journal, open_journal):
        other = open_journal()
        other.answer(B, 1, "label", "glad")
        assert said(journal) == {1: "glad"}
        with pytest.raises(Conflict):
            journal.answer(A, 1, "label", "grim")
        assert said(other) == {1: "glad"}

    def test_an_answer_is_only_replaced_by_who_knows_it(self, journal):
        first = journal.answer(A, 1, "skip")
        with pytest.raises(Conflict):
            journal.answer(B, 1, "label", "glad")
        journal.answer(B, 1, "label", "glad", over=first.event)
        with pytest.raises(Conflict):
            journal.answer(A, 1, "label", "grim", over=first.event)
        assert said(journal) == {1: "glad"}

    def test_a_face_that_another_tab_has_cannot_be_answered(self, journal):
        assert journal.hold(A, {1: 0}) == [1]
        with pytest.raises(Conflict):
            journal.answer(B, 1, "label", "glad")
        journal.answer(A, 1, "label", "grim")
        assert said(journal) == {1: "grim"}

    def test_a_refused_answer_leaves_nothing_behind(self, journal, tmp_path):
        with pytest.raises(sqlite3.IntegrityError):
            journal.answer(A, 1, "label", None)
        journal.answer(A, 1, "label", "glad")
        assert [row[2:] for row in rows(tmp_path)] == [(A, 1, "label", "glad", None)]


class TestUndo:
    def test_it_brings_back_what_was_said_before(self, journal):
        skip = journal.answer(A, 1, "skip")
        journal.answer(A, 1, "label", "glad", over=skip.event)
        assert journal.undo(A).label == "glad"
        assert said(journal) == {1: "skip"}
        assert journal.undo(A).kind == "skip"
        assert said(journal) == {}
        assert journal.undo(A) is None

    def test_nothing_is_ever_erased(self, journal, tmp_path):
        journal.answer(A, 1, "label", "glad")
        before = rows(tmp_path)
        journal.undo(A)
        after = rows(tmp_path)
        assert after[:1] == before
        assert after[1][2:] == (A, 1, "undo", None, before[0][0])

    def test_the_last_answers_go_first(self, journal):
        for face in (2, 1, 3):
            journal.answer(A, face, "label", "glad")
        assert [journal.undo(A).face for _ in range(3)] == [3, 1, 2]

    def test_it_gives_the_face_back_to_the_tab(self, journal):
        journal.hold(A, {1: 0})
        journal.answer(A, 1, "label", "glad")
        journal.undo(A)
        assert journal.held() == {1: A}
        assert journal.hold(B, {1: 0, 2: 0}) == [2]

    def test_other_open_tabs_keep_their_answers(self, journal):
        for tab, face in ((A, 1), (B, 2)):
            journal.hold(tab, {face: 0})
            journal.answer(tab, face, "label", "glad")
        assert journal.undo(A).face == 1
        assert journal.undo(A) is None
        assert said(journal) == {2: "glad"}

    def test_answers_of_closed_tabs_can_be_undone(self, journal, open_journal, clock):
        journal.hold(A, {1: 0})
        journal.answer(A, 1, "label", "glad")
        journal.hold(B, {2: 0})
        journal.answer(B, 2, "label", "grim")
        journal.leave(B)  # closed, as a reload does
        assert journal.undo(C).face == 2
        journal.hold(C, {})
        assert journal.undo(C) is None
        clock[0] += ALIVE_SECONDS + 1  # the browser died: nobody said that the tab is closed
        assert open_journal().undo(C).face == 1

    def test_an_answer_that_another_tab_has_replaced_stays(self, journal):
        journal.hold(A, {})
        skip = journal.answer(A, 1, "skip")
        journal.hold(B, {1: skip.event})
        journal.answer(B, 1, "label", "glad", over=skip.event)
        assert journal.undo(A) is None
        assert said(journal) == {1: "glad"}


class TestHolding:
    def test_no_two_tabs_have_the_same_face(self, journal, open_journal):
        assert journal.hold(A, {2: 0, 1: 0}) == [2, 1]
        assert open_journal().hold(B, {1: 0, 2: 0, 3: 0}) == [3]
        assert journal.held() == {1: A, 2: A, 3: B}

    def test_a_tab_lets_go_of_what_it_does_not_ask_for(self, journal):
        journal.hold(A, {1: 0, 2: 0})
        journal.hold(A, {2: 0})
        assert journal.hold(B, {1: 0, 2: 0}) == [1]

    def test_a_closed_tab_holds_nothing(self, journal):
        journal.hold(A, {1: 0})
        journal.leave(A)
        assert journal.hold(B, {1: 0}) == [1]

    def test_a_tab_that_is_silent_for_long_holds_nothing(self, journal, clock):
        journal.hold(A, {1: 0})
        clock[0] += ALIVE_SECONDS - 1
        assert journal.hold(B, {1: 0}) == []
        clock[0] += 2
        assert journal.held() == {}
        assert journal.hold(B, {1: 0}) == [1]
        with pytest.raises(Conflict):
            journal.answer(A, 1, "label", "glad")

    def test_who_comes_back_late_may_answer_if_nobody_has_the_face(self, journal, clock):
        journal.hold(A, {1: 0})
        clock[0] += 10 * ALIVE_SECONDS
        journal.answer(A, 1, "label", "glad")
        assert said(journal) == {1: "glad"}

    def test_an_answered_face_is_held_by_nobody(self, journal):
        journal.hold(A, {1: 0})
        journal.answer(A, 1, "skip")
        assert journal.held() == {}

    def test_a_face_that_was_answered_meanwhile_cannot_be_had(self, journal, open_journal):
        skip = open_journal().answer(B, 1, "skip")
        assert journal.hold(A, {1: 0, 2: 0}) == [2]
        assert journal.hold(A, {1: skip.event, 2: 0}) == [1, 2]

    def test_many_at_once_get_all_faces_once(self, open_journal, tmp_path):
        count, tabs = 40, [f"{number:032}" for number in range(4)]
        numbers = list(open_journal().numbers([f"{n}.png" for n in range(count)]).values())

        def work(tab):
            journal = Journal(tmp_path / "labels.sqlite", CLASSES)
            for _ in range(count):
                done, held = journal.answers(), journal.held()
                for face in (f for f in numbers if f not in done and held.get(f, tab) == tab):
                    if journal.hold(tab, {face: 0}):
                        journal.answer(tab, face, "label", "glad")
                    break
            journal.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, tabs))
        found = rows(tmp_path, "SELECT face, COUNT(*) FROM events GROUP BY face")
        assert found == [(number, 1) for number in numbers]


class TestOpening:
    def test_a_face_keeps_its_number_when_others_come(self, journal, open_journal):
        more = open_journal().numbers(["0.png", *NAMES])
        assert more == {"0.png": 4, "a.png": 1, "b/c.png": 2, "d.png": 3}

    def test_several_programs_can_make_it_at_once(self, tmp_path):
        def make(_):
            Journal(tmp_path / "labels.sqlite", CLASSES).close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(8)))
        assert rows(tmp_path, "SELECT name FROM facts") == [("classes",)]

    @pytest.mark.parametrize("others", [("glad", "grim"), ("grim", "glad", "calm")])
    def test_other_classes_are_refused_with_both_lists(self, journal, open_journal, others):
        message = f"--classes {', '.join(others)}: .*begun with glad, grim, calm; labels of other"
        with pytest.raises(UserError, match=message):
            open_journal(classes=others)

    def test_a_database_of_others_is_left_alone(self, open_journal, tmp_path):
        base = sqlite3.connect(tmp_path / "labels.sqlite")
        base.execute("CREATE TABLE stamps (price)")
        base.close()
        before = (tmp_path / "labels.sqlite").read_bytes()
        with pytest.raises(UserError, match=r"labels.sqlite: is a database of another program"):
            open_journal()
        assert (tmp_path / "labels.sqlite").read_bytes() == before

    def test_a_file_that_is_no_database_is_left_alone(self, open_journal, tmp_path):
        (tmp_path / "labels.sqlite").write_text("path,label\n" * 200)
        with pytest.raises(UserError, match=r"sqlite: cannot be used: file is not a database"):
            open_journal()
        assert (tmp_path / "labels.sqlite").read_text().startswith("path,label")

    def test_a_damaged_one_is_refused(self, journal, open_journal, tmp_path):
        for face in (1, 2, 3):
            journal.answer(A, face, "label", "glad")
        journal.close()
        content = bytearray((tmp_path / "labels.sqlite").read_bytes())
        page = int.from_bytes(content[16:18], "big")
        content[page : 3 * page] = b"\x55" * (2 * page)
        (tmp_path / "labels.sqlite").write_bytes(content)
        with pytest.raises(UserError, match=r"labels.sqlite: (damaged|cannot be used)"):
            open_journal()

    def test_one_of_a_newer_version_is_refused(self, journal, open_journal):
        journal._base.execute("PRAGMA user_version = 2")
        with pytest.raises(UserError, match="written by a newer version of leaf-fer"):
            open_journal()

    def test_a_place_that_cannot_be_written_is_refused(self, open_journal, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"--database .*file.labels.sqlite: cannot be used"):
            open_journal("file/labels.sqlite")
