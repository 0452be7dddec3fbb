"""The HTTP application: REST API, page, and what keeps both within their limits."""

from __future__ import annotations

import asyncio
import hmac
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unblur import __version__
from unblur.imaging import (
    Format,
    ImageError,
    check_photo,
    output_format,
    parse_format,
    require_writable,
)
from unblur.inference.judgement import Verdict
from unblur.serving.engine import Engine, Task, Wish, refusal_of
from unblur.serving.errors import RefusedError, problem
from unblur.serving.jobs import Jobs
from unblur.serving.measures import Measures
from unblur.serving.uploads import FIELD, BodyLimit, receive_photo

_SECONDS_BETWEEN_SWEEPS = 30.0
_PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "WEBP": "image/webp",
    "AVIF": "image/avif", "BMP": "image/bmp", "HEIF": "image/heic",
}  # fmt: skip
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_PROBLEM: dict[str, Any] = {
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
            }
        }
    }
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        400: "The request makes no sense.",
        401: "The API key is missing or wrong.",
        404: "There is no such job, or model.",
        408: "The upload took too long.",
        409: "The job is not done.",
        413: "The upload is too large.",
        422: "It is no photo that can be restored, or an option is wrong.",
        429: "Too many photos are waiting; Retry-After says when to try again.",
        503: "The photo took too long, or the server is shutting down.",
    }
    return {status: {"description": words[status], **_PROBLEM} for status in statuses}


_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The restored photo.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-Unblur-Model": {"schema": {"type": "string"}},
            "X-Unblur-Seconds": {"schema": {"type": "number"}},
            "X-Unblur-Megapixels": {"schema": {"type": "number"}},
        },
    }
}


class Health(BaseModel):
    """Whether photos can be sent, how large, and how many are on their way."""

    status: str
    version: str
    models: list[str]
    pending: int
    max_bytes: int
    max_pixels: int


class JobState(BaseModel):
    """A job: waiting, running (progress from 0 to 1), done or failed (error says why, and status
    is what /v1/deblur would have answered with).

    blur: how blurred the photo was judged, as the σ in pixels of the Gaussian most like what was
    undone; change: by how many of 255 levels a value changed on average; verdict: sharper, no
    sharper, hardly changed, or untouched (strength 0).
    """

    id: str
    state: str
    progress: float
    model: str
    megapixels: float
    seconds: float
    format: str | None = None
    blur: float | None = None
    change: float | None = None
    verdict: Verdict | None = None
    error: str | None = None
    status: int | None = None


