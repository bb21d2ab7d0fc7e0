"""What is the same for every request of a pool is worked out once: the last checks, where nothing is drawn at random.

Behind a pool whose pipeline neither explores nor diversifies stand the last checks and the cut. The checks look at one
candidate at a time and say the same of it as long as the state is the same, so that they are run on the whole pool when
it is first asked for; a request then takes the first candidates that it does not exclude. These are the very stages,
and the slate is the one that they would make of the pool without what the request excludes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import Blocked, Fresh, LastChecks, Own, Published, Seen
from recsys_cli.pipeline.runner import Runner
from recsys_cli.serving.pooling import allowed_of, query_of, wanted, with_new
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.serving.pooling import Choice, Parts
    from recsys_cli.slate_engine import SlateEngine

ONE_BY_ONE = frozenset((Published, Fresh, Own, Blocked, Seen))
"""Filters that say of a candidate what they would say of it alone."""
NOTICE, PLACE = "interstitial", "place"


def looks_at_each_alone(parts: Parts) -> bool:
    """Whether the checks behind a pool may be made once for all of its requests."""
    checks = [stage for stage in parts.behind if isinstance(stage, LastChecks)]
    return parts.from_the_top and all(type(f) in ONE_BY_ONE for stage in checks for f in stage.filters)


def chosen_at_once(engine: SlateEngine, choice: Choice, parts: Parts, state: State) -> SlateBatch:
    """The slate of one request, where `looks_at_each_alone`; a batch of one."""
    pool, size = choice.pool, choice.size
    passed, notices = _passed(engine, choice, parts, state)
    free = allowed_of(engine, choice, pool.items if passed is None else pool.items[passed], parts)
    free = np.arange(min(size, len(pool) if passed is None else len(passed))) if free is None else free[:size]
    at = free if passed is None else passed[free]
    items = pool.items[at]  # a copy, as all columns: new items are put into them
    scores = {
        name: pool.scores[name][at].astype(np.float32, copy=False)
        for name in wanted(tuple(pool.scores), None if choice.explain else parts.read)
    }
    if notices is not None:
        scores[NOTICE] = notices[free]
    columns = [items, pool.sources[at], *scores.values()]
    if (missing := size - len(items)) > 0:
        columns = [np.pad(c, (0, missing), constant_values=-1 if c is items else 0) for c in columns]
    rows = [column[None] for column in columns]
    final = Candidates(rows[0], rows[1], dict(zip(scores, rows[2:], strict=True)))
    users, failures = np.array([choice.user], np.int32), []
    if parts.after:
        query = query_of(engine, users, size, None, np.array([choice.salt], np.int64), state)
        final, failures = Runner(query, final).run(parts.after), query.failures or []
    final = with_new(final, [choice])
    return SlateBatch(
        users=users, items=final.items, scores=final.scores, sources=final.sources, fallback=[pool.fallback],
        funnel=[], failures=failures,
    )


def _passed(
    engine: SlateEngine, choice: Choice, parts: Parts, state: State
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """uint16 places of the candidates of a pool that pass the last checks, None for all of them, and float32 what
    notices each of those gets, None where none does. Kept with the pool as long as it is asked for with the same
    parts."""
    pool = choice.pool
    held = pool.kept.get("passed")
    if held is not None and held[0] is parts.mark and held[1] == choice.user:
        return held[2], held[3]
    query = query_of(engine, np.array([choice.user], np.int32), choice.size, None, 0, state)
    places = np.arange(len(pool), dtype=np.uint16)
    checks = [stage for stage in parts.behind if isinstance(stage, LastChecks)]
    whole = Runner(query, Candidates(pool.items[None], pool.sources[None], {PLACE: places[None]})).run(checks)
    passed = whole.scores[PLACE][0]
    notices = whole.scores[NOTICE][0] if NOTICE in whole.scores and whole.scores[NOTICE].any() else None
    passed = None if len(passed) == len(pool) else passed.copy()
    pool.kept["passed"] = parts.mark, choice.user, passed, notices
    return passed, notices
