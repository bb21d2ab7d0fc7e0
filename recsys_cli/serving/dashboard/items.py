"""One item: who sees it, from which source, and how it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from recsys_cli.errors import RecsysError, UnknownIdError
from recsys_cli.serving import writes
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, address, facts, link, search, section, table
from recsys_cli.serving.dashboard.visit import Redirect, Visit
from recsys_cli.serving.dashboard.words import COUNTED, counted, person, read_so_far, titled
from recsys_cli.serving.lookups import nearest
from recsys_cli.serving.routes import Call

if TYPE_CHECKING:
    from recsys_cli.serving.dashboard.tally import ItemTally

SHOWN, ALIKE = 30, 10


async def page(visit: Visit) -> Page | Redirect:
    """Asks for an item; those that were shown most are offered."""
    if visit.query.get("id"):
        return Redirect(address("items", visit.query["id"]))
    live, tally = visit.service.live, visit.desk.tally
    rows = [{"item": titled(live, item)} | counted(held.counts) for item, held in tally.best_items(SHOWN)]
    body = [
        search("Item", address("items"), "id"),
        section("Shown most", table({"item": "item"} | COUNTED, rows, "items that were shown most", "none yet"),
                note=read_so_far(tally, visit.desk.behind)),
    ]
    return Page("Items", body, "items")


async def one(visit: Visit) -> Page:
    """What is known of an item."""
    item, service, tally = visit.params[0], visit.service, visit.desk.tally
    held = tally.items.get(item)
    try:
        known = await writes.get_item(Call(service, {"item_id": item}, {}, b"", {}))
    except UnknownIdError:
        if held is None:
            raise
        known = None
    head: dict[str, Part] = {}
    attributes: list[dict[str, Part]] = []
    if known is not None:
        head = {"known to the run": known.known, "interactions in the data": known.interactions,
                "impressions in the data": known.impressions}
        attributes = [{"name": str(n), "value": ", ".join(map(str, v)) if isinstance(v, list) else str(v)}
                      for n, v in known.attributes.items()]
    position = service.live.engine.bundle.item_ids.position(item)
    title = service.live.words.item(position)[2] if position >= 0 else None
    body = [
        title, facts(head) if head else "It is no longer among the items.",
        _outcomes(held, read_so_far(tally, visit.desk.behind)),
        section("Attributes", table({"name": "attribute", "value": "value"}, attributes, "what is known of it")),
        await _alike(visit, item) if known is not None and known.known else None,
    ]
    return Page(f"Item {item}", body, "items")


def _outcomes(held: ItemTally | None, note: str) -> Part:
    if held is None:
        return section("How it does", "It was served to nobody.", note=note)
    rows = [{"source": "all"} | counted(held.counts)]
    rows += [{"source": name} | counted(counts)
             for name, counts in sorted(held.sources.items(), key=lambda pair: -pair[1].served)]
    people = [{"user": person(user), "request": link(request, "requests", request)}
              for user, request in reversed(held.users)]
    return [
        section("How it does", table({"source": "source"} | COUNTED, rows, "from which source, and what came of it"),
                note=note),
        section("Who was shown it", table({"user": "user", "request": "request"}, people, "the latest first")),
    ]


async def _alike(visit: Visit, item: str) -> Part:
    try:
        found = await asyncio.to_thread(nearest, visit.service.live, "item", item, ALIKE, None)
    except RecsysError as error:
        return section("Items like it", error.message)
    rows = [{"item": titled(visit.service.live, str(near.id)), "score": near.score} for near in found.nearest]
    return section("Items like it", table({"item": "item", "score": "likeness"}, rows, f"by {found.source}"))
