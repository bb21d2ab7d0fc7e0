"""What is looked up of users and items one at a time: likeness, reasons, features."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import six_digits
from recsys_cli.answers.reasons import label_of, reasons_of
from recsys_cli.errors import UnknownIdError
from recsys_cli.serving.answers import predictions
from recsys_cli.serving.structs import Explained, Features, Id, Near, Nearest
from recsys_cli.serving.workers import Job

if TYPE_CHECKING:
    from recsys_cli.serving.live import Live
    from recsys_cli.serving.people import Known
    from recsys_cli.serving.service import Service
    from recsys_cli.slate_batch import SlateBatch


def nearest(live: Live, kind: str, id: str, n: int, source: str | None) -> Nearest:
    """Items like an item, or users like a user; raises UnknownIdError and UsageError."""
    ask = live.engine.similar_items if kind == "item" else live.engine.similar_users
    found = ask(id, n, source)
    listed = [Near(x.id, x.score, label_of(x.text) or None, x.interactions) for x in found.nearest]
    return Nearest(found.id, found.source, listed)


def _item(live: Live, item_id: Id) -> int:
    position = live.trained.bundle.item_ids.position(item_id)
    if position < 0:
        raise UnknownIdError(f"item {str(item_id)[:80]!r} is not in the run")
    return position


async def explained(service: Service, user_id: str, item_id: str) -> Explained:
    """Why somebody is, or is not, shown an item; raises UnknownIdError for an item that the run does not know."""
    live, arms = service.answering(service.arms(service.live, user_id))
    item, user = _item(live, item_id), live.user(user_id)
    known = service.people.known(live, user_id)
    since = None if known is None else known.since
    way = arms.overrides
    job = Job(user, (), since, overrides=way)
    own = await live.pools.get((user_id, way, ()), lambda: job, service.config.pool.build_seconds)
    pool = live.way(way).everybody(()) if own is None else own
    one = await asyncio.to_thread(live.build_now, replace(job, candidates=(item,)))
    at = np.flatnonzero(pool.items == item)
    out = Explained(user_id, item_id, live.run, pool=len(pool), hidden_by=_hidden_by(live, user, item, known))
    if len(at):
        out.rank = int(at[0]) + 1
    if not len(one):
        out.hidden_by.append("safety")
        return out
    batch = _batch(user, one)
    out.score = six_digits(one.scores["utility"][0])
    out.predictions = predictions(batch, 0, 1)[0]
    bits = int(pool.sources[at[0]]) if len(at) else 0
    out.sources = [name for bit, name in enumerate(live.engine.source_names) if bits >> bit & 1]
    if out.sources:
        out.reason = (await asyncio.to_thread(reasons_of, live.engine.answer_data, batch, 0, [out.sources]))[0]
    return out


def _batch(user: int, pool) -> SlateBatch:
    from recsys_cli.slate_batch import SlateBatch

    return SlateBatch(
        np.array([user], np.int32), pool.items[None], {n: s[None].astype(np.float32) for n, s in pool.scores.items()},
        pool.sources[None], [pool.fallback], [],
    )


def _hidden_by(live: Live, user: int, item: int, known: Known | None) -> list[str]:
    """What keeps an item from somebody: names of the filters of the run, and what they did since."""
    engine = live.trained
    state, one = engine.state, np.array([[item]], np.int32)
    out = []
    query = live.query(user)
    from recsys_cli.pipeline.candidates import Candidates
    from recsys_cli.pipeline.stage import Filter

    candidates = Candidates(one, np.zeros((1, 1), np.uint32), {})
    for stage in engine.stages.stages:
        if isinstance(stage, Filter) and stage.again and not stage.keep(query, candidates)[0, 0]:
            out.append(stage.name)
    if known is not None:
        if item in known.items:
            out.append("hidden_since" if item in known.hidden else "seen_since")
        if int(state.catalogue.item_author[item]) in known.authors:
            out.append("blocked_since")
    return out


def features_of(live: Live, user_id: str, item_id: str) -> Features:
    """What the rankers see of a user and an item with the counts of the run; raises UnknownIdError."""
    from recsys_cli.features.context import Context
    from recsys_cli.inspection import inspect_user_item

    engine = live.trained
    pair = inspect_user_item(engine, user_id, item_id, Context(now=engine.state.now), None)
    values = {
        feature.name: six_digits(value) if np.isfinite(value) else None
        for feature, value in zip(pair.features, pair.values.tolist(), strict=True)
    }
    return Features(pair.user, pair.item, live.run, engine.state.now, values)
