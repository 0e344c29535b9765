import sqlite3
import threading

import pytest
import uvicorn

from leaf_fer.labeling.page import app as module
from leaf_fer.labeling.page.app import create_app
from leaf_fer.web import address, listen

from .conftest import CLASSES, B, Client

TOKEN = "not-to-be-guessed"


@pytest.fixture
def served(open_desk):
    """A desk, and somebody who uses it over HTTP."""
    desk = open_desk()
    about = {"folder": "faces", "classes": CLASSES, "goal": 2}
    app = create_app(desk, TOKEN, about, lambda: {"count": desk.progress("")["labeled"]})
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield desk, Client(address(listener, TOKEN))
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def client(served):
    return served[1]


class TestLabeling:
    def test_an_answer_is_written_before_it_is_confirmed(self, served, tmp_path, open_journal):
        _, client = served
        shown = client.offer()["faces"][0]
        status, content = client.answer(shown, choice=1)
        assert status == 200
        assert content["progress"]["counts"] == [0, 1, 0]
        (answer,) = open_journal().answers().values()
        assert (answer.face, answer.label) == (shown["face"], "grim")

    def test_the_page_knows_classes_and_goal(self, client):
        told = client.ask("about")[2]
        assert told == {"folder": "faces", "classes": list(CLASSES), "goal": 2}

    def test_it_can_be_undone_skipped_and_rejected(self, client):
        for kind in ("skip", "reject", "label"):
            client.answer(client.offer()["faces"][0], kind, 2)
        undone = client.undo()
        assert undone["undone"] == "calm"
        assert client.offer(undone["face"]["face"])["faces"][0] == undone["face"]
        progress = client.offer()["progress"]
        assert (progress["labeled"], progress["skipped"], progress["rejected"]) == (0, 1, 1)

    def test_two_tabs_have_different_faces_and_the_second_answer_is_refused(self, client):
        other = Client(client.address, B)
        mine, theirs = client.offer()["faces"], other.offer()["faces"]
        assert not {one["face"] for one in mine} & {one["face"] for one in theirs}
        assert other.answer(mine[0], choice=1) == (409, {"detail": "another tab has this face"})
        assert client.answer(mine[0], choice=2)[0] == 200
        assert client.answer(mine[0], choice=0)[0] == 409
        assert client.offer()["progress"]["counts"] == [0, 0, 1]

    def test_a_closed_tab_lets_others_have_its_faces(self, client):
        mine = [one["face"] for one in client.offer()["faces"]]
        client.ask("leave", {"tab": client.tab})
        assert [one["face"] for one in Client(client.address, B).offer()["faces"]] == mine

    def test_pictures_are_asked_for_by_number(self, client):
        shown = client.offer()["faces"][0]
        status, head, content = client.ask(f"faces/{shown['face']}")
        assert (status, head["Content-Type"]) == (200, "image/png")
        assert content.startswith(b"\x89PNG")

    def test_labels_are_exported(self, client):
        client.answer(client.offer()["faces"][0])
        assert client.ask("export", {"tab": client.tab})[2] == {"count": 1}

    def test_what_is_not_written_is_not_confirmed(self, served, monkeypatch):
        desk, client = served
        shown = client.offer()["faces"][0]

        def full(*_, **__):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(desk.journal, "answer", full)
        assert client.answer(shown) == (507, {"detail": "database or disk is full"})


class TestStrangers:
    @pytest.mark.parametrize("path", ["", "about", "offer", "faces/1", "../about", "docs"])
    @pytest.mark.parametrize("token", ["", "wrong/", TOKEN[:-1] + "/", TOKEN.upper() + "/"])
    def test_without_the_token_there_is_nothing(self, client, path, token):
        status, _, content = client.ask(f"http://{client.host}/{token}{path}")
        assert status == 404
        assert content.decode() == module.STRANGER

    @pytest.mark.parametrize(
        "path",
        [
            "faces/..%2f..%2fetc%2fpasswd",
            "faces/../../../../etc/passwd",
            "faces/00.png",
            "faces/-1",
            "faces/99",
            "../../etc/passwd",
            "static/page.js",
            "app.py",
            "docs",
            "openapi.json",
        ],
    )
    def test_no_path_leads_to_a_file(self, client, path):
        assert client.ask(path)[0] in (404, 422)

    def test_questions_do_not_change_the_page(self, client):
        for path in ("", "page.js"):
            asked = client.ask(f"{path}?content=x&kind=text/html&name=x")
            assert asked[2] == client.ask(path)[2]
            assert asked[1]["Content-Type"] == client.ask(path)[1]["Content-Type"]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example:80"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
    )
    def test_pages_of_other_sites_are_refused(self, client, headers):
        shown = client.offer()["faces"][0]
        said = {"tab": client.tab, **shown, "kind": "skip"}
        assert client.ask("answer", said, **headers)[0] == 403
        assert client.ask(f"faces/{shown['face']}", **headers)[0] == 403
        assert client.offer()["progress"]["skipped"] == 0

    def test_forms_are_refused(self, client):
        body = {"tab": client.tab}
        assert client.ask("undo", body, Content_Type="text/plain")[0] == 403
        assert client.ask("undo", body)[0] == 200

    @pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "[::1]:5", "192.168.1.7:8765"])
    def test_our_own_names_are_known(self, client, host):
        assert client.ask("about", Host=host, Origin=f"http://{host}")[0] == 200

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"tab": "x"},
            {"tab": "../" * 10},
            {"tab": "a" * 32, "want": [-1]},
            {"tab": "a" * 32, "want": ["x"]},
            {"tab": "a" * 32, "want": [2**70]},
            {"tab": "a" * 32, "want": [1] * 9},
        ],
    )
    def test_nonsense_is_refused(self, client, body):
        assert client.ask("offer", body)[0] == 422

    def test_other_pages_may_neither_embed_nor_learn_the_address(self, client):
        for path in ("", "about", "page.js"):
            _, head, _ = client.ask(path)
            assert "frame-ancestors 'none'" in head["Content-Security-Policy"]
            assert "default-src 'self'" in head["Content-Security-Policy"]
            assert head["Referrer-Policy"] == "no-referrer"
            assert head["X-Content-Type-Options"] == "nosniff"

    def test_the_page_fetches_nothing_from_elsewhere(self, client):
        for path in ("", "page.css", "page.js"):
            content = client.ask(path)[2].decode()
            assert "http:" not in content
            assert "https:" not in content
