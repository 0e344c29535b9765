import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from leaf_fer import cli
from leaf_fer.serving.command import named
from leaf_fer.web import listen

from .conftest import face, saved

PHOTO = saved(face())


def send_half(program, count):
    """A request whose second half is still to come."""
    connection = program.connect()
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(PHOTO)))
    connection.endheaders()
    connection.send(PHOTO[:100])
    end = time.monotonic() + 60
    while b"leaf_inside %.1f" % count not in program.ask("GET", "/metrics")[1]:
        assert time.monotonic() < end
        time.sleep(0.05)
    return connection


def test_what_has_begun_is_answered_when_the_server_is_stopped(folder, start):
    program = start(folder, "--timeout", "5")
    connection, silent = send_half(program, 1), send_half(program, 2)
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(ConnectionError):
        program.ask("GET", "/health")  # nobody else is let in
    connection.send(PHOTO[100:])
    with connection.getresponse() as reply:
        assert reply.status == 200
        assert json.load(reply)["faces"][0]["label"] in ("calm", "glad", "grim")
    with silent.getresponse() as reply:  # who never ends does not hold it up
        assert reply.status == 408
        assert json.load(reply) == {"detail": "the upload is not done after 5 seconds"}
    assert program.end() == (0, "", "")


def test_all_options_reach_the_server(folder, start):
    program = start(
        *(folder, "--coverage", "0.9", "--max-bytes", "100000", "--max-pixels", "5000"),
        *("--max-faces", "7", "--timeout", "2.5", "--queue", "3"),
    )
    with urllib.request.urlopen(f"{program.address}model", timeout=60) as reply:
        told = json.load(reply)
    assert told == {
        "name": "mine",
        "classes": ["calm", "glad", "grim"],
        "image_size": 32,
        "detector": "none",
        "coverage": 0.9,
        "max_bytes": 100_000,
        "max_pixels": 5000,
        "max_faces": 7,
        "timeout": 2.5,
    }
    status, content = program.ask("POST", "/predict", PHOTO)
    assert status == 200
    assert json.loads(content)["faces"][0]["candidates"]
    connection = program.connect()
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    with connection.getresponse() as reply:  # before anything of it is sent
        assert reply.status == 413
        assert json.load(reply) == {"detail": "the file has more than 100000 bytes"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-faces", "0"], "--max-faces 0: expected a whole number >= 1"),
        (["--timeout", "0"], "--timeout 0: expected a number > 0"),
        (["--port", "x"], "--port x: expected a whole number >= 0"),
        (["--port", "70000"], "--host 127.0.0.1 --port 70000: "),
        (["--coverage", "2"], "--coverage 2: expected a number in (0, 1)"),
        (["--device", "tpu"], "--device tpu: "),
    ],
)
def test_mistakes_are_said_in_one_line(folder, capsys, words, message):
    assert cli.main(["serve", str(folder), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"leaf: error: {message}")
    assert said.count("\n") == 1


def test_a_model_that_is_not_there_is_said_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys; from leaf_fer.cli import main; status = main(['serve', 'nothing'])\n"
        "sys.exit(status if 'torch' not in sys.modules and 'fastapi' not in sys.modules else 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert b"nothing: not a model folder" in done.stderr


def test_without_the_extra_it_says_what_to_install(folder, monkeypatch, capsys):
    for name in ("leaf_fer.serving.app", "leaf_fer.serving.metrics", "prometheus_client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert cli.main(["serve", str(folder)]) == 2
    expected = "leaf serve needs prometheus_client: pip install 'leaf-fer[serve]'"
    assert expected in capsys.readouterr().err


def test_answers_do_not_wait_for_acknowledgments():
    async def answer():
        taken = asyncio.get_running_loop().create_future()

        def take(_, writer):
            option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
            taken.set_result(writer.get_extra_info("socket").getsockopt(*option))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(take, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                found = await taken
                writer.close()
                await writer.wait_closed()
                return found

    assert asyncio.run(answer()) != 0


@pytest.mark.parametrize(
    ("path", "name"),
    [("runs/mine", "mine"), ("runs/mine/model", "mine"), ("a/first.onnx", "first")],
)
def test_a_model_is_called_by_its_run(path, name):
    assert named(path) == name
