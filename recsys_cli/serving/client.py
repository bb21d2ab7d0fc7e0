"""A client of the server for Python programs: typed, with connections that stay open and retries that do no harm.

>>> from recsys_cli.serving.client import Client
>>> with Client("http://127.0.0.1:8080") as client:
...     slate = client.recommend(1, n=10)
...     client.record_interaction(1, slate.items[0].item_id, "like", request_id=slate.request_id)

It needs nothing but the standard library, and loads in some milliseconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

Id = int | str
RETRIED = (429, 503)
"""Statuses after which a request is sent again: the server is starting, or asks for patience."""


class ServerError(Exception):
    """The server refused or could not answer: `status` (0 where nobody answered), a word for programs, a hint."""

    def __init__(self, status: int, error: str, message: str, hint: str | None = None):
        super().__init__(f"{message} ({error}, {status})" if status else message)
        self.status, self.error, self.message, self.hint = status, error, message, hint


@dataclass(frozen=True)
class Item:
    """One item of a slate."""

    item_id: Id
    rank: int
    score: float | None = None
    author_id: Id | None = None
    title: str | None = None
    sources: list[str] = field(default_factory=list)
    explored: bool = False
    interstitial: list[str] = field(default_factory=list)
    predictions: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    creative: dict[str, Any] | None = None
    """which of its titles or pictures to show: "number", "text", "propensity"; None where it has no several"""


@dataclass(frozen=True)
class Slate:
    """An answer with items; iterating gives them."""

    request_id: str
    run_id: str | None
    items: list[Item]
    user_id: Id | None = None
    fallback: str | None = None
    next: str | None = None
    notes: list[str] = field(default_factory=list)

    def __iter__(self):
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Receipt:
    """What became of events; those accepted are on the server's disk."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0


@dataclass(frozen=True)
class Near:
    """One of the nearest."""

    id: Id
    score: float
    title: str | None = None
    interactions: int = 0


def _made(kind, document: Mapping[str, Any]):
    """A dataclass from what it knows of a document; a later server may say more."""
    known = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in document.items() if name in known})


def _slate(document: dict) -> Slate:
    return _made(Slate, document | {"items": [_made(Item, item) for item in document["items"]]})