def create_app(
    engine: Engine, api_key: str | None = None, hosts: Sequence[str] | None = None
) -> FastAPI:
    """The application for an engine, which is closed with it.

    api_key: what requests must carry, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    hosts: names that this server answers to, so that no page elsewhere can reach it under a name
        of its own; None for any.
    """
    jobs, limits = Jobs(engine.limits), engine.limits

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(jobs))
        yield
        sweeping.cancel()
        jobs.close()  # nobody can ask for them any more
        await asyncio.to_thread(engine.close)

    app = FastAPI(
        title="unblur",
        version=__version__,
        summary="Makes blurred photos sharp.",
        description="Errors are problem details (RFC 9457). With an API key, requests carry it as "
        "`Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    measures = Measures(engine)
    app.add_middleware(BodyLimit, limits=limits)
    app.add_middleware(Guard, measures=measures, hosts=hosts)
    _say_what_is_wrong(app)
    allowed = [] if api_key is None else [Depends(_key_check(api_key))]
    if api_key is not None:
        _describe_key(app)

    def wish(
        request: Request,
        model: Annotated[str, Query(description="A name of /v1/models.", max_length=200)] = next(
            iter(engine.models)
        ),
        strength: Annotated[
            float, Query(ge=0, le=1, description="0 is the input, 1 fully restored.")
        ] = 1.0,
        format: Annotated[  # noqa: A002
            str | None,
            Query(
                max_length=20,
                description="jpg, png, tif, webp, avif, bmp or heic; as sent by default.",
            ),
        ] = None,
        quality: Annotated[
            int | None, Query(ge=1, le=100, description="Of JPEG, WebP, AVIF and HEIC.")
        ] = None,
        pictures: Annotated[
            bool, Query(description="Also make JPEGs of before and after, for showing them.")
        ] = False,
    ) -> Wish:
        known = {field.name for field in fields(Wish)}
        if unknown := sorted(set(request.query_params) - known):
            text = f"unknown option {unknown[0][:40]}: there are {', '.join(sorted(known))}"
            raise RefusedError(422, text)
        if model not in engine.models:
            raise RefusedError(
                404, f"no model '{model[:100]}'; there are {', '.join(engine.models)}"
            )
        try:
            wanted: Format | None = parse_format(format) if format else None
        except ImageError as error:
            raise RefusedError(422, str(error)) from None
        return Wish(model, strength, wanted, quality, pictures)

    asks = Depends(wish)

    async def accept(request: Request, asked: Wish) -> Task:
        """The task that a request's photo makes, queued."""
        with engine.room():  # taken before an upload that would be in vain
            upload = await receive_photo(request)
            try:
                format_name, width, height = await asyncio.to_thread(
                    check_photo, upload, limits.max_pixels
                )
                require_writable(asked.format or output_format(format_name), width, height)
                task = Task(upload, asked, width * height / 1e6)
                engine.submit(task)
            except ImageError as error:
                upload.close()
                raise refusal_of(error) from None
            except BaseException:
                upload.close()
                raise
            return task

    @app.post(
        "/v1/deblur",
        response_class=Response,
        responses={**_IMAGE, **_problems(400, 404, 408, 413, 422, 429, 503)},
        openapi_extra=_BODY,
        dependencies=allowed,
        tags=["photos"],
    )
    async def deblur(request: Request, asked: Wish = asks) -> Response:
        """Restore one photo: the body, or the field `file` of a form. The answer is the photo.

        Format, depth, transparency, colour profile and metadata are kept.
        """
        task = await accept(request, asked)
        try:
            await _until_done(request, task)
            return _Stored(task, close=True)
        except BaseException:
            task.close()
            raise

    @app.post(
        "/v1/jobs",
        status_code=202,
        responses=_problems(400, 404, 408, 413, 422, 429, 503),
        openapi_extra=_BODY,
        dependencies=allowed,
        tags=["jobs"],
    )
    async def create_job(request: Request, response: Response, asked: Wish = asks) -> JobState:
        """Restore one photo later: the same as /v1/deblur, but answered at once."""
        name = jobs.add(await accept(request, asked))
        response.headers["Location"] = f"/v1/jobs/{name}"
        return _state(name, jobs.find(name))

    @app.get("/v1/jobs/{name}", responses=_problems(404), dependencies=allowed, tags=["jobs"])
    async def read_job(name: str) -> JobState:
        """How far a job is."""
        return _state(name, jobs.find(name))

    @app.get(
        "/v1/jobs/{name}/{part}",
        response_class=Response,
        responses={**_IMAGE, **_problems(404, 409, 422, 503)},
        dependencies=allowed,
        tags=["jobs"],
    )
    async def read_result(name: str, part: Literal["result", "before", "after"]) -> Response:
        """The `result` of a job; `before` and `after` are JPEGs, where pictures were asked for."""
        task = jobs.find(name)
        if task.error is not None:
            raise task.error
        if task.state != "done":
            raise RefusedError(409, "the job is not done")
        if part not in task.files:
            raise RefusedError(404, f"the job has {', '.join(task.files)}, not '{part}'")
        return _Stored(task, part)

    @app.delete(
        "/v1/jobs/{name}",
        status_code=204,
        responses=_problems(404),
        dependencies=allowed,
        tags=["jobs"],
    )
    async def delete_job(name: str) -> None:
        """Give a job up, or forget its result."""
        jobs.remove(name)

    @app.get("/v1/models", dependencies=allowed, tags=["server"])
    async def models() -> dict[str, list[dict[str, Any]]]:
        """The cards of the models; the first is the default."""
        cards = []
        for name, deblurrer in engine.models.items():
            card = asdict(deblurrer.card)
            card.pop("trained_on")  # thousands of names
            cards.append(card | {"name": name, "runtime": deblurrer.runtime})
        return {"models": cards}

    @app.get("/healthz", tags=["server"])
    async def health() -> Health:
        """Whether the server is up."""
        return Health(
            status="ok",
            version=__version__,
            models=list(engine.models),
            pending=engine.pending,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
        )

    @app.get("/metrics", response_class=Response, dependencies=allowed, tags=["server"])
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)

    _serve_page(app)
    return app


