import contextlib
import re
import sys
import threading
import time

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from leaf_fer.data import decode
from leaf_fer.errors import UserError
from leaf_fer.serving import app as module
from leaf_fer.serving.reader import Reader

from .conftest import CLASSES, Squares, face, post, saved

PHOTO = saved(face())


class TestAnswers:
    def test_an_image_is_one_face(self, client, predictor):
        answer = post(client, PHOTO).json()
        assert (answer["width"], answer["height"]) == (64, 64)
        (found,) = answer["faces"]
        pixels = decode.resize(face(), 32)[None]
        expected = dict(zip(CLASSES, predictor.probabilities(pixels)[0].tolist(), strict=True))
        assert found["scores"] == pytest.approx(expected, abs=1e-6)
        assert list(found["scores"].values()) == sorted(expected.values(), reverse=True)
        assert found["label"] == max(expected, key=expected.get)
        assert found["confidence"] == max(found["scores"].values())
        assert (found["box"], found["detection"], found["candidates"]) == (None, None, None)

    def test_every_face_of_a_photo_has_a_box_and_the_surest_is_first(self, open_client):
        photo = np.hstack([face(0, 80), face(1, 80)])
        client = open_client(Squares((100, 20), (20, 20)))
        first, second = post(client, saved(photo)).json()["faces"]
        assert (first["box"], second["box"]) == ([100, 20, 140, 60], [20, 20, 60, 60])
        assert first["detection"] == pytest.approx(0.9)
        assert first["scores"] != second["scores"]

    def test_a_photo_without_faces_is_no_mistake(self, open_client):
        assert post(open_client(Squares()), PHOTO).json()["faces"] == []

    def test_a_face_that_cannot_be_cut_out_is_left_out(self, open_client):
        detector = Squares((10, 10), (20, 20))
        detector.detect = lambda image, detect=detector.detect: _flat(detect(image))
        (found,) = post(open_client(detector), PHOTO).json()["faces"]
        assert found["box"] == [20, 20, 60, 60]

    def test_with_a_coverage_there_are_candidates(self, open_client):
        (found,) = post(open_client(coverage=0.9), PHOTO).json()["faces"]
        assert found["candidates"][0] == found["label"]
        assert set(found["candidates"]) <= set(CLASSES)

    def test_a_coverage_that_cannot_be_is_refused_at_the_start(self, predictor):
        with pytest.raises(UserError, match="--coverage 2"):
            Reader(predictor, coverage=2)

    def test_the_model_and_its_limits_are_told(self, open_client):
        told = open_client(max_faces=3).get("/model").json()
        assert told["name"] == "mine"
        assert told["classes"] == list(CLASSES)
        assert (told["image_size"], told["max_faces"], told["detector"]) == (32, 3, "none")

    def test_it_says_that_it_is_well(self, client):
        assert client.get("/health").json() == {"status": "ok"}

    def test_it_counts(self, client):
        for content in (PHOTO, PHOTO, b"text"):
            post(client, content)
        client.get("/made/up")
        reply = client.get("/metrics")
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = dict(line.rsplit(" ", 1) for line in reply.text.splitlines() if line[0] != "#")
        assert lines['leaf_requests_total{path="/predict",status="200"}'] == "2.0"
        assert lines['leaf_requests_total{path="/predict",status="422"}'] == "1.0"
        assert lines['leaf_requests_total{path="other",status="404"}'] == "1.0"
        assert lines['leaf_request_seconds_count{path="/predict"}'] == "3.0"
        labels = [float(lines[f'leaf_faces_total{{label="{name}"}}']) for name in CLASSES]
        assert sorted(labels) == [0, 0, 2]
        assert lines["leaf_inside"] == lines["leaf_computing"] == "0.0"


def _flat(faces):
    """The same faces, the first with all points in one place."""
    faces.points[0] = faces.points[0, 0]
    return faces


def problem(reply, status):
    """The line that says what is wrong."""
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    content = reply.json()
    assert list(content) == ["detail"]
    assert "\n" not in content["detail"]
    return content["detail"]


