"""What the pages of this program have in common: their parts, and serving until it is enough."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files

import uvicorn
from fastapi import APIRouter, FastAPI, Response

from leaf_fer.errors import UserError

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""


def parts(package: str, static: Mapping[str, tuple[str, str]]) -> APIRouter:
    """The parts of a page, and ``web.css`` that all pages share. They are read once.

    Args:
        package: whose folder ``static`` holds them.
        static: path -> file name and type.
    """
    routes = APIRouter()
    look = (files("leaf_fer") / "web.css").read_bytes()
    routes.get("/web.css", include_in_schema=False)(_giving(look, "text/css"))
    folder = files(package) / "static"
    for path, (name, kind) in static.items():
        give = _giving((folder / name).read_bytes(), kind)
        routes.get(f"/{path}", include_in_schema=False)(give)
    return routes


def _giving(content: bytes, kind: str) -> Callable[[], Response]:
    def give() -> Response:
        return Response(content, media_type=kind)

    return give


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address, so that it is known to be free before anything else is done.

    Raises:
        UserError: it is not free, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows that answers need not wait for the client's acknowledgment of
    # their first half, which takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: {reason}; --port 0 takes a free one"
        ) from None
    return listener


def address(listener: socket.socket, token: str = "") -> str:
    """What to type into a browser; the token is the first part of its path."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # all addresses of this machine, which its name stands for
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (token and f"{token}/")


class _Server(uvicorn.Server):
    """A server that says when it answers, and then heeds Ctrl-C and SIGTERM.

    Args:
        config: of the server.
        ready: is called when it answers.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop once what has been asked is answered; being told to is no failure.

        uvicorn would end the process by the same signal then, without what is to be done at its
        end. A second Ctrl-C waits for nothing.
        """
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    app: FastAPI,
    listener: socket.socket,
    ready: Callable[[], None],
    *,
    patience: int | None = None,
) -> None:
    """Answer until Ctrl-C or SIGTERM. Only for the main thread.

    Args:
        app: what answers.
        listener: where.
        ready: is called when it does.
        patience: seconds that a request which has begun may still take then; None is any.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=patience,
    )
    _Server(config, ready).run(sockets=[listener])