class Client:
    """A client of one server. May be used from several threads.

    Raises ServerError. Requests that were not answered are sent again at most `retries` times: events carry ids, so
    that none counts twice.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", key: str | None = None, *, timeout: float = 10.0, retries: int = 2
    ):
        from urllib.parse import urlsplit

        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server: write http://127.0.0.1:8080")
        self._https, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._timeout, self._retries = timeout, retries
        self._headers = {"x-api-key": key} if key else {}
        self._idle: list = []

    def recommend(
        self, user_id: Id, n: int | None = None, context: Mapping[str, Any] | None = None, *,
        exclude: Iterable[Id] = (), topics: Iterable[str] = (), explain: bool = False,
    ) -> Slate:
        """Recommendations for a user. context: surface, device and what else the data know of requests."""
        asked = _ask(n, context, exclude, topics, explain)
        return _slate(self.request("POST", f"/v1/recommend/{_part(user_id)}", asked))

    def next(self, slate: Slate, n: int | None = None) -> Slate:
        """The items that follow a slate, without repeats; an empty one where there are none."""
        if slate.next is None:
            return Slate(slate.request_id, slate.run_id, [])
        return _slate(self.request("GET", slate.next + (f"?n={n}" if n else "")))

    def session(self, items: Sequence[Id], n: int | None = None, context: Mapping[str, Any] | None = None) -> Slate:
        """Recommendations for somebody without an id, from items they engaged with, oldest first."""
        return _slate(self.request("POST", "/v1/session/recommend", _ask(n, context) | {"items": list(items)}))

    def rank(self, user_id: Id, items: Sequence[Id], context: Mapping[str, Any] | None = None) -> Slate:
        """The caller's items in the order of a user's utility."""
        return _slate(self.request("POST", f"/v1/rank/{_part(user_id)}", _ask(None, context) | {"items": list(items)}))

    def similar_items(self, item_id: Id, n: int = 10) -> list[Near]:
        """Items most like one."""
        return self._near(f"/v1/items/{_part(item_id)}/similar?n={n}")

    def similar_users(self, user_id: Id, n: int = 10) -> list[Near]:
        """Users most like one."""
        return self._near(f"/v1/users/{_part(user_id)}/similar?n={n}")

    def _near(self, path: str) -> list[Near]:
        return [_made(Near, near) for near in self.request("GET", path)["nearest"]]

    def listed(self, name: str, n: int = 10) -> Slate:
        """What is the same for everybody: "popular", "trending" or "latest"."""
        return _slate(self.request("GET", f"/v1/{name}?n={n}"))

    def events(self, events: Sequence[Mapping[str, Any]]) -> Receipt:
        """Send events; those without an `event_id` get one, so that sending again does no harm."""
        told = [{"event_id": _new_id(), **event} for event in events]
        return _made(Receipt, self.request("POST", "/v1/events", told, accept=(200, 422)))

    def record_interaction(
        self, user_id: Id, item_id: Id, interaction_type: str, dwell_time: float | None = None, **more: Any
    ) -> Receipt:
        """Send one event. dwell_time: seconds. more: request_id, position, surface, … as events have them."""
        event = {"type": interaction_type, "user_id": user_id, "item_id": item_id, **more}
        if dwell_time is not None:
            event["dwell_seconds"] = dwell_time
        receipt = self.events([event])
        if receipt.rejected:
            raise ServerError(422, "refused", receipt.rejected[0]["reason"])
        return receipt

    def put_user(self, user_id: Id, attributes: Mapping[str, Any]) -> None:
        """Say what a user is."""
        self.request("PUT", f"/v1/users/{_part(user_id)}", {"attributes": dict(attributes)})

    def put_item(self, item_id: Id, attributes: Mapping[str, Any]) -> None:
        """Say what an item is; it is recommended from then on."""
        self.request("PUT", f"/v1/items/{_part(item_id)}", {"attributes": dict(attributes)})

    def delete_item(self, item_id: Id) -> None:
        """Take an item out of all lists."""
        self.request("DELETE", f"/v1/items/{_part(item_id)}")

    def delete_user(self, user_id: Id) -> dict[str, int]:
        """Erase a person; what was erased."""
        return self.request("DELETE", f"/v1/users/{_part(user_id)}").get("erased", {})

    def block(self, user_id: Id, author_id: Id) -> None:
        """Show somebody nothing of an author any more."""
        self.request("PUT", f"/v1/users/{_part(user_id)}/blocks/{_part(author_id)}")

    def follow(self, user_id: Id, author_id: Id) -> None:
        """Somebody follows an author."""
        self.request("PUT", f"/v1/users/{_part(user_id)}/follows/{_part(author_id)}")

    def ready(self) -> bool:
        """Whether the server serves."""
        try:
            return self._send("GET", "/health/ready", None)[0] == 200
        except ServerError:
            return False

    def request(self, method: str, path: str, body: Any = None, *, accept: Sequence[int] = (200,)) -> Any:
        """One request, with what it answers; the rest of the API is reached by this."""
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                status, content = self._send(method, path, body)
            except ServerError:
                if last:
                    raise
                time.sleep(0.05 * 2**attempt)
                continue
            if status in RETRIED and not last:
                time.sleep(0.2 * 2**attempt)
                continue
            break
        try:
            document = json.loads(content)
        except ValueError:
            document = {}
        if status in accept:
            return document
        error, message = document.get("error", "error"), document.get("message", f"status {status}")
        raise ServerError(status, error, message, document.get("hint"))

    def _send(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else self._headers | {"content-type": "application/json"}
        while True:
            used = bool(self._idle)
            try:
                connection = self._idle.pop() if used else None
            except IndexError:  # another thread was quicker
                used, connection = False, None
            if connection is None:
                kind = HTTPSConnection if self._https else HTTPConnection
                connection = kind(self._host, self._port, timeout=self._timeout)
            try:
                connection.request(method, self._base + path, data, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, HTTPException) as error:
                connection.close()
                if used and not isinstance(error, TimeoutError):
                    continue  # the server had closed a connection that was kept
                raise ServerError(0, "no_answer", f"no answer of {self._host}: {error}") from None
            self._idle.append(connection)
            return answer.status, content

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio: every method of `Client`, to be awaited. Requests run on threads."""

    def __init__(self, url: str = "http://127.0.0.1:8080", key: str | None = None, *, timeout: float = 10.0):
        self._client = Client(url, key, timeout=timeout)

    async def recommend(self, user_id: Id, n: int | None = None, **options: Any) -> Slate:
        """See `Client.recommend`; so the other methods."""
        return await self._run("recommend", user_id, n, **options)

    async def next(self, slate: Slate, n: int | None = None) -> Slate:
        return await self._run("next", slate, n)

    async def session(self, items: Sequence[Id], n: int | None = None, **options: Any) -> Slate:
        return await self._run("session", items, n, **options)

    async def rank(self, user_id: Id, items: Sequence[Id], **options: Any) -> Slate:
        return await self._run("rank", user_id, items, **options)

    async def events(self, events: Sequence[Mapping[str, Any]]) -> Receipt:
        return await self._run("events", events)

    async def record_interaction(
        self, user_id: Id, item_id: Id, interaction_type: str, dwell_time: float | None = None, **more: Any
    ) -> Receipt:
        return await self._run("record_interaction", user_id, item_id, interaction_type, dwell_time, **more)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        return await self._run("request", method, path, body)

    async def _run(self, name: str, *given: Any, **options: Any) -> Any:
        import asyncio

        return await asyncio.to_thread(getattr(self._client, name), *given, **options)

    async def close(self) -> None:
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()


def _part(id: Id) -> str:
    from urllib.parse import quote

    return quote(str(id), safe="")


def _new_id() -> str:
    import os

    return os.urandom(12).hex()


def _ask(
    n: int | None, context: Mapping[str, Any] | None, exclude: Iterable[Id] = (), topics: Iterable[str] = (),
    explain: bool = False,
) -> dict[str, Any]:
    more = dict(context or {})
    ask: dict[str, Any] = {name: more.pop(name) for name in ("surface", "device") if name in more}
    asked = {"n": n, "context": more, "exclude": list(exclude), "topics": list(topics), "explain": explain}
    return ask | {name: value for name, value in asked.items() if value}
