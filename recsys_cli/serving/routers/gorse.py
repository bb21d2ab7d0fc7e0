"""The paths of Gorse's REST interface (`/api/…`), as its documentation of version 0.5 and its Python client have them.

Feedback types are events; `serving.feedback_types` says which, where the names differ. Labels and categories of items
are topics, the comment is the text. A hidden item is one that was taken out. Lists do not change until somebody reads
them, as there: what is answered here counts as served only with `write-back-type`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import numpy as np

from recsys_cli.errors import UnknownIdError
from recsys_cli.serving.events import Event
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.lookups import nearest
from recsys_cli.serving.routes import Call, Path
from recsys_cli.serving.structs import Ask, SessionAsk, Slate


class Score(msgspec.Struct, rename="pascal"):
    """An item or user with its score."""

    id: str
    score: float


class Affected(msgspec.Struct, rename="pascal"):
    """How many rows were written."""

    row_affected: int


class Feedback(msgspec.Struct, rename="pascal", omit_defaults=False):
    """What somebody did."""

    feedback_type: str
    user_id: str
    item_id: str
    timestamp: str = ""
    value: float = 0.0
    comment: str = ""


class GorseItem(msgspec.Struct, rename="pascal"):
    """An item."""

    item_id: str
    is_hidden: bool | None = None
    categories: list[str] | None = None
    labels: Any = None
    timestamp: str | None = None
    comment: str | None = None


class GorseUser(msgspec.Struct, rename="pascal"):
    """A user."""

    user_id: str
    labels: Any = None
    comment: str | None = None


_feedback = msgspec.json.Decoder(list[Feedback] | Feedback).decode
_item = msgspec.json.Decoder(GorseItem).decode
_items = msgspec.json.Decoder(list[GorseItem]).decode
_user = msgspec.json.Decoder(GorseUser).decode
_users = msgspec.json.Decoder(list[GorseUser]).decode
_patch = msgspec.json.Decoder(dict[str, Any]).decode


async def _write(call: Call, events: list[Event]) -> Affected:
    for event in events:
        call.service.name_author(event)
    receipt = await call.service.recorder.append(events) if events else None
    if receipt is not None and receipt.rejected:
        raise Refused(400, "refused", receipt.rejected[0].reason)
    return Affected(0 if receipt is None else receipt.accepted + receipt.duplicates)


def _type(call: Call, feedback_type: str) -> str:
    return call.service.config.feedback_types.get(feedback_type, feedback_type)


async def insert_feedback(call: Call) -> Affected:
    told = _feedback(call.body)
    told = [told] if isinstance(told, Feedback) else told
    return await _write(call, [
        Event(_type(call, f.feedback_type), f.user_id, f.item_id, f.timestamp or None,
              value=f.value if _type(call, f.feedback_type) == "rating" else None)
        for f in told
    ])


async def list_feedback(call: Call) -> list[Feedback]:
    """What the log holds of a user and a type, by item."""
    fold, user = call.service.recorder.online.fold, call.params["user_id"]
    kind = call.params.get("feedback_type")
    code = fold.names["users"].at.get(user, -1)
    mine = np.flatnonzero(np.array(fold.columns["user"]) == code) if code >= 0 else []
    out = []
    for row in mine:
        bits, shown = fold.columns["bits"][row], fold.columns["shown"][row]
        done = [a for i, a in enumerate(fold.actions) if bits >> i & 1] + (["impression"] if shown else [])
        when = dt.datetime.fromtimestamp(fold.columns["time"][row] / 1e6, dt.UTC).isoformat()
        item = fold.names["items"].listed[fold.columns["item"][row]]
        out += [
            Feedback(kind or action, user, item, when) for action in done if kind is None or action == _type(call, kind)
        ]
    return out


def _scores(slate: Slate) -> list[Score]:
    return [Score(str(item.item_id), item.score or 0.0) for item in slate.items]


async def recommend(call: Call) -> list[Score] | list[str]:
    n, offset = call.number("n", 10), call.number("offset", 0)
    category = call.params.get("category")
    ask = Ask(n=n + offset, topics=[category] if category else [])
    slate = await call.service.recommend(call.params["user_id"], ask, remember=False)
    slate.items = slate.items[offset:]
    if back := call.text("write-back-type"):
        kind = _type(call, back)
        await _write(call, [
            Event(kind, call.params["user_id"], str(i.item_id), request_id=slate.request_id) for i in slate.items
        ])
    scores = _scores(slate)
    return scores if call.headers.get("x-api-version") == "2" else [s.id for s in scores]


async def session(call: Call) -> list[Score]:
    told = _feedback(call.body)
    told = [told] if isinstance(told, Feedback) else told
    items = [f.item_id for f in sorted(told, key=lambda f: f.timestamp)]
    return _scores(await call.service.session(SessionAsk(n=call.number("n", 10), items=items[-200:])))


def neighbors(kind: str):
    async def near(call: Call) -> list[Score]:
        n, offset = call.number("n", 10), call.number("offset", 0)
        if not (1 <= n <= call.service.config.largest_slate and 0 <= offset <= 10_000):
            raise Refused(400, "refused", "n and offset are out of bounds")
        found = await asyncio.to_thread(nearest, call.service.live, kind, call.params[f"{kind}_id"], n + offset, None)
        return [Score(str(near.id), near.score) for near in found.nearest[offset:]]

    return near


def listed(name: str):
    async def everybodys(call: Call) -> list[Score]:
        live, n, offset = call.service.live, call.number("n", 10), call.number("offset", 0)
        if n < 1 or offset < 0:
            raise Refused(400, "refused", "n and offset are out of bounds")
        items, values = live.lists[name]
        ids = live.engine.bundle.item_ids.external(items[offset : offset + n])
        return [Score(str(i), float(v)) for i, v in zip(ids, values[offset : offset + n], strict=True)]

    return everybodys


def _event(item: GorseItem) -> list[Event]:
    labels = item.labels if isinstance(item.labels, list) else []
    attributes: dict[str, Any] = {}
    topics = [str(t) for t in (*labels, *(item.categories or ()))]
    if topics:
        attributes["topics"] = list(dict.fromkeys(topics))
    if item.comment:
        attributes["text"] = item.comment
    if item.timestamp:
        attributes["created_at"] = item.timestamp
    events = [Event("item", item_id=item.item_id, attributes=attributes)]
    return [*events, Event("delete_item", item_id=item.item_id)] if item.is_hidden else events


async def insert_item(call: Call) -> Affected:
    await _write(call, _event(_item(call.body)))
    return Affected(1)


async def insert_items(call: Call) -> Affected:
    items = _items(call.body)
    await _write(call, [event for item in items for event in _event(item)])
    return Affected(len(items))


async def patch_item(call: Call) -> Affected:
    told = {name: value for name, value in _patch(call.body).items() if value is not None}
    item = msgspec.convert(told | {"ItemId": call.params["item_id"]}, GorseItem)
    await _write(call, _event(item))
    return Affected(1)


async def delete_item(call: Call) -> Affected:
    return await _write(call, [Event("delete_item", item_id=call.params["item_id"])])


async def get_item(call: Call) -> GorseItem:
    return _described(call, call.params["item_id"])


def _described(call: Call, item_id: str) -> GorseItem:
    live, fold = call.service.live, call.service.recorder.online.fold
    told, bundle = fold.items.get(item_id), live.engine.bundle
    position = bundle.item_ids.position(item_id)
    if position < 0 and told is None:
        raise UnknownIdError(f"item {item_id[:80]!r} is not known")
    attributes = dict(told[1]) if told is not None else {}
    if position >= 0:
        catalogue = live.engine.state.catalogue
        names = catalogue.names.get("topics", [])
        attributes.setdefault("text", bundle.labels[position])
        attributes.setdefault("topics", [names[t] for t in catalogue.item_topics[position]])
    return GorseItem(
        item_id, item_id in fold.deleted, [], attributes.get("topics") or [], str(attributes.get("created_at") or ""),
        str(attributes.get("text") or ""),
    )


async def get_items(call: Call) -> dict[str, Any]:
    return _page(call, "Items", call.service.live.engine.bundle.item_ids, lambda id: _described(call, id))


async def get_users(call: Call) -> dict[str, Any]:
    return _page(call, "Users", call.service.live.engine.bundle.user_ids, lambda id: _person(call, id))


def _page(call: Call, name: str, ids, describe) -> dict[str, Any]:
    n, cursor = min(max(call.number("n", 10), 1), 1_000), call.text("cursor") or "0"
    start = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0
    stop = min(start + n, len(ids))
    held = ids.external(np.arange(start, stop)) if stop > start else []
    return {name: [describe(str(i)) for i in held], "Cursor": str(stop) if stop < len(ids) else ""}


def _user_event(user: GorseUser) -> Event:
    attributes = dict(user.labels) if isinstance(user.labels, dict) else {}
    if isinstance(user.labels, list):
        attributes["labels"] = user.labels
    return Event("user", user.user_id, attributes=attributes)


async def insert_user(call: Call) -> Affected:
    return await _write(call, [_user_event(_user(call.body))])


async def insert_users(call: Call) -> Affected:
    return await _write(call, [_user_event(user) for user in _users(call.body)])


async def get_user(call: Call) -> GorseUser:
    return _person(call, call.params["user_id"])


def _person(call: Call, user_id: str) -> GorseUser:
    service = call.service
    told = service.recorder.online.fold.users.get(user_id)
    if told is None and service.live.user(user_id) < 0 and not service.people.memory(user_id).latest:
        raise UnknownIdError(f"user {user_id[:80]!r} is not known")
    return GorseUser(user_id, dict(told or {}).get("labels", told or []), "")


async def delete_user(call: Call) -> Affected:
    await call.service.erase(call.params["user_id"])
    return Affected(1)


async def health(call: Call) -> dict[str, Any]:
    return {"Ready": call.service is not None and call.service.ready}


def _read(path: str, handler, summary: str, answers: Any) -> Path:
    return Path("GET", f"/api{path}", handler, "read", summary, answers)


def _sent(path: str, handler, takes: Any, method: str = "POST", role="write", answers: Any = Affected) -> Path:
    return Path(method, f"/api{path}", handler, role, "As Gorse has it", answers, takes)


PATHS = [
    *(_read(f"/recommend/{{user_id}}{end}", recommend, "Recommendations", list[Score])
      for end in ("", "/", "/{category}")),
    _read("/item/{item_id}/neighbors", neighbors("item"), "Items like an item", list[Score]),
    _read("/user/{user_id}/neighbors", neighbors("user"), "Users like a user", list[Score]),
    _read("/popular", listed("popular"), "What is popular", list[Score]),
    _read("/latest", listed("latest"), "What is latest", list[Score]),
    _read("/user/{user_id}/feedback/{feedback_type}", list_feedback, "What somebody did", list[Feedback]),
    _read("/user/{user_id}/feedback", list_feedback, "What somebody did", list[Feedback]),
    _read("/item/{item_id}", get_item, "An item", GorseItem),
    _read("/items", get_items, "Items", dict),
    _read("/user/{user_id}", get_user, "A user", GorseUser),
    _read("/users", get_users, "Users", dict),
    _sent("/session/recommend", session, list[Feedback] | Feedback, role="read", answers=list[Score]),
    _sent("/feedback", insert_feedback, list[Feedback] | Feedback),
    _sent("/feedback", insert_feedback, list[Feedback] | Feedback, "PUT"),
    _sent("/item", insert_item, GorseItem),
    _sent("/items", insert_items, list[GorseItem]),
    _sent("/item/{item_id}", patch_item, dict, "PATCH"),
    _sent("/user", insert_user, GorseUser),
    _sent("/users", insert_users, list[GorseUser]),
    Path("DELETE", "/api/item/{item_id}", delete_item, "write", "Take an item out", Affected),
    Path("DELETE", "/api/user/{user_id}", delete_user, "admin", "Erase a person", Affected),
    Path("GET", "/api/health/live", health, None, "Whether the server lives", dict, ready=False),
    Path("GET", "/api/health/ready", health, None, "Whether the server is ready", dict),
]
"""Paths that Gorse has, too; without those that delete single feedback."""
