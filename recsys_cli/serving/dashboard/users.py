"""One user: history, list with titles and reasons, why not an item, features, and what the next click would change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from recsys_cli.errors import UnknownIdError
from recsys_cli.features.context import Context
from recsys_cli.inspection import inspect_user_item
from recsys_cli.pipeline.since import Since
from recsys_cli.serving import writes
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, address, facts, link, listed, search, section, table, tag
from recsys_cli.serving.dashboard.requests import funnel
from recsys_cli.serving.dashboard.visit import Redirect, Visit
from recsys_cli.serving.dashboard.words import age, person, titled
from recsys_cli.serving.lookups import explained
from recsys_cli.serving.routes import Call
from recsys_cli.serving.structs import Item, Slate

if TYPE_CHECKING:
    from recsys_cli.answers.why_not import WhyNot
    from recsys_cli.serving.live import Live
LISTED = 10
LATELY = 20


async def page(visit: Visit) -> Page | Redirect:
    """Asks for a user; those who were active last are offered."""
    if visit.query.get("id"):
        return Redirect(address("users", visit.query["id"]))
    live = visit.service.live
    ids = live.engine.bundle.user_ids.external(live.lately_active(LATELY))
    lately = dict.fromkeys(a.user_id for a in visit.service.lately.latest(200) if a.user_id is not None)
    body = [
        search("User", address("users"), "id"),
        section("Asked lately", listed([person(u) for u in list(lately)[:LATELY]]) if lately else "nobody yet"),
        section("Active last in the data", listed([person(str(u)) for u in ids])),
    ]
    return Page("Users", body, "users")


async def one(visit: Visit) -> Page:
    """What is known of a user, and what they would be shown now."""
    user, service = visit.params[0], visit.service
    slate = await service.preview(user, LISTED)
    try:
        known = await writes.get_user(Call(service, {"user_id": user}, {}, b"", {}))
    except UnknownIdError:
        known = None
    body: list[Part] = [_known(visit, user, known), await _slate(visit, slate)]
    body += [await _next_click(visit, user, slate), await _why_not(visit, user), await funnel(visit, user)]
    return Page(f"User {user}", body, "users")


def _known(visit: Visit, user: str, known) -> Part:
    live, memory = visit.service.live, visit.service.people.memory(user)
    if known is None:
        return "Neither the run nor the log knows this user: a stranger is shown what is popular."
    head = {"known to the run": known.known, "follows": len(known.follows), "blocks and mutes": len(known.blocks),
            "turned down": len(memory.hidden), "last event": age(memory.latest / 1e6) if memory.latest else "none"}
    session = [{"item": titled(live, item), "what": kind, "when": age(at / 1e6)}
               for item, kind, at in reversed(memory.session[-LATELY:])]
    attributes = [{"name": str(name), "value": str(value)} for name, value in known.attributes.items()]
    answers = [
        {"request": link(a.request_id, "requests", a.request_id), "when": age(a.time / 1e6), "served": len(a.items),
         "engaged": len(a.engaged)} for a in visit.desk.tally.latest(LATELY, user)
    ]
    return [
        facts(head),
        section("History", listed([titled(live, str(item)) for item in known.history[:LATELY]])
                if known.history else "nothing yet", note="Engaged with, the latest first."),
        section("Session", table({"item": "item", "what": "what", "when": "when"}, session, "the session that goes on"))
        if session else None,
        section("Answers", table({"request": "request", "when": "when", "served": "served", "engaged": "engaged with"},
                                 answers, "answers to this user")) if answers else None,
        section("Attributes", table({"name": "attribute", "value": "value"}, attributes, "told by events"))
        if attributes else None,
    ]


async def _slate(visit: Visit, slate: Slate) -> Part:
    note = "What would be answered now; this counts nowhere."
    if slate.fallback:
        note += f" It is not the user's own list: {slate.fallback}."
    return section("List", slate_table(visit, slate.items, "the list"), note=note)


def slate_table(visit: Visit, items: list[Item], caption: str) -> Part:
    """Items of a list with titles, sources, reasons and predictions."""
    rows = [{
        "rank": item.rank, "item": titled(visit.service.live, str(item.item_id)), "sources": ", ".join(item.sources),
        "reason": item.reason or "", "score": item.score,
        "predictions": _likely(item.predictions),
    } for item in items]
    columns = {"rank": "rank", "item": "item", "sources": "sources", "reason": "reason", "score": "score",
               "predictions": "predictions"}
    return table(columns, rows, caption, "nothing can be shown")


def _likely(predictions: dict[str, float]) -> str:
    """The three likeliest actions, and the seconds that are expected."""
    actions = sorted((v, name) for name, v in predictions.items() if name != "dwell_seconds" and v > 0)[:-4:-1]
    seconds = predictions.get("dwell_seconds", 0.0)
    told = [f"{name} {value:.2g}" for value, name in actions] + ([f"{seconds:.3g} s"] if seconds else [])
    return ", ".join(told)


async def _next_click(visit: Visit, user: str, slate: Slate) -> Part:
    """What a click would change, without a click."""
    clicked = visit.query.get("click", "")
    note = "What the list would be, had the user just engaged with an item. Nothing is recorded."
    form = search("Item", address("users", user), "click", clicked, "Try")
    if not clicked:
        return section("Try the next click", form, note=note)
    live = visit.service.live
    position = live.trained.bundle.item_ids.position(clicked)
    if position < 0:
        raise UnknownIdError(f"Item {clicked!r} is not in the run")
    known = visit.service.people.known(live, user)
    since = (known.since if known is not None else None) or Since()
    then = await visit.service.preview(user, LISTED, replace(since, history=(*since.history, position)))
    before = {str(item.item_id) for item in slate.items}
    new = [item for item in then.items if str(item.item_id) not in before]
    told = f"{len(new)} of {len(then.items)} items are new to the list."
    return section("Try the next click", form, told, slate_table(visit, then.items, f"the list after {clicked}"),
                   note=note)


async def _why_not(visit: Visit, user: str) -> Part:
    """Why an item is not shown to the user, stage by stage, and what the rankers see of both."""
    item, live = visit.query.get("item", ""), visit.service.live
    form = search("Item", address("users", user), "item", item, "Why, or why not?")
    if not item:
        return section("Why not this item?", form)
    now = await explained(visit.service, user, item)
    head: dict[str, Part] = {
        "item": titled(live, item), "score": now.score, "rank in the pool": now.rank, "pool": now.pool,
        "sources": ", ".join(now.sources) or "none", "kept back by": ", ".join(now.hidden_by) or "nothing",
    }
    head |= {name.replace("_", " "): value for name, value in now.predictions.items()}
    trained = live.trained.bundle
    if trained.user_ids.position(user) < 0:
        return section("Why not this item?", form, facts(head), now.reason)
    told, features = await asyncio.gather(
        visit.desk.worked_out(("why_not", live.run, user, item), lambda: live.trained.why_not(user, item)),
        asyncio.to_thread(_features, live, user, item),
    )
    return section(
        "Why not this item?", form, facts(head), now.reason,
        "is being worked out; look again in a moment" if told is None else _stages(told),
        tag("details", tag("summary", f"What the rankers see of both: {len(features)} features"),
            table({"name": "feature", "reading": "reads", "value": "value", "meaning": "meaning"}, features,
                  "features as of the training")),
    )


def _features(live: Live, user: str, item: str) -> list[dict[str, Part]]:
    """Features of a user and an item in words."""
    engine = live.trained
    pair = inspect_user_item(engine, user, item, Context(now=engine.state.now), None)
    return pair.rows(engine.bundle.catalogue.names)


def _stages(told: WhyNot) -> Part:
    lost = [] if told.lost is None else [told.lost, *told.then]
    reasons = [f"{loss.stage}: {loss.why}; {loss.differ}" for loss in lost]
    rows = [{"stage": s.stage, "there": s.there, "rank": s.rank, "candidates": s.candidates} for s in told.steps]
    columns = {"stage": "stage", "there": "there", "rank": "place", "candidates": "candidates"}
    return [
        f"With what the run was trained on it stands at place {told.rank}." if told.rank else listed(reasons),
        table(columns, rows, "the way of the item through the stages, as of the training"),
    ]
