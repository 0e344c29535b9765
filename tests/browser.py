"""A real Chromium without a window, driven by its debugging protocol."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack

from tests.conftest import PATIENCE
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
LOADED = "document.readyState === 'complete'"


class Browser:
    """Chromium with a profile of its own."""

    def __init__(self, profile):
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        file = profile / "DevToolsActivePort"
        wait(lambda: file.exists() and file.read_text().count("\n"))
        self.host = f"127.0.0.1:{file.read_text().split()[0]}"
        self.sockets = ExitStack()

    def open(self, url, condition=LOADED, **look):
        """A tab that shows a page, once a condition holds; see :meth:`Tab.look`."""
        request = urllib.request.Request(f"http://{self.host}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            address = json.load(reply)["webSocketDebuggerUrl"]
        connection = connect(address, max_size=None, open_timeout=PATIENCE)
        tab = Tab(self.sockets.enter_context(connection), condition)
        tab.look(**look)
        tab.go(url)
        return tab

    def close(self):
        self.sockets.close()
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)


class Tab:
    """A page, its keyboard and its screen."""

    def __init__(self, socket, condition):
        self.socket = socket
        self.condition = condition
        self.numbers = itertools.count(1)
        self.problems = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Have the browser do something; what it answers."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(message["params"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def look(self, width=1280, height=800, dark=False, touch=False):
        """Take the shape of a screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.ready()

    def reload(self):
        self.js("window.old = true")
        self.call("Page.reload")
        wait(lambda: not self.js("window.old === true"))
        self.ready()

    def ready(self):
        """Wait until the page is as it should be."""
        self.until(self.condition)

    def js(self, code):
        """The value of an expression."""
        found = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        return found["result"].get("value")

    def until(self, code):
        wait(lambda: self.js(code), code)

    def key(self, key):
        """Press and release a key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        parts = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **parts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **parts)

    def label(self, key):
        """Answer the face that is shown; its number."""
        self.ready()
        face = self.js("shown.face")
        before = self.js("changes")
        self.key(key)
        self.until(f"changes > {before}")
        self.ready()
        return face

    def touch(self, selector):
        """Touch the middle of an element with a finger."""
        spot = self.js(
            f"(r => ({{x: r.x + r.width / 2, y: r.y + r.height / 2}}))"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[spot])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def text(self, selector):
        return self.js(f"document.querySelector({selector!r}).innerText")

    def picture(self):
        """What the screen shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


def wait(found, what=""):
    """Wait until something is true, which does not take long unless it never is."""
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what or found}"
        time.sleep(0.02)
