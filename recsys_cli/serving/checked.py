"""What is the same for every request of a pool is worked out once: the last checks, where nothing is drawn at random.

Behind a pool whose pipeline neither explores nor diversifies stand the last checks and the cut. The checks look at one
candidate at a time and say the same of it as long as the state is the same, so that they are run on the whole pool when
it is first asked for; a request then takes the first candidates that it does not exclude. These are the very stages,
and the slate is the one that they would make of the pool without what the request excludes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import Blocked, Fresh, LastChecks, Own, Published, Seen
from recsys_cli.pipeline.runner import Runner
from recsys_cli.serving.pooling import allowed_of, named, query_of, with_new
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.serving.pooling import Choice, Parts, Pool
    from recsys_cli.slate_engine import SlateEngine

ONE_BY_ONE = frozenset((Published, Fresh, Own, Blocked, Seen))
"""Filters that say of a candidate what they would say of it alone."""
NOTICE = "interstitial"


def looks_at_each_alone(parts: Parts) -> bool:
    """Whether the checks behind a pool may be made once for all of its requests."""
    checks = [stage for stage in parts.behind if isinstance(stage, LastChecks)]
    return parts.from_the_top and all(type(f) in ONE_BY_ONE for stage in checks for f in stage.filters)


def chosen_at_once(engine: SlateEngine, choice: Choice, parts: Parts, state: State) -> SlateBatch:
    """The slate of one request, where `looks_at_each_alone`; a batch of one."""
    pool, plain = _passed(engine, choice, parts, state)
    at, size = allowed_of(engine, choice, pool.items, parts), choice.size
    at = np.arange(min(size, len(pool))) if at is None else at[:size]
    items = pool.items[at]  # a copy, as all columns: new items are put into them
    missing = size - len(items)
    wanted = pool.scores if choice.explain else plain
    scores = {name: values[at].astype(np.float32, copy=False) for name, values in wanted.items()}
    columns = [items, pool.sources[at], *scores.values()]
    if missing > 0:
        columns = [np.pad(c, (0, missing), constant_values=-1 if c is items else 0) for c in columns]
    rows = [column[None] for column in columns]
    final = Candidates(rows[0], rows[1], dict(zip(scores, rows[2:], strict=True)))
    users, failures = np.array([choice.user], np.int32), []
    if parts.after:
        query = query_of(engine, users, size, None, np.array([choice.salt], np.int64), state)
        final, failures = Runner(query, final).run(parts.after), query.failures or []
    final = with_new(final, [choice])
    return SlateBatch(
        users=users, items=final.items, scores=final.scores, sources=final.sources, fallback=[choice.pool.fallback],
        funnel=[], failures=failures,
    )


def _passed(
    engine: SlateEngine, choice: Choice, parts: Parts, state: State
) -> tuple[Pool, dict[str, np.ndarray]]:
    """The pool without what the last checks take out, and those of its scores that are read where nothing is explained;
    kept with it as long as it is asked for with the same parts."""
    pool = choice.pool
    held = pool.kept.get("passed")
    if held is not None and held[0] is parts and held[1] == choice.user:
        return held[2], held[3]
    query = query_of(engine, np.array([choice.user], np.int32), choice.size, None, 0, state)
    names = {name: values[None] for name, values in pool.scores.items()}
    checks = [stage for stage in parts.behind if isinstance(stage, LastChecks)]
    whole = Runner(query, Candidates(pool.items[None], pool.sources[None], names)).run(checks)
    scores = {name: values[0] for name, values in whole.scores.items() if name in pool.scores}
    if NOTICE in whole.scores and whole.scores[NOTICE].any():
        scores[NOTICE] = whole.scores[NOTICE][0]
    passed = replace(pool, items=whole.items[0], sources=whole.sources[0], scores=scores)
    plain = {name: values for name, values in scores.items() if name == NOTICE or named(name, parts.read)}
    pool.kept["passed"] = parts, choice.user, passed, plain
    return passed, plain
