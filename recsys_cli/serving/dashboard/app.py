"""The paths below /dashboard: who asks, which page it is, and how it goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from recsys_cli.errors import RecsysError, UnknownIdError, UsageError
from recsys_cli.serving.dashboard import (
    experiments,
    items,
    overview,
    requests,
    runs,
    settings_page,
    sources,
    users,
)
from recsys_cli.serving.dashboard.access import Caller
from recsys_cli.serving.dashboard.desk import Desk
from recsys_cli.serving.dashboard.frame import HEADERS, STATIC, Page, framed, plain, static_file
from recsys_cli.serving.dashboard.markup import address, tag
from recsys_cli.serving.dashboard.visit import Redirect, Visit
from recsys_cli.serving.keys import Refused

LONGEST_FORM = 8_192
"""Bytes of a form."""
WRONG_KEY_SECONDS = 0.5
"""How long the answer to a wrong key takes."""


Handler = Callable[[Visit], Awaitable[Page | Redirect]]


def pages() -> dict[tuple[str, ...], tuple[Handler, str]]:
    """Method and parts of the path (None for one left open) → page and the role that it asks for."""
    return {
        ("GET",): (overview.page, "read"),
        ("GET", "requests"): (requests.page, "read"),
        ("GET", "requests", None): (requests.one, "read"),
        ("GET", "users"): (users.page, "read"),
        ("GET", "users", None): (users.one, "read"),
        ("GET", "items"): (items.page, "read"),
        ("GET", "items", None): (items.one, "read"),
        ("GET", "sources"): (sources.page, "read"),
        ("GET", "experiments"): (experiments.page, "read"),
        ("GET", "experiments", None): (experiments.one, "read"),
        ("GET", "runs"): (runs.page, "read"),
        ("GET", "runs", "compare"): (runs.compared, "read"),
        ("GET", "runs", "confirm"): (runs.confirm, "admin"),
        ("POST", "runs", "confirm"): (runs.act, "admin"),
        ("GET", "alerts"): (overview.alerts, "read"),
        ("GET", "configuration"): (settings_page.page, "read"),
    }


def routes(desk: Desk) -> list[Route]:
    """The dashboard as routes of an application."""
    known = pages() | dict(desk.site.added.pages)

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await _answer(desk, known, request)
        except (asyncio.CancelledError, ClientDisconnect):
            raise
        except Refused as refused:
            response = _page(desk, plain("Refused", refused.message, status=refused.status))
            response.headers.update(refused.headers)
        desk.site.metrics.answered("dashboard", response.status_code, time.perf_counter() - started)
        return response

    return [Route(place, endpoint, methods=["GET", "POST"]) for place in ("/dashboard", "/dashboard/{rest:path}")]


async def _answer(desk: Desk, known: dict, request: Request) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    desk.access.gate.admit(headers, request.client.host if request.client is not None else "", None)
    parts = [_part(p) for p in request.path_params.get("rest", "").split("/") if p]
    if parts[:1] == ["static"] and len(parts) == 2 and parts[1] in STATIC:
        return Response(static_file(parts[1]), headers=HEADERS | {"cache-control": "max-age=300"},
                        media_type=STATIC[parts[1]])
    if not desk.site.ready:
        raise Refused(503, "starting", "The server is not ready yet.", None, {"retry-after": "1"})
    form = await _form(request) if request.method == "POST" else {}
    if request.method == "POST" and parts == ["sign-in"]:
        return await _sign_in(desk, headers, form)
    caller = desk.access.caller(headers)
    if caller is None:
        place = request.scope["path"] if request.method == "GET" else "/dashboard"
        return _page(desk, sign_in_page(place))
    if request.method == "POST" and parts == ["sign-out"]:
        return _redirect(Redirect("/dashboard", desk.access.sign_out(caller)))
    handler, role, params = _found(known, request.method, parts)
    if role not in caller.roles:
        raise Refused(403, "role", f"The key {caller.name!r} may not see this: it takes the role {role!r}.")
    asked = {name: values[-1] for name, values in _fields(request.scope["query_string"]).items()}
    visit = Visit(desk, caller, params, asked, form)
    await desk.visited()
    page = await _made(desk, handler, visit)
    return _redirect(page) if isinstance(page, Redirect) else _page(desk, page, caller)


async def _made(desk: Desk, handler: Handler, visit: Visit) -> Page | Redirect:
    """The page, or what is told in its place."""
    try:
        return await handler(visit)
    except UnknownIdError as error:
        return plain("Not known", f"{error.message}.", status=404)
    except UsageError as error:
        return plain("Not understood", error.message, *filter(None, (error.hint,)), status=422)
    except Refused as refused:
        return plain("Refused", refused.message, *filter(None, (refused.hint,)), status=refused.status)
    except Exception as error:
        desk.site.trace.event("error", route="dashboard", error=f"{type(error).__name__}: {error}")
        desk.site.metrics.alerts.labels("dashboard").inc()
        if isinstance(error, RecsysError):
            return plain("Not available", "This cannot be shown now; the server's trace log says why.", status=503)
        return plain("Something went wrong", "The server's trace log says what.", status=500)


def _found(known: dict, method: str, parts: list[str]) -> tuple[Handler, str, list[str]]:
    """The page of a path: one whose parts are named goes before one that leaves them open."""
    method = "GET" if method == "HEAD" else method
    fits = [
        (sum(want is None for want in key[1:]), key) for key in known
        if key[0] == method and len(key) == len(parts) + 1
        and all(want in (None, part) for want, part in zip(key[1:], parts, strict=True))
    ]
    if not fits:
        raise Refused(404, "no_page", "There is no such page.")
    key = min(fits, key=lambda fit: fit[0])[1]
    return *known[key], [part for want, part in zip(key[1:], parts, strict=True) if want is None]


def _part(text: str) -> str:
    try:
        part = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "path", "The path is no UTF-8.") from None
    if len(part) > 200 or not part.isprintable():
        raise Refused(422, "id", "An id has 1 to 200 characters, none of control.")
    return part


def _fields(text: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(text.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError:
        raise Refused(400, "query", "The form cannot be read.") from None


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            raise Refused(413, "too_large", "The form is too large.", None, {"connection": "close"})
    return {name: values[-1] for name, values in _fields(body).items()}


def sign_in_page(place: str, told: str = "") -> Page:
    """Asks for a key. place: where to go on."""
    form = tag(
        "form", tag("label", "Key", for_="key"), tag("input", type="hidden", name="next", value=place),
        tag("input", type="password", name="key", id="key", required=True, autocomplete="current-password"),
        tag("button", "Sign in", class_="first"), method="post", action="/dashboard/sign-in",
    )
    about = tag("p", "One of the keys of serving.keys: the role read sees the pages, admin switches runs.")
    return Page("Sign in", [tag("p", told, class_="bad", role="alert") if told else None, about, form], status=401)


async def _sign_in(desk: Desk, headers: dict[str, str], form: dict[str, str]) -> Response:
    place = form.get("next", "")
    if not (place == "/dashboard" or place.startswith("/dashboard/")) or not place.isprintable():
        place = address()
    cookie = desk.access.sign_in(form.get("key", ""), headers)
    if cookie is None:
        await asyncio.sleep(WRONG_KEY_SECONDS)
        return _page(desk, sign_in_page(place, "This is none of the keys."))
    return _redirect(Redirect(place, cookie))


def _page(desk: Desk, page: Page, caller: Caller | None = None) -> Response:
    run = desk.site.run if caller is not None else None
    text = framed(page, run, caller is not None and caller.token is not None, desk.site.added.names)
    return Response(text, page.status, HEADERS, "text/html")


def _redirect(redirect: Redirect) -> Response:
    more = {"set-cookie": redirect.cookie} if redirect.cookie else {}
    return Response(b"", 303, HEADERS | {"location": redirect.place} | more)
