"""Serving the page until somebody has had enough."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from leaf_fer.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address, so that it is known to be free before anything else is done.

    Raises:
        UserError: it is not free, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
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


def address(listener: socket.socket, token: str) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # all addresses of this machine, which its name stands for
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}/"


class _Server(uvicorn.Server):
    """A server that says when it answers, and so heeds Ctrl-C.

    Args:
        config: of the server.
        ready: is called then.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._ready()


def serve(app: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        app: what answers.
        listener: where.
        ready: is called when it does.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands it on when all is closed
        _Server(config, ready).run(sockets=[listener])
