"""The paths of Metarank (`/feedback`, `/rank/{model}`, `/recommend/{model}`), as its documentation has them.

A ranking event is an impression of each of its items, an interaction an event of its type; both carry the id of the
ranking as `request_id`. Whoever has no `user` is known by the `session`. There is one model: its name is not looked at.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from recsys_cli.serving.events import Event
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.ranked import ranked
from recsys_cli.serving.routes import Call, Path
from recsys_cli.serving.structs import Ask, RankAsk, SessionAsk, Slate

SURFACES = ("surface", "device")
"""Fields of a ranking that are context here."""


class Field(msgspec.Struct):
    """A named value."""

    name: str
    value: Any


class Candidate(msgspec.Struct):
    """An item of a ranking; its own relevancy is not looked at."""

    id: str
    relevancy: float = 0.0
    fields: list[Field] = []


class Told(msgspec.Struct):
    """An event of any of the four kinds."""

    event: str
    timestamp: int | str
    id: str | None = None
    item: str | None = None
    user: str | None = None
    session: str | None = None
    ranking: str | None = None
    type: str | None = None
    items: list[Candidate] = []
    fields: list[Field] = []


class Asked(msgspec.Struct):
    """A ranking that is asked for."""

    id: str
    items: list[Candidate]
    timestamp: int | str = 0
    user: str | None = None
    session: str | None = None
    fields: list[Field] = []


class Wanted(msgspec.Struct):
    """Recommendations that are asked for."""

    count: int = 10
    user: str | None = None
    items: list[str] = []


class Feature(msgspec.Struct):
    """What is predicted of an item."""

    name: str
    value: float


class Scored(msgspec.Struct, omit_defaults=True):
    """An item in its place."""

    item: str
    score: float
    features: list[Feature] = []


class Ranked(msgspec.Struct):
    """The items in their order."""

    items: list[Scored]


class Taken(msgspec.Struct, rename="camel"):
    """What became of events."""

    accepted: int
    status: str
    took_millis: int
    updated: int


_told = msgspec.json.Decoder(list[Told] | Told).decode
_asked = msgspec.json.Decoder(Asked).decode
_wanted = msgspec.json.Decoder(Wanted).decode


def _moment(timestamp: int | str) -> int | str | None:
    """A moment as events take it: a text of digits is milliseconds."""
    if isinstance(timestamp, str) and timestamp.isascii() and timestamp.isdigit():
        timestamp = int(timestamp)
    return timestamp or None


def _events(call: Call, told: Told) -> list[Event]:
    attributes = {f.name: f.value for f in told.fields}
    user, when = told.user or told.session, _moment(told.timestamp)
    if told.event == "item":
        return [Event("item", item_id=told.item, timestamp=when, event_id=told.id, attributes=attributes)]
    if told.event == "user":
        return [Event("user", told.user, timestamp=when, event_id=told.id, attributes=attributes)]
    if told.event == "ranking":
        return [
            Event("impression", user, item.id, when, f"{told.id}:{at}", told.id, told.session, at)
            for at, item in enumerate(told.items)
        ]
    if told.event == "interaction":
        kind = call.service.config.feedback_types.get(told.type or "click", told.type or "click")
        return [Event(kind, user, told.item, when, told.id, told.ranking, told.session)]
    raise Refused(400, "refused", f"event {told.event[:40]!r} is none of item, user, ranking and interaction")


async def feedback(call: Call) -> Taken:
    started = time.perf_counter()
    told = _told(call.body)
    events = [event for one in (told if isinstance(told, list) else [told]) for event in _events(call, one)]
    for event in events:
        call.service.name_author(event)
    receipt = await call.service.recorder.append(events)
    taken = receipt.accepted + receipt.duplicates
    if receipt.rejected and not taken:
        raise Refused(400, "refused", receipt.rejected[0].reason)
    status = "ok" if not receipt.rejected else f"refused {len(receipt.rejected)}: {receipt.rejected[0].reason}"
    return Taken(taken, status, round((time.perf_counter() - started) * 1e3), receipt.accepted)


async def rank(call: Call) -> Ranked:
    asked, explain = _asked(call.body), call.flag("explain")
    if not 1 <= len(asked.items) <= 1_000:
        raise Refused(400, "refused", f"{len(asked.items)} items; 1 to 1,000 are ranked")
    context = {f.name: str(f.value) for f in asked.fields if f.name in SURFACES}
    ask = RankAsk([item.id for item in asked.items], explain=explain, **context)
    return _ranked(await ranked(call.service, asked.user or asked.session or "", ask))


async def recommend(call: Call) -> Ranked:
    wanted = _wanted(call.body)
    if wanted.items or wanted.user is None:
        return _ranked(await call.service.session(SessionAsk(n=wanted.count, items=wanted.items[-200:])))
    return _ranked(await call.service.recommend(wanted.user, Ask(n=wanted.count)))


def _ranked(slate: Slate) -> Ranked:
    return Ranked([
        Scored(str(i.item_id), i.score or 0.0, [Feature(name, value) for name, value in i.predictions.items()])
        for i in slate.items
    ])


async def health(call: Call) -> dict[str, str]:
    return {"status": "ok"}


PATHS = [
    Path("POST", "/feedback", feedback, "write", "Events", Taken, list[Told] | Told),
    Path("POST", "/rank/{model}", rank, "read", "Put items into order", Ranked, Asked),
    Path("POST", "/recommend/{model}", recommend, "read", "Recommendations", Ranked, Wanted),
    Path("GET", "/health", health, None, "Whether the server lives", dict, ready=False),
]
"""Paths that Metarank has, too; without /train and /inference."""
