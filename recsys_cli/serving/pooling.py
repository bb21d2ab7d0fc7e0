"""The pipeline in two parts: a pool of scored candidates a user, and the slate that a request chooses from it.

A pool is what the stages up to the utility leave, with the predictions of every candidate. What a request does to it
(what was blocked, seen or served meanwhile, exploration, diversity, the last checks, the cut) are the very stages
behind the utility, run on every call, so that nothing of it is ever older than the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.creative_texts import CHOSEN
from recsys_cli.pipeline.filters import LastChecks
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.selection import Select
from recsys_cli.pipeline.stage import Hydrator, Source, Stage
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.features.context import Context
    from recsys_cli.slate_engine import SlateEngine

ANSWERED = ("utility", "light", "relevance", "safety_factor", "dwell", "p_")
"""Scores of a candidate that answers are made of, whole names or beginnings."""
EXACT = ("utility",)
"""Scores kept in float32; what nothing is ordered by is kept in half of it."""
NEW = "new"
"""1 for what events told of since the training, which no source could propose"""
HALF = 60_000.0
"""Largest number that float16 holds, rounded down."""
SPARE, SPARE_AT_LEAST = 2, 20
"""Times the size of a slate, and candidates more, that are looked at first where the checks go from the top."""


@dataclass(frozen=True)
class Pool:
    """The best scored candidates of one user, best first."""

    items: np.ndarray
    """int32[K]"""
    sources: np.ndarray
    """uint32[K]"""
    scores: dict[str, np.ndarray]
    """"utility" float32[K], what answers tell of a candidate float16[K]"""
    fallback: str | None = None
    """why popular items had to help"""
    failures: tuple[str, ...] = ()
    """what the pool was built without"""
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """what those who choose from it worked out of it"""

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def nbytes(self) -> int:
        """Bytes that it takes in memory, its own bookkeeping among them."""
        arrays = (self.items, self.sources, *self.scores.values())
        return sum(array.nbytes + 112 for array in arrays) + 2 * len(self.items) + 1_000

    def without(self, items: np.ndarray) -> Pool:
        """The pool without some items."""
        keep = ~np.isin(self.items, items)
        if keep.all():
            return self
        scores = {name: values[keep] for name, values in self.scores.items()}
        return replace(self, items=self.items[keep], sources=self.sources[keep], scores=scores)


@dataclass(frozen=True)
class Parts:
    """The stages of an engine on either side of a pool."""

    before: tuple[Stage, ...]
    """behind sourcing and filtering, up to the utility, and what says something of finished candidates"""
    behind: tuple[Stage, ...]
    """from the pool to the slate"""
    read: tuple[str, ...]
    """names or beginnings of scores that the stages behind look at"""
    from_the_top: bool
    """whether the stages behind pass over candidates one by one from the top, so that what stands far down a pool is of
    no interest to them"""
    after: tuple[Stage, ...]
    """those of them that say something of the finished slate alone"""
    barred: np.ndarray
    """bool[items], all False but while it is worked with"""
    mark: object = field(default_factory=object)
    """tells these from those of every other engine, for whoever must not hold on to them"""

    @classmethod
    def of(cls, engine: SlateEngine) -> Parts:
        stages = engine.stages
        # hydrators behind the utility tell of candidates, whichever are chosen: they are told of the whole pool once
        told = tuple(
            s for s in stages.selection
            if isinstance(s, Hydrator) and CHOSEN not in s.gives and not _reads_choices(s, stages.selection)
        )
        behind = tuple(s for s in stages.selection if s not in told)
        read = tuple(dict.fromkeys(name for stage in behind for name in stage.reads))
        cut = next((at for at, stage in enumerate(behind, 1) if isinstance(stage, Select)), len(behind))
        after = behind[cut:]
        from_the_top = all(type(stage) in (LastChecks, Select) for stage in behind[:cut])
        barred = np.zeros(engine.state.catalogue.n_items, bool)
        before = *stages.completion, *stages.ranking, *told
        return cls(before, behind, (*EXACT, *read), from_the_top, after, barred)

    def bars(self, held: np.ndarray, barred: np.ndarray) -> np.ndarray:
        """bool, as `held`: which of these items are among some others; both int32 positions. Costs as much as both
        together, whatever their order."""
        barred = barred[barred < len(self.barred)]  # items may have come since
        self.barred[barred] = True
        found = self.barred[held]
        self.barred[barred] = False
        return found


def _reads_choices(stage: Stage, selection: tuple[Stage, ...]) -> bool:
    """Whether a hydrator reads what another stage of the selection gives."""
    given = {name for other in selection if other is not stage for name in other.gives}
    return any(name in given for name in stage.reads)


def pool_engine(engine: SlateEngine, size: int) -> SlateEngine:
    """The engine whose ranking leaves `size` candidates a user."""
    pipeline = engine.pipeline
    changed = {
        "heavy": pipeline.heavy.model_copy(update={"keep": size}),
        "light": pipeline.light.model_copy(update={"keep": max(pipeline.light.keep, size)}),
    }
    return engine.with_pipeline(pipeline.model_copy(update=changed))


def build_pools(
    engine: SlateEngine, users: np.ndarray, context: Context | None = None, *, candidates: np.ndarray | None = None
) -> list[Pool]:
    """Pools of user positions int32[B], -1 for somebody unknown.

    context: of the requests, rows as users. candidates: int32[B, K] items of the caller, -1 empty, ranked in the place
    of what the sources propose. A score that is not finite takes its item out and is told in `Pool.failures`.
    """
    parts = Parts.of(engine)
    query = query_of(engine, users, engine.pipeline.slate_size, context)
    if candidates is None:
        runner = Runner(query)
        runner.run(engine.stages.sourcing)
        counts = runner.run(engine.stages.filtering).counts
        fallback = engine._fallback(query.users, counts, query.size)
    else:
        runner = Runner(query, _given(candidates))
        fallback = [None] * len(query)
    ready = runner.run(s for s in parts.before if candidates is None or not isinstance(s, Source))
    failures = tuple(str(failure) for failure in query.failures or ())
    return [_pool(ready, row, fallback[row], failures, (*ANSWERED, *parts.read)) for row in range(len(query))]


def _given(items: np.ndarray) -> Candidates:
    """Candidates of the caller, in the caller's order where nothing else orders them."""
    rank = np.broadcast_to(np.arange(items.shape[1], dtype=np.float32), items.shape)
    return Candidates(items, np.zeros(items.shape, np.uint32), {"rrf": (1 / (61 + rank)).astype(np.float32)})


