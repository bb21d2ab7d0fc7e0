"""The HTTP application: it reads a request, passes the gate, calls a handler and writes the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from recsys_cli import __version__
from recsys_cli.errors import RecsysError, UnknownIdError, UsageError
from recsys_cli.serving import experiments, handlers, writes
from recsys_cli.serving.dashboard.app import routes as dashboard_routes
from recsys_cli.serving.dashboard.desk import Desk
from recsys_cli.serving.events import StorageFull
from recsys_cli.serving.keys import Gate, Refused
from recsys_cli.serving.routes import Answer, Call, Path, openapi
from recsys_cli.serving.structs import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from recsys_cli.serving.site import Site

encode = msgspec.json.Encoder().encode
JSON = b"application/json"
RECOMMEND = "/v1/recommend/{user_id}"
QUERIES = 1_000
"""Queries that are kept as they were read."""
PARTS = 10_000
"""Parts of paths, likewise."""


def application(site: Site) -> Front:
    """The application of a site, whose service comes and goes with it."""
    own = [*handlers.PATHS, *writes.PATHS, *experiments.PATHS, *site.added.paths]
    paths = [*own, *_compatible(site)]
    document = encode(openapi(own, __version__))

    async def described(call: Call) -> Answer:
        return Answer(document)

    paths.append(Path("GET", "/openapi.json", described, None, "This document", dict, ready=False, limited=False))

    desk = Desk(site)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await site.begin()
        desk.begin()
        yield
        await desk.end()
        await site.end()

    by_place: dict[str, list[Path]] = {}
    for path in paths:
        by_place.setdefault(path.path, []).append(path)
    # a path without names goes before one with a name in the same place
    ordered = sorted(by_place.items(), key=lambda entry: [part.startswith("{") for part in entry[0].split("/")])
    routes = [Route(place, partial(_endpoint, site, {p.method: p for p in mine}), methods=[p.method for p in mine])
              for place, mine in ordered]
    app = Starlette(routes=[*dashboard_routes(desk), *routes], lifespan=lifespan, exception_handlers={
        404: partial(_not_there, 404, "no_path", "there is no such path"),
        405: partial(_not_there, 405, "no_method", "this path takes other methods"),
    })
    app.add_middleware(RawPaths)
    return Front(app, site, paths)


def _compatible(site: Site) -> list[Path]:
    from importlib import import_module

    return [
        path for name in site.config.compatibility
        for path in import_module(f"recsys_cli.serving.routers.{name}").PATHS
    ]


class Front:
    """Calls the handlers of recommendations and events at once; all else goes through the routes of Starlette."""

    def __init__(self, app: Starlette, site: Site, paths: list[Path]):
        self.app, self._site = app, site
        self._events = {p.method: p for p in paths if p.path == "/v1/events"}
        self._recommend = {p.method: p for p in paths if p.path == RECOMMEND}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, mine, params = scope.get("raw_path") or b"", None, {}
            if path == b"/v1/events":
                mine = self._events
            elif path.startswith(b"/v1/recommend/") and len(path) > 14 and b"/" not in path[14:]:
                mine, params = self._recommend, {"user_id": path[14:].decode("ascii", "replace")}
            if mine is not None and scope["method"] in mine:
                reply = await _reply(self._site, mine, scope, receive, params)
                await reply(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Reply:
    """An answer that is whole, as Starlette's Response, at a part of its price."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, status: int = 200, media: bytes = JSON, headers: Mapping[str, str] | None = None):
        self.body, self.status = body, status
        self.headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media)]
        if headers:
            self.headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class RawPaths:
    """Routes by the path as it was sent, so that an id may hold a slash (written %2F)."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")}
        await self.app(scope, receive, send)


async def _not_there(status: int, error: str, message: str, request: Request, _: Exception) -> Reply:
    return _problem(Refused(status, error, message))


def _problem(refused: Refused) -> Reply:
    return Reply(encode(Problem(refused.error, refused.message, refused.hint)), refused.status, JSON, refused.headers)


async def _endpoint(site: Site, paths: dict[str, Path], request: Request) -> Reply:
    return await _reply(site, paths, request.scope, request.receive, request.path_params)


async def _reply(
    site: Site, paths: dict[str, Path], scope: Scope, receive: Receive, params: Mapping[str, str]
) -> Reply:
    started = time.perf_counter()
    path = paths.get(scope["method"]) or paths["GET"]  # HEAD is answered as GET is, without its body
    try:
        reply = await _answer(site, path, scope, receive, params)
    except Refused as refused:
        reply = _problem(refused)
    except (asyncio.CancelledError, ClientDisconnect):
        raise
    except Exception as error:
        reply = _problem(_refusal(site, path, error))
    site.metrics.answered(path.route, reply.status, time.perf_counter() - started)
    return reply


async def _answer(site: Site, path: Path, scope: Scope, receive: Receive, params: Mapping[str, str]) -> Reply:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    gate: Gate = site.gate
    gate.admit(headers, "" if client is None else client[0], path.role, limited=path.limited)
    if path.ready and not site.ready:
        raise Refused(503, "starting", "the server is not ready yet", "see /health/ready", {"retry-after": "1"})
    body = await _body(site, path, receive, headers) if path.takes is not None else b""
    query = _query(scope["query_string"])
    call = Call(site.service, {name: _part(value) for name, value in params.items()}, query, body, headers, gate)
    answer = await path.handler(call)
    if isinstance(answer, Answer):
        content = answer.content if isinstance(answer.content, bytes) else encode(answer.content)
        return Reply(content, answer.status, answer.media.encode())
    return Reply(encode(answer))


@lru_cache(QUERIES)
def _query(text: bytes) -> Mapping[str, list[str]]:
    """The parameters of a query, not to be changed: the same ones come again and again."""
    if not text:
        return {}
    try:
        return parse_qs(text.decode("ascii"), keep_blank_values=True, max_num_fields=200, errors="strict")
    except ValueError:
        raise Refused(400, "query", "the query cannot be read") from None


@lru_cache(PARTS)
def _part(value: str) -> str:
    """A part of a path as it was meant."""
    try:
        text = unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "path", "the path is no UTF-8") from None
    if not text or len(text) > 200 or not text.isprintable():
        raise Refused(422, "id", "an id has 1 to 200 characters, none of control")
    return text


async def _body(site: Site, path: Path, receive: Receive, headers: dict[str, str]) -> bytes:
    """The body within its bounds of size and time."""
    config = site.config
    most = config.max_bulk_mb * 2**20 if path.bulk else config.max_body_kb * 1024
    too_large = Refused(413, "too_large", f"the body is larger than {most:,} bytes", None, {"connection": "close"})
    try:
        if int(headers.get("content-length", "0")) > most:
            raise too_large
    except ValueError:
        raise Refused(400, "length", "content-length is no number") from None

    parts, size = [], 0
    try:
        async with asyncio.timeout(config.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refused(408, "slow", f"the body took longer than {config.body_seconds:g} s", None,
                      {"connection": "close"}) from None
    body = b"".join(parts)
    if not body and not path.optional:
        raise Refused(400, "no_body", "the request has no body")
    return body


def _refusal(site: Site, path: Path, error: Exception) -> Refused:
    """What is told of an error: nothing of files or of code."""
    if isinstance(error, msgspec.ValidationError):
        return Refused(422, "refused", str(error))
    if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError)):
        return Refused(400, "no_json", str(error).splitlines()[0])
    if isinstance(error, UnknownIdError):
        return Refused(404, "unknown", error.message)
    if isinstance(error, UsageError):
        return Refused(422, "refused", error.message, error.hint)
    if isinstance(error, StorageFull):
        return Refused(507, "disk_full", "the disk takes no more events; nothing of this request was written",
                       "free some space: recommendations go on")
    site.trace.event("error", route=f"{path.method} {path.path}", error=f"{type(error).__name__}: {error}")
    site.metrics.alerts.labels("error").inc()
    if isinstance(error, RecsysError):
        return Refused(503, "unavailable", "this cannot be answered now", "the server's trace log says why")
    return Refused(500, "internal", "something went wrong", "the server's trace log says what")