class Guard:
    """ASGI middleware: counts requests, and refuses those that another site makes a browser send.

    hosts: as of `create_app`.
    """

    def __init__(self, app: ASGIApp, measures: Measures, hosts: Sequence[str] | None) -> None:
        self.app, self.measures, self.hosts = app, measures, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await (self._refusal(Headers(scope=scope), scope["method"]) or self.app)(
                scope, receive, counted
            )
        finally:
            route = scope.get("route")
            path = route.path if isinstance(route, APIRoute) else "other"
            self.measures.requests.labels(path, str(status)).inc()

    def _refusal(self, headers: Headers, method: str) -> Response | None:
        host = headers.get("host", "")
        name = (host if host.endswith("]") else host.rpartition(":")[0] or host).strip("[]").lower()
        if self.hosts is not None and name not in self.hosts:
            return problem(421, f"this server is not '{name[:100]}'; see unblur serve --allow-host")
        if headers.get("sec-fetch-site") == "cross-site" and method not in ("GET", "HEAD"):
            return problem(403, "pages of other sites cannot send photos here")
        return None


def _say_what_is_wrong(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> Response:
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> Response:
        return problem(500, f"unexpected {type(error).__name__}")


def _key_check(api_key: str) -> Callable[[Request], None]:
    expected = api_key.encode()

    def check(request: Request) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key", "")
        if scheme.lower() == "bearer":
            given = bearer.strip()
        if not hmac.compare_digest(given.encode(), expected):
            raise RefusedError(
                401,
                "send the API key as 'Authorization: Bearer KEY'",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _describe_key(app: FastAPI) -> None:
    """Let the OpenAPI document ask for the key."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        schema = original()
        schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if path != "/healthz":
                    operation["security"] = [{"key": []}]
                    operation["responses"] |= {str(k): v for k, v in _problems(401).items()}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _serve_page(app: FastAPI) -> None:
    """The page's own few files; nothing else is ever read by name."""
    folder = importlib.resources.files("unblur.serving") / "page"

    def route(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_request: Request) -> Response:
            return Response(content, media_type=media_type, headers=_PAGE_HEADERS)

        return answer

    for name, media_type in _PAGE_FILES.items():
        path = "/" if name == "index.html" else f"/{name}"
        answer = route((folder / name).read_bytes(), media_type)
        app.add_route(path, answer, include_in_schema=False)


async def _sweep(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_SWEEPS)
        jobs.forget_old()


async def _until_done(request: Request, task: Task) -> None:
    """Wait for a task; when the client goes away, so does the task. Raises RefusedError."""
    done = asyncio.wrap_future(task.future)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if not done.done():
        task.close()
        raise RefusedError(400, "the client went away")
    if task.error is not None:
        raise task.error


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stored(StreamingResponse):
    """What a task has made. close: the task, when it has been sent, or cannot be."""

    def __init__(self, task: Task, part: str = "result", close: bool = False) -> None:
        assert task.format is not None  # noqa: S101
        name = task.format.name if part == "result" else "JPEG"
        extension = task.format.extension if part == "result" else ".jpg"
        headers = {
            "X-Unblur-Model": quote(task.wish.model, safe=" ()+,"),
            "X-Unblur-Seconds": f"{task.seconds:.3f}",
            "X-Unblur-Megapixels": f"{task.megapixels:.3f}",
            "Content-Disposition": f'attachment; filename="sharp{extension}"',
            "Content-Length": str(task.length(part)),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        super().__init__(task.pieces(part), media_type=_TYPES[name], headers=headers)
        self._closed = task if close else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._closed is not None:
                self._closed.close()


def _state(name: str, task: Task) -> JobState:
    return JobState(
        id=name,
        state=task.state if task.error is None else "failed",
        progress=round(task.progress if task.state != "done" else 1.0, 3),
        model=task.wish.model,
        megapixels=round(task.megapixels, 3),
        seconds=round(task.seconds, 3),
        format=None if task.format is None else task.format.extension[1:],
        blur=None if task.judged is None else task.judged.blur,
        change=None if task.judged is None else task.judged.change,
        verdict=None if task.judged is None else task.judged.verdict,
        error=None if task.error is None else task.error.detail,
        status=None if task.error is None else task.error.status,
    )
