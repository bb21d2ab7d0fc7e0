"""The caller's own candidates, put into the order of a user's utility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.serving.answers import PENDING, items_of, request_id
from recsys_cli.serving.pooling import Pool, by_popularity
from recsys_cli.serving.structs import Id, Item, RankAsk, Slate
from recsys_cli.serving.workers import Job
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.serving.live import Live
    from recsys_cli.serving.service import Service


async def ranked(service: Service, user_id: Id, ask: RankAsk) -> Slate:
    """The caller's items in the order of the user's utility; those that nobody knows or that must not be shown stand at
    the end, as they came."""
    live, user = service.live, str(user_id)
    context = live.context(ask.surface, ask.device, ask.context)
    known_of = service.people.known(live, user)
    unique = list(dict.fromkeys(map(str, ask.items)))
    positions = live.trained.bundle.item_ids.positions(unique)
    known = tuple(positions[positions >= 0].tolist())
    job = Job(live.user(user), context, None if known_of is None else known_of.since, known)
    pool = await live.pools.once(job, service.config.pool.build_seconds) if known and live.workers else None
    number, fallback = request_id(), None
    if pool is None:
        pool, fallback = by_popularity(live.engine, known), None if not known else PENDING
    if known_of is not None and len(known_of.hidden):
        pool = pool.without(known_of.hidden)
    listed = _listed(live, live.user(user), pool, ask.explain)
    place = {str(item.item_id): i for i, item in enumerate(listed)}
    rest = [i for i in unique if i not in place]
    originals = {str(i): i for i in ask.items}
    listed += [Item(originals[i], len(listed) + at) for at, i in enumerate(rest, 1)]
    service.note(fallback)
    return Slate(number, live.run, listed, user_id, fallback)


def _listed(live: Live, user: int, pool: Pool, explain: bool) -> list[Item]:
    """A whole pool as items, in its order."""
    batch = SlateBatch(
        np.array([user], np.int32), pool.items[None], {n: s[None] for n, s in pool.scores.items()},
        pool.sources[None], [pool.fallback], [],
    )
    return items_of(live.words, batch, 0, explain=explain)
