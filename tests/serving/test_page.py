"""The page as people use it, in a real browser."""

import threading

import numpy as np
import pytest
import uvicorn
from tests.browser import CHROMIUM, Browser

from leaf_fer.serving.app import create_app
from leaf_fer.serving.limits import Limits
from leaf_fer.serving.reader import Reader
from leaf_fer.web import address, listen

from .conftest import Squares, face, saved

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
NARROW = {"width": 320, "height": 568, "touch": True}
LOADED = "typeof model !== 'undefined' && model !== null"
READY = "document.querySelector('#answers').getAttribute('aria-busy') === 'false'"


class Page:
    """A tab that shows the page."""

    def __init__(self, tab):
        self.tab = tab

    def choose(self, file):
        """Choose a file, as with the dialog of the browser."""
        root = self.tab.call("DOM.getDocument")["root"]["nodeId"]
        node = self.tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.tab.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
        self.tab.until("turn > 0 && " + READY)

    def drop(self, file):
        """Drop a file on the middle of the page."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.tab.call("Input.dispatchDragEvent", type=kind, x=200, y=250, data=data)
        self.tab.until("turn > 0 && " + READY)

    def labels(self):
        return self.tab.js("[...document.querySelectorAll('#faces .label')].map(e => e.innerText)")

    def fits(self):
        """Whether nothing sticks out to the right."""
        return self.tab.js("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def serve(predictor, browser):
    """Pages of servers that run in a thread."""
    running, pages = [], []

    def begin(detector=None, coverage=None, look=None, **limits):
        reader = Reader(predictor, detector, Limits(**limits), coverage)
        listener = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(create_app(reader, "mine"), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        browser_tab = browser.open(address(listener), LOADED, **(look or {}))
        pages.append(Page(browser_tab))
        return pages[-1]

    yield begin
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def photo(tmp_path):
    """Two faces beside each other, 160 x 80."""
    file = tmp_path / "photo.png"
    file.write_bytes(saved(np.hstack([face(0, 80), face(1, 80)])))
    return file


@pytest.mark.parametrize("look", [{}, {"dark": True}, NARROW])
def test_a_photo_is_chosen_and_every_face_is_named(serve, photo, look):
    page = serve(Squares((100, 20), (20, 20)), coverage=0.9, look=look)
    assert page.tab.text("#name") == "mine"
    page.choose(photo)
    assert len(page.labels()) == 2
    assert set(page.labels()) <= {"calm", "glad", "grim"}
    assert "2 faces" in page.tab.text("#notice")
    assert "90 % of the time" in page.tab.text(".candidates")
    shares = page.tab.js("[...document.querySelectorAll('.share')].map(e => parseInt(e.innerText))")
    assert all(abs(sum(shares[start : start + 3]) - 100) <= 2 for start in (0, 3))
    assert page.tab.js("[picture.width, picture.height]") == [160, 80]
    spot = "100 * $('photo').width / 160, 40 * $('photo').width / 160, 1, 1"
    marked = page.tab.js(f"[...$('photo').getContext('2d').getImageData({spot}).data]")[:3]
    expected = [91, 201, 143] if look.get("dark") else [31, 122, 77]
    assert np.abs(np.subtract(marked, expected)).max() < 8
    assert page.fits()
    assert page.tab.problems == []


def test_a_photo_is_dropped_and_then_another(serve, photo, tmp_path):
    page = serve()
    assert "one face" in page.tab.text("#notice")
    page.drop(photo)
    assert len(page.labels()) == 1
    other = tmp_path / "other.png"
    other.write_bytes(saved(face(5)))
    page.drop(other)
    page.tab.until("picture && picture.width === 64")
    assert len(page.labels()) == 1
    assert page.tab.problems == []


def test_what_cannot_be_read_is_said_and_the_next_photo_works(serve, photo, tmp_path):
    page = serve(max_bytes=50_000)
    for content, text in (
        (b"no image", "The file is not an image."),
        (bytes(60_000), "This file has 0.1 MB; at most 0.1 MB are taken."),
    ):
        file = tmp_path / "file.png"
        file.write_bytes(content)
        page.tab.js("turn = 0")
        page.choose(file)
        assert page.tab.text("#notice") == text
        assert page.labels() == []
    page.choose(photo)
    page.tab.until("document.querySelectorAll('#faces .label').length === 1")


def test_a_photo_without_faces(serve, photo):
    page = serve(Squares())
    page.choose(photo)
    assert page.tab.text("#notice") == "No face was found."


def test_a_server_that_is_gone_is_said(serve, photo):
    page = serve()
    page.tab.js("window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.choose(photo)
    assert page.tab.text("#notice") == "The server does not answer. Is leaf serve still running?"


def test_the_keyboard_reaches_everything(serve, photo):
    page = serve()
    page.tab.key("Tab")
    stops = []
    for _ in range(3):
        stops.append(page.tab.js("document.activeElement.id || document.activeElement.tagName"))
        page.tab.key("Tab")
    assert "file" in stops
    assert "A" in stops
