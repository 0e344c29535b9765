import sqlite3

import pytest

from leaf_fer.errors import UserError
from leaf_fer.labeling.command import main

from .conftest import B, C, Client, content_of, draw
from .runner import parsed

WORDS = ["--classes", "glad,grim,calm", "--order", "random"]


def test_killing_the_program_between_labels_loses_nothing(folder, start):
    confirmed = []
    for _ in range(3):
        program = start(folder, *WORDS)
        client = program.client()
        before = client.offer()["progress"]
        assert before["labeled"] == len(confirmed)
        for choice in (0, 1):
            shown = client.offer()["faces"][0]
            assert client.answer(shown, choice=choice)[0] == 200
            confirmed.append((shown["face"], ("glad", "grim")[choice]))
        program.kill()
    base = sqlite3.connect(folder / ".leaf" / "labels.sqlite")
    assert base.execute("SELECT face, label FROM events ORDER BY id").fetchall() == confirmed
    base.close()


@pytest.mark.parametrize("order", ["useful", "random"])
def test_a_session_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, start, order):
    def label(client, tab, count):
        faces = []
        for _ in range(count):
            shown = Client(client.address, tab).offer()["faces"][0]
            Client(client.address, tab).answer(shown, choice=shown["face"] % 3)
            faces.append(shown["face"])
        return faces

    whole, parts = (draw(tmp_path / name / "faces", 20) for name in ("one", "two"))
    words = ["--classes", "glad,grim,calm", "--order", order, "--seed", 3]
    expected = label(start(whole, *words).client(), B, 16)
    first = start(parts, *words)
    found = label(first.client(), B, 14)
    first.client(B).ask("leave", {"tab": B})
    first.kill()
    assert found + label(start(parts, *words).client(), C, 2) == expected


def test_two_programs_share_a_folder(folder, start):
    one, two = start(folder, *WORDS).client(), start(folder, *WORDS).client(B)
    mine, theirs = one.offer()["faces"], two.offer()["faces"]
    assert not {f["face"] for f in mine} & {f["face"] for f in theirs}
    assert one.answer(mine[0])[0] == 200
    assert two.answer(mine[0])[0] == 409
    assert two.offer()["progress"]["labeled"] == 1


def test_ctrl_c_says_where_the_labels_are_and_how_to_use_them(folder, start, capsys):
    program = start(folder, *WORDS)
    client = program.client()
    client.answer(client.offer()["faces"][0])
    status, out, err = program.stop()
    assert (status, err) == (0, "")
    assert out == (
        f"1 labels in {folder}/.leaf/labels.sqlite; for leaf train: "
        f"leaf label {folder} --export labels.csv\n"
    )
    assert sorted(p.name for p in (folder / ".leaf").iterdir()) == ["labels.sqlite"]


def test_labels_are_written_without_a_page(folder, start, tmp_path, capsys):
    client = start(folder, *WORDS).client()
    for kind in ("label", "label", "reject"):
        client.answer(client.offer()["faces"][0], kind)
    words = [folder, "--export", tmp_path / "labels.csv"]  # classes are those it was begun with
    assert main(parsed(words)) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        f"2 labels in {tmp_path}/labels.csv: leaf train {folder} --labels {tmp_path}/labels.csv"
    )
    assert second.startswith(
        "not a face: 1, which a list of labels cannot leave out of training; --with"
    )
    assert main(parsed([*words, "--with-unlabeled"])) == 0
    assert capsys.readouterr().err == (
        f"2 labels in {tmp_path}/labels.csv: leaf train {tmp_path}/labels.csv\n"
    )
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + 11


def test_the_page_writes_a_list_beside_the_faces_but_not_over_another_one(folder, start):
    client = start(folder, *WORDS).client()
    status, _, content = client.ask("export", {"tab": client.tab})
    assert (status, content) == (422, {"detail": "--export: no face has a label yet"})
    client.answer(client.offer()["faces"][0])
    content = client.ask("export", {"tab": client.tab})[2]
    assert content["train"] == f"leaf train {folder} --labels {folder}/labels.csv"
    assert content["count"] == len((folder / "labels.csv").read_text().splitlines()) - 1 == 1
    (folder / "labels.csv").write_text("mine")
    status, _, content = client.ask("export", {"tab": client.tab})
    assert status == 422
    assert "labels.csv is there and holds something else" in content["detail"]
    assert (folder / "labels.csv").read_text() == "mine"


def test_labels_of_a_folder_that_moved_are_still_there(folder, start):
    first = start(folder, *WORDS)
    first.client().answer(first.client().offer()["faces"][0])
    first.kill()
    folder.rename(folder.with_name("moved"))
    again = start(folder.with_name("moved"), *WORDS)
    assert again.client(B).offer()["progress"]["labeled"] == 1


def test_the_rest_of_the_network_is_let_in_only_with_a_warning(folder, start):
    program = start(folder, *WORDS, "--host", "0.0.0.0")
    err = program.stop()[2]
    assert err.startswith("leaf: --host 0.0.0.0: anyone on the network who learns the address sees")


def test_other_classes_than_the_folder_was_begun_with_are_refused(folder, start):
    start(folder, *WORDS).kill()
    message = "--classes sad, glad: .* was begun with glad, grim, calm; labels of other classes"
    with pytest.raises(UserError, match=message):
        main(parsed([folder, "--classes", "sad", "glad"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["F", "--goal", "0"], "--goal 0: expected a whole number >= 1"),
        (["F", "--seed", "x"], "--seed x: expected a whole number >= 0"),
        (["F", "--port", "-1"], "--port -1: expected a whole number >= 0"),
        (["F", "--port", "70000"], "--host 127.0.0.1 --port 70000: "),
        (["F", "--host", "192.0.2.1"], "--host 192.0.2.1 --port 8765: .*; --port 0 takes a free"),
        (["F", "--model", "none"], "--model none: no such file or folder"),
        (["F", "--model", "F"], "--model .*: expected weights.json"),
        (["F", "--export", "x.csv"], "--export x.csv: no labels yet: there is no .*labels.sqlite"),
        (["F", "--with-unlabeled"], "--with-unlabeled: expected --export FILE.csv as well"),
    ],
)
def test_a_mistake_is_answered_in_one_line(folder, words, message):
    given = [str(folder) if word == "F" else word for word in words]
    if "--port" not in given and "--host" not in given:
        given += ["--port", "0"]
    with pytest.raises(UserError, match=message) as caught:
        main(parsed(given))
    assert "\n" not in str(caught.value)


def test_faces_are_never_changed(folder, start):
    before = content_of(folder)
    client = start(folder, *WORDS).client()
    client.answer(client.offer()["faces"][0])
    after = content_of(folder)
    assert {name for name in after if not name.startswith(".leaf")} == set(before)
    assert all(after[name] == content for name, content in before.items())
