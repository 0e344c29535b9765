"""What a server answers. Nothing that a client says is ever part of a path or of a file's name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leaf_fer.data.decode import UnreadableImage, lenient
from leaf_fer.serving.gate import Full, Gate
from leaf_fer.serving.metrics import CONTENT_TYPE, Metrics
from leaf_fer.serving.reader import Reader
from leaf_fer.version import __version__
from leaf_fer.web import HEADERS, parts

PACKAGE = "leaf_fer.serving"
STATIC = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
PATHS = ("/predict", "/model", "/health", "/metrics", "/openapi.json", *(f"/{p}" for p in STATIC))
TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/avif")
ANY_TYPE = "application/octet-stream"

DESCRIPTION = """\
Names the expression on faces: how they look to annotators, not what people feel. Photos are
neither kept nor written anywhere. The EU's AI Act (Art. 5(1)(f)) prohibits inferring emotions of
people at work and in schools.
"""

Probability = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]


class Face(BaseModel):
    """What the model says about a face."""

    box: Annotated[
        tuple[float, float, float, float] | None,
        Field(description="left, top, right, bottom in pixels of the upright image"),
    ]
    detection: Annotated[Probability | None, Field(description="how sure the detector is")]
    label: Annotated[str, Field(description="the most probable class")]
    confidence: Annotated[Probability, Field(description="its probability")]
    scores: Annotated[
        dict[str, Probability],
        Field(description="of every class, the most probable first; their sum is 1"),
    ]
    candidates: Annotated[
        list[str] | None,
        Field(description="classes that may be the true one, if the server has a --coverage"),
    ]


class Photo(BaseModel):
    """The faces of a photo."""

    width: Annotated[Side, Field(description="of the upright image, in pixels")]
    height: Side
    faces: Annotated[list[Face], Field(description="the surest found first")]


class Model(BaseModel):
    """The model that answers, and its limits."""

    name: str
    classes: list[str]
    image_size: Annotated[Side, Field(description="of the faces that it sees, in pixels")]
    detector: Annotated[str, Field(description="none: an image is one face")]
    coverage: float | None
    max_bytes: Side
    max_pixels: Side
    max_faces: Side
    timeout: Annotated[float, Field(description="seconds")]


class Health(BaseModel):
    """That the server answers."""

    status: str


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


PROBLEMS = {
    408: "the upload did not end in time",
    413: "more bytes than the limit",
    415: "the content is not declared to be an image",
    422: "not an image, damaged, more pixels or more faces than the limits",
    503: "too many requests at the same time",
    504: "it took too long",
}


def create_app(reader: Reader, name: str = "model") -> FastAPI:
    """Build a server.

    Args:
        reader: what looks at photos, and its limits.
        name: of the model, for people.
    """
    gate = Gate(reader.limits.queue, on_gpu=reader.predictor.device.type == "cuda")
    metrics = Metrics(gate, PATHS, reader.predictor.classes)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with lenient:
            yield
        gate.close()

    # Its pages of documentation would load their parts from elsewhere.
    app = FastAPI(
        title="leaf serve",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.add_middleware(_Watch, metrics=metrics)
    app.include_router(parts(PACKAGE, STATIC))
    app.include_router(_about(reader, metrics, name))
    app.include_router(_predicting(reader, gate, metrics))
    app.add_exception_handler(ClientDisconnect, _problem(400, "the upload did not end"))
    app.add_exception_handler(Exception, _problem(500, "internal error"))
    return app


def _about(reader: Reader, metrics: Metrics, name: str) -> APIRouter:
    """What can be asked without a photo."""
    routes = APIRouter()
    limits, predictor = reader.limits, reader.predictor
    model = Model(
        name=name,
        classes=list(predictor.classes),
        image_size=predictor.card.architecture.image_size,
        detector="none" if reader.detector is None else reader.detector.name,
        coverage=reader.coverage,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        max_faces=limits.max_faces,
        timeout=limits.timeout,
    )

    @routes.get("/model", summary="The model and its limits")
    async def about() -> Model:
        return model

    @routes.get("/health", summary="Whether the server answers")
    async def health() -> Health:
        return Health(status="ok")

    @routes.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def numbers() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return routes


def _predicting(reader: Reader, gate: Gate, metrics: Metrics) -> APIRouter:
    """What is asked with a photo."""
    routes = APIRouter()
    limits = reader.limits
    binary = {"schema": {"type": "string", "format": "binary"}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in PROBLEMS.items()
    }

    @routes.post(
        "/predict",
        summary="Name the expressions of the faces in a photo",
        responses=responses,
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": f"the image file, at most {limits.max_bytes} bytes",
                "content": dict.fromkeys((ANY_TYPE, *TYPES), binary),
            }
        },
    )
    async def predict(request: Request) -> Photo:
        content = None
        try:
            with gate.enter():
                _check(request, limits.max_bytes)
                async with asyncio.timeout(limits.timeout):
                    content = await _body(request, limits.max_bytes)
                    answer = await gate.compute(reader.read, content)
        except Full:
            detail = "too many requests at the same time; try again in a second"
            raise HTTPException(503, detail, {"Retry-After": "1"}) from None
        except TimeoutError:
            late = f"not done after {limits.timeout:g} seconds"
            if content is None:
                raise HTTPException(408, f"the upload is {late}") from None
            raise HTTPException(504, late) from None
        except UnreadableImage as error:
            raise HTTPException(422, f"the file {error}") from None
        metrics.seen(face["label"] for face in answer["faces"])
        return Photo(**answer)

    return routes


def _check(request: Request, max_bytes: int) -> None:
    """Refuse what can be refused before it is read.

    A page of another site can send what forms send, but no image without being allowed to.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != ANY_TYPE and not kind.startswith("image/"):
        raise HTTPException(415, f"expected Content-Type image/... or {ANY_TYPE}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_long(max_bytes)


async def _body(request: Request, max_bytes: int) -> bytes:
    """The content of a request, in memory; what is announced need not be what comes."""
    content = bytearray()
    async for part in request.stream():
        if len(content) + len(part) > max_bytes:
            raise _too_long(max_bytes)
        content += part
    return bytes(content)


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the file has more than {max_bytes} bytes")


def _problem(status: int, detail: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": detail}, status, HEADERS)

    return answer


class _Watch:
    """Gives all answers their headers, and counts them.

    Args:
        app: what answers.
        metrics: where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._metrics.answered(scope["path"], status, time.perf_counter() - began)
