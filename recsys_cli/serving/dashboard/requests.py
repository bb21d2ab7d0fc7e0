"""Requests as they come, and one of them with its funnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_cli.errors import UnknownIdError
from recsys_cli.report import bar_chart
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.funnel import funnel_of
from recsys_cli.serving.dashboard.markup import Part, chart, facts, link, milliseconds, percent, section, table
from recsys_cli.serving.dashboard.visit import Visit
from recsys_cli.serving.dashboard.words import age, person, read_so_far, titled

if TYPE_CHECKING:
    from recsys_cli.pipeline.runner import StageRecord
    from recsys_cli.serving.dashboard.tally import Answer

SHOWN = 50
NAMED = 3
"""Sources of a request that its row names."""
WORKING = "is being worked out; look again in a moment"


async def page(visit: Visit) -> Page:
    """The latest requests, the newest first."""
    tally = visit.desk.tally
    answers = {answer.request_id: answer for answer in tally.latest(SHOWN * 4)}
    rows = []
    for answered in visit.service.lately.latest(SHOWN):
        answer = answers.get(answered.request_id)
        rows.append({
            "request": link(answered.request_id, "requests", answered.request_id), "user": person(answered.user_id),
            "when": age(answered.moment), "time": milliseconds(answered.seconds), "pool": answered.pool,
            "barred": answered.barred, "items": answered.items, "fallback": answered.fallback or "",
            **_outcome(answer),
        })
    columns = {"request": "request", "user": "user", "when": "when", "time": "time", "pool": "pool",
               "barred": "not to be shown", "items": "served", "shown": "shown", "engaged": "engaged with",
               "sources": "sources", "fallback": "fallback"}
    body = table(columns, rows, "the latest requests since the server started", "no request since the server started")
    return Page("Requests", [body, _of_log(visit) if not rows else None], "requests", 3)


def _outcome(answer: Answer | None) -> dict[str, Part]:
    if answer is None:
        return {"shown": None, "engaged": None, "sources": ""}
    names = list(dict.fromkeys(name for source in answer.sources for name in source.split("+") if name))
    told = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return {"shown": len(answer.shown), "engaged": len(answer.engaged), "sources": told}


def _of_log(visit: Visit) -> Part:
    """Answers of earlier servers, by the log."""
    rows = [
        {"request": link(a.request_id, "requests", a.request_id), "user": person(a.user_id),
         "when": age(a.time / 1e6), "items": len(a.items)} | _outcome(a)
        for a in visit.desk.tally.latest(SHOWN)
    ]
    columns = {"request": "request", "user": "user", "when": "when", "items": "served", "shown": "shown",
               "engaged": "engaged with", "sources": "sources"}
    note = read_so_far(visit.desk.tally, visit.desk.behind)
    return section("Earlier", table(columns, rows, "answers that the log tells of", "none"), note=note)


async def one(visit: Visit) -> Page:
    """One request: what was answered, what came of it, and how many candidates each stage left."""
    number = visit.params[0]
    answered, answer = visit.service.lately.get(number), visit.desk.tally.answer(number)
    if answered is None and answer is None:
        raise UnknownIdError(f"Request {number!r} is not remembered")
    live, user = visit.service.live, answered.user_id if answered is not None else answer.user_id
    head: dict[str, Part] = {"user": person(user), "when": age(answered.moment if answered else answer.time / 1e6)}
    if answered is not None:
        head |= {"time": milliseconds(answered.seconds), "pool": answered.pool, "not to be shown": answered.barred,
                 "served": answered.items, "fallback": answered.fallback or "none"}
    if answer is not None:
        head |= {"run": answer.run, "shown": len(answer.shown), "engaged with": len(answer.engaged),
                 "click-through": percent(len(answer.engaged), len(answer.shown))}
        head |= {"arm": answer.arm} if answer.arm else {}
    rows = [] if answer is None else [
        {"place": at, "item": titled(live, item), "sources": source.replace("+", ", "),
         "done": ", ".join(answer.done.get(item, [])) or ("shown" if item in answer.shown else "")}
        for at, (item, source) in enumerate(zip(answer.items, answer.sources, strict=True), 1)
    ]
    columns = {"place": "place", "item": "item", "sources": "sources", "done": "what the user did"}
    body = [
        facts(head),
        section("Answer", table(columns, rows, "items from the top", "items of sessions are not logged")),
        await funnel(visit, user) if user is not None else None,
    ]
    return Page(f"Request {number}", body, "requests")


async def funnel(visit: Visit, user: str) -> Part:
    """What each stage leaves of the candidates of a user, now."""
    service, live = visit.service, visit.service.live
    known = service.people.known(live, user)
    since = None if known is None else known.since
    position = live.user(user)
    records = await visit.desk.worked_out(
        ("funnel", live.run, user), lambda: funnel_of(live.trained, position, since), 10.0
    )
    note = "The whole pipeline, run for this user as of now with the run that is served; a request takes the pool."
    return section("Funnel", WORKING if records is None else drawn(records), note=note)


def drawn(records: list[StageRecord]) -> Part:
    """Stages with what they leave, as bars and as a table."""
    rows = [{"stage": r.name, "before": round(r.before, 1), "after": round(r.after, 1), "ms": round(r.ms, 2)}
            for r in records]
    picture = bar_chart([r.name for r in records], [r.after for r in records], title="Candidates behind each stage")
    columns = {"stage": "stage", "before": "before", "after": "behind", "ms": "ms"}
    return [chart(picture), table(columns, rows, "candidates a user before and behind each stage")]
