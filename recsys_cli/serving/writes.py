"""Handlers of the paths that write: events, users, items, follows, blocks, and the runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from recsys_cli.errors import RecsysError, UnknownIdError
from recsys_cli.serving.events import INTERNAL, Event, Receipt, Rejected
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.routes import Answer, Call, Path
from recsys_cli.serving.structs import Attributes, Done, Person, RunInfo, Runs, Switched, Thing

_events = msgspec.json.Decoder(list[Event] | Event)
_event = msgspec.json.Decoder(Event)
_raw = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, Any])
HISTORY_TOLD = 50


async def events(call: Call) -> Any:
    """One event, a list of them, or a line each."""
    told, refused = _decode(call.body, "ndjson" in call.headers.get("content-type", ""))
    return await write(call, told, refused)


def _decode(body: bytes, lines: bool) -> tuple[list[tuple[int, Event]], list[Rejected]]:
    """Events with their places, and what is none."""
    if not lines:
        try:
            held = _events.decode(body)
            return list(enumerate([held] if isinstance(held, Event) else held)), []
        except msgspec.ValidationError:
            # one of them is no event: the others are taken
            parts = _raw.decode(body) if body.lstrip()[:1] == b"[" else [msgspec.Raw(body)]
    else:
        parts = [msgspec.Raw(line) for line in body.splitlines() if line.strip()]
    told, refused = [], []
    for at, part in enumerate(parts):
        try:
            told.append((at, _event.decode(part)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refused.append(Rejected(at, str(error)))
    return told, refused


async def write(call: Call, told: list[tuple[int, Event]], refused: Sequence[Rejected] = ()) -> Any:
    """Append events that came with their places; the answer is 200 once they are on the disk, 422 where none is."""
    refused = list(refused)
    own = [(at, event) for at, event in told if event.type in INTERNAL or event.served is not None]
    refused += [Rejected(at, f"type {event.type!r} is the server's own") for at, event in own]
    taken = [(at, event) for at, event in told if event.type not in INTERNAL and event.served is None]
    for _, event in taken:
        call.service.name_author(event)
    receipt = await call.service.recorder.append([event for _, event in taken]) if taken else Receipt()
    receipt.rejected = sorted(
        [*refused, *(Rejected(taken[r.index][0], r.reason) for r in receipt.rejected)], key=lambda r: r.index
    )
    none = receipt.rejected and not (receipt.accepted or receipt.duplicates)
    return Answer(receipt, 422) if none else receipt


async def _one(call: Call, event: Event) -> Done:
    """Write one event; raises Refused where it is no good."""
    receipt = await call.service.recorder.append([event])
    if receipt.rejected:
        raise Refused(422, "refused", receipt.rejected[0].reason)
    return Done(receipt.accepted, duplicates=receipt.duplicates)


def _told(call: Call) -> dict[str, Any]:
    """Attributes of a body: {"attributes": {…}}, or the columns themselves."""
    held = _object.decode(call.body)
    if set(held) == {"attributes"} and isinstance(held["attributes"], dict):
        return held["attributes"]
    return held


async def put_user(call: Call) -> Done:
    return await _one(call, Event("user", user_id=call.params["user_id"], attributes=_told(call)))


async def put_item(call: Call) -> Done:
    return await _one(call, Event("item", item_id=call.params["item_id"], attributes=_told(call)))


async def delete_item(call: Call) -> Done:
    return await _one(call, Event("delete_item", item_id=call.params["item_id"]))


async def delete_user(call: Call) -> Done:
    """Erase a person from the state and the logs."""
    return Done(1, erased=await call.service.erase(call.params["user_id"]))


def bulk(kind: str):
    """The handler of many users or items, a JSON object a line with their id and their columns."""
    key = f"{kind}_id"

    async def put_many(call: Call) -> Any:
        told, refused = [], []
        for at, line in enumerate(call.body.splitlines()):
            if not line.strip():
                continue
            try:
                held = _object.decode(line)
                id = held.pop(key)
                told.append((at, Event(kind, attributes=held, **{key: msgspec.convert(id, str | int)})))
            except KeyError:
                refused.append(Rejected(at, f"the line has no {key}"))
            except msgspec.DecodeError as error:
                refused.append(Rejected(at, str(error)))
        return await write(call, told, refused)

    return put_many


def edge(kind: str, back: str):
    """Handlers that make and undo an edge from a user to an author."""

    async def put(call: Call) -> Done:
        chosen = call.text("kind") or kind
        if chosen != kind and (kind, chosen) != ("block", "mute"):
            raise Refused(422, "refused", f"kind {chosen[:40]!r} is none", "block or mute")
        return await _one(call, Event(chosen, call.params["user_id"], author_id=call.params["author_id"]))

    async def undo(call: Call) -> Done:
        done = await _one(call, Event(back, call.params["user_id"], author_id=call.params["author_id"]))
        if kind == "block":
            await _one(call, Event("unmute", call.params["user_id"], author_id=call.params["author_id"]))
        return done

    return put, undo


async def get_user(call: Call) -> Person:
    service, user_id = call.service, call.params["user_id"]
    live, memory, fold = service.live, service.people.memory(user_id), service.recorder.online.fold
    position = live.user(user_id)
    if position < 0 and not memory.latest and user_id not in fold.users:
        raise UnknownIdError(f"user {user_id[:80]!r} is not known")
    follows, blocks = list(memory.edges.get("follow", ())), [
        *memory.edges.get("block", ()), *memory.edges.get("mute", ())
    ]
    recent: list = list(memory.recent)[::-1]
    if position >= 0:
        bundle, state = live.engine.bundle, live.engine.state
        undone = {edge: set(ids) for edge, ids in memory.undone.items()}
        mine = bundle.author_ids.external(state.follows[position])
        follows += [a for a in mine if str(a) not in (undone.get("follow", set()) | set(follows))]
        barred = undone.get("block", set()) | undone.get("mute", set()) | set(blocks)
        blocks += [a for a in bundle.author_ids.external(state.blocked[position]) if str(a) not in barred]
        recent += bundle.item_ids.external(state.history[position][::-1][:HISTORY_TOLD])
    return Person(user_id, position >= 0, fold.users.get(user_id, {}), follows, blocks, recent[:HISTORY_TOLD])


async def get_item(call: Call) -> Thing:
    service, item_id = call.service, call.params["item_id"]
    live, fold = service.live, service.recorder.online.fold
    told = fold.items.get(item_id)
    position = live.engine.bundle.item_ids.position(item_id)
    if item_id in fold.deleted or (position < 0 and told is None):
        raise UnknownIdError(f"item {item_id[:80]!r} is not known")
    thing = Thing(item_id, position >= 0, dict(told[1]) if told is not None else {})
    if 0 <= position < len(live.engine.state.interactions):
        bundle, state = live.engine.bundle, live.engine.state
        catalogue = state.catalogue
        names = catalogue.names.get("topics", [])
        author = bundle.author_ids.external([catalogue.item_author[position]])[0]
        known = {"text": bundle.labels[position] or None, "author_id": author,
                 "topics": [names[t] for t in catalogue.item_topics[position]]}
        thing.attributes = {k: v for k, v in known.items() if v} | thing.attributes
        thing.interactions, thing.impressions = int(state.interactions[position]), int(state.impressions[position])
    return thing


async def runs(call: Call) -> Runs:
    return await asyncio.to_thread(_runs, call.service)


def _runs(service) -> Runs:
    from recsys_cli.artifacts.runs import RunStore

    store = RunStore(service.settings.paths.artifacts)
    current, listed = store.current(), []
    for run in store.ids():
        try:
            created = store.open(run, verify=False).manifest.created_at
        except RecsysError:
            created = "damaged"
        listed.append(RunInfo(run, created, run == current, run == service.live.run))
    return Runs(listed)


async def promote(call: Call) -> Switched:
    return await call.service.switch(call.params["run_id"])


async def rollback(call: Call) -> Switched:
    return await call.service.switch(None)


_put_follow, _unfollow = edge("follow", "unfollow")
_put_block, _unblock = edge("block", "unblock")
_KIND = {"kind": (str, "block or mute")}

PATHS = [
    Path("POST", "/v1/events", events, "write", "What people did: one event, a list, or NDJSON", Receipt,
         list[Event] | Event),
    Path("POST", "/v1/users/bulk", bulk("user"), "write", "Many users, a line each", Receipt, Attributes, bulk=True),
    Path("POST", "/v1/items/bulk", bulk("item"), "write", "Many items, a line each", Receipt, Attributes, bulk=True),
    Path("GET", "/v1/users/{user_id}", get_user, "read", "What is known of a user", Person),
    Path("PUT", "/v1/users/{user_id}", put_user, "write", "Say what a user is", Done, Attributes),
    Path("DELETE", "/v1/users/{user_id}", delete_user, "admin", "Erase a person from state and logs", Done),
    Path("GET", "/v1/items/{item_id}", get_item, "read", "What is known of an item", Thing),
    Path("PUT", "/v1/items/{item_id}", put_item, "write", "Say what an item is", Done, Attributes),
    Path("DELETE", "/v1/items/{item_id}", delete_item, "write", "Take an item out of all lists", Done),
    Path("PUT", "/v1/users/{user_id}/follows/{author_id}", _put_follow, "write", "Follow an author", Done),
    Path("DELETE", "/v1/users/{user_id}/follows/{author_id}", _unfollow, "write", "Follow no longer", Done),
    Path("PUT", "/v1/users/{user_id}/blocks/{author_id}", _put_block, "write", "Block or mute an author", Done,
         query=_KIND),
    Path("DELETE", "/v1/users/{user_id}/blocks/{author_id}", _unblock, "write", "Block and mute no longer", Done),
    Path("GET", "/v1/runs", runs, "read", "The runs", Runs),
    Path("POST", "/v1/runs/{run_id}/promote", promote, "admin", "Serve another run", Switched),
    Path("POST", "/v1/runs/rollback", rollback, "admin", "Serve the run before", Switched),
]