class TestLimits:
    def test_bytes_that_are_announced(self, open_client):
        client = open_client(max_bytes=1000)
        assert problem(post(client, bytes(1001)), 413) == "the file has more than 1000 bytes"
        assert problem(post(client, bytes(1000)), 422) == "the file is not an image"

    def test_bytes_that_are_not_announced(self, open_client):
        sent = []

        def parts():
            for number in range(100):
                sent.append(number)
                yield bytes(100)

        client = open_client(max_bytes=1000)
        assert problem(post(client, parts()), 413) == "the file has more than 1000 bytes"

    def test_pixels(self, open_client):
        client = open_client(max_pixels=64 * 64 - 1)
        detail = "the file is 64 x 64 pixels; at most 4095 pixels are opened"
        assert problem(post(client, PHOTO), 422) == detail

    def test_faces(self, open_client):
        client = open_client(Squares((0, 0), (10, 10), (20, 20)), max_faces=2)
        detail = "the file has 3 faces; at most 2 are classified"
        assert problem(post(client, PHOTO), 422) == detail

    def test_time(self, open_client):
        go = threading.Event()
        client = open_client(work=lambda _: go.wait(30), timeout=0.2)
        try:
            assert problem(post(client, PHOTO), 504) == "not done after 0.2 seconds"
        finally:
            go.set()

    def test_types(self, client):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            assert "expected Content-Type image/..." in problem(post(client, PHOTO, kind), 415)
        for kind in ("image/jpeg", "IMAGE/anything; q=1", "application/octet-stream"):
            assert post(client, PHOTO, kind).status_code == 200

    def test_requests_at_the_same_time(self, open_client):
        go, begun = threading.Event(), threading.Semaphore(0)

        def work(_):
            begun.release()
            go.wait(30)
            return {"width": 1, "height": 1, "faces": []}

        client = open_client(work=work, queue=1)
        replies = []

        def ask():
            replies.append(post(client, PHOTO))

        threads = [threading.Thread(target=ask) for _ in range(2)]  # one lane and one in the queue
        for thread in threads:
            thread.start()
        assert begun.acquire(timeout=30)
        _until(lambda: "leaf_inside 2.0" in client.get("/metrics").text)
        assert "leaf_computing 1.0" in client.get("/metrics").text
        late = post(client, PHOTO)
        assert "too many requests at the same time" in problem(late, 503)
        assert late.headers["Retry-After"] == "1"
        assert client.get("/health").status_code == 200
        go.set()
        for thread in threads:
            thread.join()
        assert [reply.status_code for reply in replies] == [200, 200]
        assert post(client, PHOTO).status_code == 200

    def test_work_that_nobody_waits_for_keeps_its_lane(self, open_client):
        go, running, most = threading.Event(), [], []

        def work(_):
            running.append(1)
            most.append(len(running))
            go.wait(30)
            running.pop()
            return {"width": 1, "height": 1, "faces": []}

        client = open_client(work=work, timeout=0.1)
        for _ in range(3):
            problem(post(client, PHOTO), 504)
        assert len(running) == 1
        go.set()
        _until(lambda: "leaf_computing 0.0" in client.get("/metrics").text)
        assert post(client, PHOTO).status_code == 200
        assert max(most) == 1


def _until(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestStrangers:
    @pytest.mark.parametrize(
        "path",
        [
            *("/..%2f..%2fetc%2fpasswd", "/../../etc/passwd", "/static/page.js", "/app.py"),
            *("/predict/../../etc/passwd", "/page.js/../app.py", "/docs", "/redoc", "/%00"),
        ],
    )
    def test_no_path_leads_to_a_file(self, client, path):
        assert problem(client.get(path), 404) == "Not Found"

    def test_nothing_that_is_asked_for_opens_a_file(self, client):
        def ask():
            for path in ("/", "/page.js", "/model", "/../x", "/etc/passwd"):
                client.get(path)
            for content in (PHOTO, PHOTO[:100], b"/etc/passwd", saved(face(), "GIF"), b""):
                headers = {"Content-Disposition": 'form-data; filename="/etc/passwd"'}
                headers["Content-Type"] = "image/png"
                client.post("/predict?path=/etc/passwd", content=content, headers=headers)

        ask()  # Python reads its own files when they are first needed
        _watch()
        opened.clear()
        ask()
        assert opened == []

    def test_the_page_may_load_nothing_from_elsewhere(self, client):
        for path in ("/", "/health", "/made/up"):
            headers = client.get(path).headers
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/", "/page.js", "/page.css", "/icon.svg"):
            text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|//[a-z]|@import", text)

    def test_other_pages_of_the_browser_are_not_let_in(self, client):
        ask = {"Origin": "http://other.example", "Access-Control-Request-Method": "POST"}
        reply = client.options("/predict", headers=ask)
        assert "Access-Control-Allow-Origin" not in reply.headers

    def test_a_mistake_of_ours_tells_nothing(self, open_client, caplog):
        def work(_):
            raise RuntimeError("secret")

        assert problem(post(open_client(work=work), PHOTO), 500) == "internal error"


opened = []


def _watch():
    """Note every file that is opened from now on; there is no way to stop that."""
    if not getattr(_watch, "done", False):
        _watch.done = True
        sys.addaudithook(lambda event, args: event == "open" and opened.append(args[0]))


class TestDescription:
    def test_it_is_whole(self, client):
        described = client.get("/openapi.json").json()
        assert set(described["paths"]) == {"/predict", "/model", "/health", "/metrics"}
        predict = described["paths"]["/predict"]["post"]
        assert set(predict["responses"]) == {"200", *map(str, module.PROBLEMS)}
        assert "image/jpeg" in predict["requestBody"]["content"]

    @pytest.mark.filterwarnings("ignore")
    def test_the_server_does_what_it_says(self, open_client):
        """Schemathesis: requests that are right, and many that are not."""
        images = st.sampled_from([PHOTO, saved(face(1), "JPEG"), PHOTO[:200], b"", b"GIF89a"])
        for kind in module.TYPES:
            schemathesis.openapi.media_type(kind, images | st.binary(max_size=64))
        client = open_client(max_bytes=100_000)
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        statuses = set()
        for operation in map(Ok.ok, schema.get_all_operations()):
            for mode in GenerationMode:
                with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about some
                    _try(operation, mode, statuses)
        assert {(path, 200) for path in ("/predict", "/model", "/health", "/metrics")} <= statuses
        assert ("/predict", 422) in statuses
        assert all(status < 500 for _, status in statuses)


def _try(operation, mode, statuses):
    """Send requests of a kind, and compare the answers with the description."""

    @seed(0)
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        reply = case.call()
        statuses.add((case.path, reply.status_code))
        # No schema can say which bytes are an image.
        case.validate_response(reply, excluded_checks=[positive_data_acceptance])

    check()