def query_of(
    engine: SlateEngine, users: np.ndarray, size: int, context: Context | None = None, salt: Any = 0,
    state: State | None = None,
) -> Query:
    """What stages are asked with by a server: what fails is left out and told."""
    from recsys_cli.features.context import Context

    return Query(
        users=np.asarray(users, np.int32), size=size, bundle=engine.bundle,
        state=engine.state if state is None else state,
        snapshot=engine.snapshot, context=Context(now=engine.state.now) if context is None else context,
        seed=engine.seed, salt=salt, failures=[],
    )


def _pool(ready: Candidates, row: int, fallback: str | None, failures: tuple[str, ...], kept: tuple[str, ...]) -> Pool:
    held = ready.items[row] >= 0
    scores = {
        name: values[row][held] for name, values in ready.scores.items()
        if named(name, kept)
    }
    sound = np.isfinite(scores["utility"])
    if not sound.all():
        failures = (*failures, f"{int((~sound).sum())} scores were not finite and their items are left out")
    packed = {
        name: values[sound].astype(np.float32) if name in EXACT
        else np.clip(np.nan_to_num(values[sound]), -HALF, HALF).astype(np.float16)
        for name, values in scores.items()
    }
    return Pool(
        ready.items[row][held][sound].astype(np.int32), ready.sources[row][held][sound], packed, fallback, failures
    )


@lru_cache(1_000)
def wanted(names: tuple[str, ...], read: tuple[str, ...] | None) -> tuple[str, ...]:
    """Those of some names of scores that are read; None reads all."""
    return tuple(name for name in names if read is None or named(name, read))


def named(name: str, names: tuple[str, ...]) -> bool:
    """Whether a score is among some names or begins as one of them that ends with "_"."""
    return any(name == k or (k.endswith("_") and name.startswith(k)) for k in names)


@dataclass(frozen=True)
class Choice:
    """What one request asks of its pool."""

    user: int
    """position, -1 for somebody that the run does not know"""
    pool: Pool
    size: int
    salt: int = 0
    items: np.ndarray | None = None
    """int32 items that must not be shown, in any order"""
    authors: np.ndarray | None = None
    """int32 authors that must not be shown"""
    explain: bool = False
    """whether the predictions are wanted of what is chosen"""
    new: np.ndarray | None = None
    """int32 items that no model knows, the best first: one stands at every `every`-th place"""
    every: int = 0


