"""What a stage is: six kinds, as in X's published candidate pipeline, and what each of them may do to candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeGuard

import numpy as np
from pydantic import ConfigDict

from recsys_cli.config import Section
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

__all__ = [
    "Candidates", "Filter", "Hydrator", "Query", "Scorer", "Selector", "SideEffect", "Source", "Stage", "StageConfig",
]


class StageConfig(Section):
    """Settings of a stage that `pipeline.stages` adds; each kind has its own."""

    model_config = ConfigDict(defer_build=True)  # built once, within the settings of the pipeline
    kind: str


class Stage:
    """One step from a query to its slates. Write one of the six kinds below, not this.

    A stage is called with the query and the candidates of all its users at once, and gives the candidates that the
    next one gets. It keeps nothing between two calls and never changes arrays that it was given.
    """

    name: str = ""
    """What it is called in `pipeline.sequence`, in --without, in the funnel and in the trace."""
    config_type: ClassVar[type[StageConfig]] = StageConfig
    """Settings of its kind, where `pipeline.stages` can add it; it is made with them alone."""
    reads: tuple[str, ...] = ()
    """Scores that it looks at; whatever gives one of them has to stand before it. "z_" stands for all "z_<source>"."""
    gives: ClassVar[tuple[str, ...]] = ()
    """Scores that it adds."""
    needed: bool = False
    """Whether there is no slate without it, so that a request cannot leave it out."""
    may_fail: ClassVar[bool] = False
    """Whether a request goes on without it where it raises."""
    asks: ClassVar[tuple[str, ...]] = ()
    """What it reads of a request that a request need not have: "adventure", "served"."""
    before: ClassVar[str] = ""
    """The stage of the usual sequence before which it stands, where that is not the place of its kind."""
    notes: tuple[str, ...] = ()
    """What it could not take as it was given."""
    aside: bool = False
    """Whether the data lacks what it needs, so that it takes part in no request."""

    def __init__(self, config: StageConfig | None = None):
        self.config = config

    def prepare(self, bundle: Bundle) -> str | None:
        """Look up what its settings name, once, as a pipeline of `pipeline.stages` is built.

        Returns what the data lacks for it, as "needs items with a language": it then steps aside, and its notes say
        so. Raises ConfigError for a name that is not there.
        """
        return None

    def followed_by(self, stages: Sequence[Stage]) -> None:
        """Told once, when a pipeline is built: the stages behind this one."""

    def enabled(self, query: Query) -> bool:
        """Whether it takes part in a request."""
        return True

    def active(self, query: Query) -> bool:
        """Whether it takes part in a request and the request does not leave it out."""
        return not self.aside and (self.needed or self.name not in query.without) and self.enabled(query)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        raise NotImplementedError(f"{type(self).__name__} is none of the kinds of stages")


class Source(Stage):
    """Adds candidates: gives those it got and further ones, each item once a user, with their score "rrf".

    One that raises adds nothing, and the answer says so.
    """

    may_fail = True


class Hydrator(Stage):
    """Adds what is known of the candidates, and leaves them in their slots.

    One that raises adds nothing, and the answer says so: what reads its scores has to do without them.
    """

    may_fail = True

    def scores(self, query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
        """Name → float32[B, K] of the candidates' slots."""
        raise NotImplementedError

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        found = self.scores(query, candidates)
        for name, values in found.items():
            if values.shape != candidates.items.shape:
                raise ValueError(f"score {name!r} has shape {values.shape}, the candidates {candidates.items.shape}")
        return candidates.with_scores(**found)


class Filter(Stage):
    """Takes candidates out. One that raises stops the request: what it would have hidden must not be shown."""

    again: ClassVar[bool] = True
    """Whether what comes later passes it as well: what fills up short lists, and the finished slate with its reserve.
    Not for those that look at more than one candidate at a time."""

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        """bool[B, K]: which candidates stay. What it says of empty slots does not matter."""
        raise NotImplementedError

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        return candidates.keep(candidates.filled & self.keep(query, candidates))


class Scorer(Stage):
    """Gives candidates scores, and may put them into the order of one and cut the list; adds no candidates."""


class Selector(Stage):
    """Picks and orders candidates for the slate; adds none and gives none twice."""

    final: ClassVar[bool] = False
    """Whether what it leaves is the slate."""
    last: ClassVar[bool] = False
    """Whether others that are added stand before it, unless the settings say otherwise."""


class SideEffect(Stage):
    """Does something with the finished slate, such as to record it, and changes nothing of it.

    One that raises leaves the slate as it is, and the answer says so.
    """

    may_fail = True

    def act(self, query: Query, slate: Candidates) -> None:
        """slate: [B, size], -1 where it is short."""
        raise NotImplementedError

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        self.act(query, candidates)
        return candidates


def passing(filters: Sequence[Filter], query: Query, candidates: Candidates) -> Candidates:
    """The candidates that pass all filters which take part in the request."""
    active = [stage for stage in filters if stage.active(query)]
    if any(not sifts(stage) for stage in active):
        for stage in active:
            candidates = stage(query, candidates)
        return candidates
    return candidates.keep(sift(active, query, candidates, lambda stage, kept: None))


def sifts(stage: Stage) -> TypeGuard[Filter]:
    """Whether a stage is a filter that only says which candidates stay, so that several can be taken together."""
    return isinstance(stage, Filter) and type(stage).__call__ is Filter.__call__


def sift(
    filters: Sequence[Filter], query: Query, candidates: Candidates, done: Callable[[Filter, np.ndarray], object]
) -> np.ndarray:
    """bool[B, K]: which candidates pass all filters, each of which is given what those before it left, with holes.

    To move every column up after each filter would cost more than the filters. done: told of each filter and of what
    passed.
    """
    kept, left = candidates.filled, candidates
    for stage in filters:
        now = kept & stage.keep(query, left)
        if np.count_nonzero(now) != np.count_nonzero(kept):
            left = replace(candidates, items=np.where(now, candidates.items, np.int32(-1)))
        kept = now
        done(stage, kept)
    return kept
