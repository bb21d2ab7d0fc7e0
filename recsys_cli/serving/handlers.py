"""Handlers of the paths that ask: they read the request and call the service."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np

from recsys_cli.errors import UsageError
from recsys_cli.serving.answers import request_id, rows_of
from recsys_cli.serving.lookups import explained, features_of, nearest
from recsys_cli.serving.ranked import ranked
from recsys_cli.serving.routes import ASK, Answer, Call, N, Path
from recsys_cli.serving.structs import (
    Ask,
    Explained,
    Features,
    Health,
    Nearest,
    RankAsk,
    SessionAsk,
    Slate,
)

_ask = msgspec.json.Decoder(Ask).decode
_rank = msgspec.json.Decoder(RankAsk).decode
_session = msgspec.json.Decoder(SessionAsk).decode


def _asked(call: Call) -> Ask:
    """What a request says, in its body or in its query."""
    if call.body:
        ask = _ask(call.body)
        if ask.variants or ask.pipeline:
            call.require("admin")
        return ask
    query = call.query
    if not query:
        return Ask()
    unknown = [name for name in query if name not in ASK and not name.startswith("context.")]
    if unknown:
        raise UsageError(f"unknown parameter {unknown[0][:40]!r}", f"known: {', '.join(ASK)}, context.NAME")
    more = {name.removeprefix("context."): values[-1] for name, values in query.items() if name.startswith("context.")}
    n = call.number("n")
    if n is not None and n < 1:
        raise UsageError(f"n is {n}", "ask for at least one item")
    return Ask(
        n=n, surface=call.text("surface"), device=call.text("device"), context=more, exclude=call.listed("exclude"),
        topics=call.listed("topics"), explain=call.flag("explain"),
    )


async def recommend(call: Call) -> Slate:
    return await call.service.recommend(call.params["user_id"], _asked(call))


async def follow_on(call: Call) -> Slate:
    return await call.service.next(call.params["request_id"], call.number("n"))


async def rank(call: Call) -> Slate:
    return await ranked(call.service, call.params["user_id"], _rank(call.body))


async def session(call: Call) -> Slate:
    return await call.service.session(_session(call.body))


async def similar_items(call: Call) -> Nearest:
    return await asyncio.to_thread(nearest, call.service.live, "item", call.params["item_id"], _count(call),
                                   call.text("source"))


async def similar_users(call: Call) -> Nearest:
    return await asyncio.to_thread(nearest, call.service.live, "user", call.params["user_id"], _count(call),
                                   call.text("source"))


def _count(call: Call) -> int:
    n, most = call.number("n", 10), call.service.config.largest_slate
    if not 1 <= n <= most:
        raise UsageError(f"n is {n}", f"ask for 1 to {most:,} items")
    return n


def everybodys(name: str):
    """The handler of a list that is the same for everybody."""

    async def listed(call: Call) -> Slate:
        live, n = call.service.live, _count(call)
        items, values = live.lists[name]
        if topics := call.listed("topics"):
            catalogue = live.engine.state.catalogue
            names = catalogue.names.get("topics", [])
            codes = [names.index(topic) for topic in topics if topic in names]
            places, held = catalogue.item_topics.take(items)
            keep = np.bincount(places, np.isin(held, codes), minlength=len(items)) > 0
            items, values = items[keep], values[keep]
        gone = live.items([*call.listed("exclude"), *call.service.recorder.online.fold.deleted])
        keep = ~np.isin(items, gone)
        items, values = items[keep][:n], values[keep][:n]
        return Slate(request_id(), live.run, rows_of(items, values, live.engine.answer_data))

    return listed


async def explain(call: Call) -> Explained:
    return await explained(call.service, call.params["user_id"], call.params["item_id"])


async def features(call: Call) -> Features:
    service, params = call.service, call.params
    return await asyncio.to_thread(features_of, service.live, params["user_id"], params["item_id"])


async def alive(call: Call) -> Health:
    return Health("alive")


async def ready(call: Call) -> Any:
    service = call.service
    if service is None or not service.ready:
        return Answer(Health("starting"), 503)
    reasons = service.troubles
    return Health("ready" if not reasons else "degraded", service.live.run, reasons)


async def metrics(call: Call) -> Answer:
    from recsys_cli.serving.metrics import CONTENT_TYPE

    service = call.service
    pools = [live.pools for live in service.lives]
    text = service.metrics.text(
        service.live.run, [pid for live in service.lives for pid in live.worker_pids],
        pool_bytes=sum(p.cache.nbytes for p in pools), pools=sum(len(p.cache) for p in pools),
        pools_waiting=sum(p.waiting for p in pools),
        log_offset=service.recorder.log.last_offset,
    )
    return Answer(text, media=CONTENT_TYPE)


LIST = N | {"topics": (list[str], "only items with one of these"), "exclude": (list[str], "items left out")}
NEAR = N | {"source": (str, "the source that measures likeness")}

PATHS = [
    Path("GET", "/v1/recommend/{user_id}", recommend, "read", "Recommendations for a user", Slate, query=ASK),
    Path("POST", "/v1/recommend/{user_id}", recommend, "read", "Recommendations for a user", Slate, Ask, optional=True),
    Path("GET", "/v1/recommend/{request_id}/next", follow_on, "read", "The items that follow, without repeats", Slate,
         query=N),
    Path("POST", "/v1/rank/{user_id}", rank, "read", "Put the caller's items into order", Slate, RankAsk),
    Path("POST", "/v1/session/recommend", session, "read", "Recommendations for somebody without an id", Slate,
         SessionAsk),
    Path("GET", "/v1/items/{item_id}/similar", similar_items, "read", "Items like an item", Nearest, query=NEAR),
    Path("GET", "/v1/users/{user_id}/similar", similar_users, "read", "Users like a user", Nearest, query=NEAR),
    *(
        Path("GET", f"/v1/{name}", everybodys(name), "read", f"What is {name}", Slate, query=LIST)
        for name in ("popular", "trending", "latest")
    ),
    Path("GET", "/v1/explain/{user_id}/{item_id}", explain, "read", "Why somebody is, or is not, shown an item",
         Explained),
    Path("GET", "/v1/features/{user_id}/{item_id}", features, "read", "What the rankers see of a user and an item",
         Features),
    Path("GET", "/health/live", alive, None, "Whether the server lives", Health, ready=False, limited=False),
    Path("GET", "/health/ready", ready, None, "Whether the server is ready", Health, ready=False, limited=False),
    Path("GET", "/metrics", metrics, "read", "Figures for Prometheus", str, limited=False),
]
"""What asks; `writes.PATHS` brings events, users and items."""

