"""What the page asks the server, and what it may ask.

Whoever knows the token may label. Pages of other sites that are open in the same browser do not
know it, and are refused besides: by the headers that browsers add and pages cannot forge. Faces
are asked for by number; nothing that a client says is ever part of a path.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from leaf_fer.data.decode import UnreadableImage
from leaf_fer.errors import UserError
from leaf_fer.labeling.desk import Desk
from leaf_fer.labeling.journal import Conflict
from leaf_fer.web import HEADERS, parts

PACKAGE = "leaf_fer.labeling.page"

STATIC = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""What is served as it is, with its type."""

STRANGER = "leaf label has been started anew, or this is not its address: open the one it prints."

Tab = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Number = Annotated[int, Field(ge=0, lt=2**53)]


class Want(BaseModel):
    """A tab that wants faces."""

    tab: Tab
    want: list[Number] = Field(default=[], max_length=8)
    again: bool = False


class Say(BaseModel):
    """An answer."""

    tab: Tab
    face: Number
    over: Number
    kind: Literal["label", "skip", "reject"]
    choice: Number | None = None


class Who(BaseModel):
    """A tab."""

    tab: Tab


def create_app(
    desk: Desk, token: str, about: dict[str, Any], export: Callable[[], dict[str, Any]]
) -> FastAPI:
    """Build the server of a page.

    Args:
        desk: what it is about.
        token: first part of all paths.
        about: what the page should know once.
        export: writes the labels, and says what to do with them.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_Guard(token))
    for routes in (parts(PACKAGE, STATIC), _shown(desk, about), _said(desk, export)):
        app.include_router(routes, prefix=f"/{token}")
    for kind, status in ((Conflict, 409), (UserError, 422), (sqlite3.Error, 507)):
        app.add_exception_handler(kind, _problem(status))
    return app


def _shown(desk: Desk, about: dict[str, Any]) -> APIRouter:
    """What the page shows."""
    routes = APIRouter()

    @routes.get("/about")
    def tell() -> dict[str, Any]:
        return about

    @routes.get("/faces/{face}")
    def picture(face: int) -> Response:
        try:
            content = desk.picture(face)
        except (KeyError, UnreadableImage) as error:
            return JSONResponse({"detail": f"face {face}: {error}"}, 404)
        kind = "image/png" if content[:1] == b"\x89" else "image/jpeg"
        # Pictures are fetched ahead, and kept for as long as the tab may want them.
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=600"})

    @routes.post("/offer")
    def offer(asked: Want) -> dict[str, Any]:
        return desk.offer(asked.tab, asked.want, again=asked.again)

    return routes


def _said(desk: Desk, export: Callable[[], dict[str, Any]]) -> APIRouter:
    """What people say."""
    routes = APIRouter()

    @routes.post("/answer")
    def answer(said: Say) -> dict[str, Any]:
        return desk.answer(said.tab, said.face, said.kind, said.choice, said.over)

    @routes.post("/undo")
    def undo(who: Who) -> dict[str, Any]:
        return desk.undo(who.tab)

    @routes.post("/leave")
    def leave(who: Who) -> dict[str, Any]:
        desk.journal.leave(who.tab)
        return {}

    @routes.post("/export")
    def write(who: Who) -> dict[str, Any]:
        return export()

    return routes


def _problem(status: int) -> Callable[[Request, Exception], Response]:
    """What is answered when something cannot be done."""

    def answer(request: Request, error: Exception) -> Response:
        detail = "another tab has this face" if isinstance(error, Conflict) else str(error)
        return JSONResponse({"detail": detail}, status)

    return answer


class _Guard:
    """Lets only our own page in.

    Args:
        token: what it knows.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer, or refuse."""
        known = request.url.path.removeprefix("/").partition("/")[0].encode()
        if not secrets.compare_digest(known, self._token):
            response: Response = Response(STRANGER, 404, media_type="text/plain")
        elif reason := foreign(request):
            response = Response(reason, 403, media_type="text/plain")
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def foreign(request: Request) -> str:
    """Why a request is not one of our page, or nothing.

    A name in ``Host`` that is not this machine's is a page of another site whose name has been
    made to point here; another ``Origin`` is a page of another site that sends to our address.
    """
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not _local(name):
        return f"not served under the name {host}"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "not for pages of other sites"
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return "not for pages of other sites"
    if request.method == "POST" and request.headers.get("content-type") != "application/json":
        return "expected application/json"
    return ""


def _local(name: str) -> bool:
    """Whether a name is this machine's, or an address, which no other site can claim."""
    own = socket.gethostname().lower()
    if name in ("localhost", own, f"{own}.local", own.split(".")[0]):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