def choose(
    engine: SlateEngine, choices: Sequence[Choice], parts: Parts | None = None, state: State | None = None
) -> SlateBatch:
    """Slates of several requests that ask for the same number of items.

    parts: those of the engine, where they are at hand. state: in the place of the engine's.
    """
    parts = Parts.of(engine) if parts is None else parts
    query = query_of(
        engine, np.array([c.user for c in choices], np.int32), choices[0].size, None,
        np.array([c.salt for c in choices], np.int64), state,
    )
    allowed = _allowed(engine, choices, parts)
    first = SPARE * query.size + SPARE_AT_LEAST
    if parts.from_the_top and allowed.items.shape[1] > first:
        runner = Runner(query, _top(allowed, first))
        final = runner.run(parts.behind)
        short = (final.items < 0).any(axis=1) & (allowed.items[:, first] >= 0)
    else:
        short = np.ones(1, bool)
    if short.any():
        runner = Runner(query, allowed)
        final = runner.run(parts.behind)
    final = with_new(final, choices)
    return SlateBatch(
        users=query.users, items=final.items, scores=final.scores, sources=final.sources,
        fallback=[c.pool.fallback for c in choices], funnel=runner.records, failures=query.failures or [],
    )


def _top(candidates: Candidates, width: int) -> Candidates:
    """The first of each row."""
    scores = {name: values[:, :width] for name, values in candidates.scores.items()}
    return Candidates(candidates.items[:, :width], candidates.sources[:, :width], scores)


def with_new(final: Candidates, choices: Sequence[Choice]) -> Candidates:
    """Slates with new items at their places, which no stage before could weigh against the others; score NEW tells
    which."""
    if not any(choice.new is not None and choice.every for choice in choices):
        return final
    new_at = np.zeros(final.items.shape, np.float32)
    for row, choice in enumerate(choices):
        if choice.new is None or not choice.every:
            continue
        there = final.items[row]
        new = choice.new[~np.isin(choice.new, there)]
        places = range(choice.every - 1, min(int((there >= 0).sum()) + 1, len(there)), choice.every)
        for at, item in zip(places, new.tolist(), strict=False):
            for values, there in ((final.items, item), (final.sources, 0)):
                values[row, at + 1 :], values[row, at] = values[row, at:-1].copy(), there
            for name, values in final.scores.items():
                there = values[row, max(at - 1, 0)] if name == "utility" else 1 if name == "propensity" else 0
                values[row, at + 1 :], values[row, at] = values[row, at:-1].copy(), there
            new_at[row, at] = 1
    return final.with_scores(**{NEW: new_at})


def _allowed(engine: SlateEngine, choices: Sequence[Choice], parts: Parts) -> Candidates:
    """The pools side by side, without what each request excludes, each moved up to the top."""
    explain = any(c.explain for c in choices)
    rows = [allowed_of(engine, choice, choice.pool.items, parts) for choice in choices]
    lengths = [len(c.pool) if at is None else len(at) for c, at in zip(choices, rows, strict=True)]
    read = None if explain else parts.read
    names = dict.fromkeys(name for c in choices for name in wanted(tuple(c.pool.scores), read))
    shape = (len(choices), max(lengths, default=0))
    items, sources = np.full(shape, -1, np.int32), np.zeros(shape, np.uint32)
    scores = {name: np.zeros(shape, np.float32) for name in names}
    for row, (choice, at, length) in enumerate(zip(choices, rows, lengths, strict=True)):
        pool, at = choice.pool, slice(None) if at is None else at
        items[row, :length], sources[row, :length] = pool.items[at], pool.sources[at]
        for name, values in scores.items():
            if name in pool.scores:
                values[row, :length] = pool.scores[name][at]
    return Candidates(items, sources, scores)


def allowed_of(engine: SlateEngine, choice: Choice, held: np.ndarray, parts: Parts) -> np.ndarray | None:
    """int64 places of int32[K] items that a request does not exclude; None for all."""
    out = None
    if choice.items is not None and len(choice.items):
        out = parts.bars(held, choice.items)
    if choice.authors is not None and len(choice.authors):
        theirs = np.isin(engine.state.catalogue.item_author[held], choice.authors)
        out = theirs if out is None else out | theirs
    return None if out is None or not out.any() else np.flatnonzero(~out)


def context_key(values: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """A request's context as part of the key of a pool."""
    return tuple(sorted((name, str(value)) for name, value in (values or {}).items()))


def by_popularity(engine: SlateEngine, items: tuple[int, ...]) -> Pool:
    """Items of the caller as a pool, ordered by how often they were engaged with."""
    held = np.array(items, np.int32)
    values = engine.state.interactions[held].astype(np.float32)
    order = np.argsort(-values, kind="stable")
    return Pool(held[order], np.zeros(len(held), np.uint32), {"utility": values[order]})
