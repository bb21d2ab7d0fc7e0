"""Lists of a batch of test users by every system, and what came to pass in the funnel: the part of an evaluation that
tasks do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.figures import interval
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.lists import source_lists
from recsys_cli.evaluation.losses import FATES, fates
from recsys_cli.pipeline.config import OrderConfig

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.pipeline.runner import StageRecord
    from recsys_cli.slate_batch import SlateBatch


class Told(NamedTuple):
    """What came to pass in the funnel of a batch."""

    found: np.ndarray
    """float64[B] share of what was to be found that was sourced"""
    counts: np.ndarray
    """int[B] candidates"""
    fates: np.ndarray
    """float64[B, FATES]"""
    fallback: Counter[str]
    """reason → users"""
    funnel: list[StageRecord]

    @classmethod
    def of(cls, part: Truth, batch: SlateBatch) -> Told:
        """part: what was to be found, of the users of the batch."""
        found = rm.hits(batch.sourced.items, part.relevant).sum(axis=1) / part.relevant.lengths
        fallback = Counter(reason for reason in batch.fallback if reason is not None)
        return cls(found, batch.sourced.counts, fates(part.relevant, batch), fallback, batch.funnel)


class Asked(NamedTuple):
    """What the tasks of an evaluation have in common."""

    truth: Truth
    width: int
    """length of list"""
    reduced: dict[str, str]
    """name → simpler order, in which what the filters left is ranked too"""


class BatchLists(NamedTuple):
    """Lists of the users of a batch, in their order."""

    served: Served
    told: Told | None
    """None for people who turned to nothing"""
    reduced: dict[str, Served]
    sources: dict[str, np.ndarray]
    """source → int32[B, width]"""


def lists_of_batch(engine: RecommendationEngine, asked: Asked, batch: tuple[np.ndarray, np.ndarray]) -> BatchLists:
    """Lists by the pipeline, itself in simpler orders, and every source.

    engine: as of the start of the test window. batch: (int32[B] users, int[B] places among the test users; none where
    they turned to nothing).
    """
    users, places = batch
    width, slots = asked.width, engine.pipeline.slate_size
    served = engine.slates(users, keep_sourced=True)
    reduced = {}
    for name, order in asked.reduced.items():
        pipeline = engine.pipeline.model_copy(update={"order": OrderConfig(known=order, new=order)})
        # the same sources and filters: what they left is ranked in another way
        ranked = engine.with_pipeline(pipeline).slates(users, keep_sourced=True, hydrated=served.hydrated)
        reduced[name] = Served.of(ranked, width, slots)
    size = engine.pipeline.batch_size  # also here: how many are asked about at once may change how scores round
    sources = {
        name: np.concatenate([
            source_lists(retriever, engine.state, users[i : i + size], width, repeats=engine.repeats)
            for i in range(0, len(users), size)
        ])
        for name, retriever in engine.bundle.retrievers.items()
    }  # fmt: skip
    told = Told.of(asked.truth.take(places), served) if len(places) else None
    return BatchLists(Served.of(served, width, slots), told, reduced, sources)


@dataclass
class Served:
    """What a pipeline gave the test users."""

    ranking: np.ndarray
    """int32[U, width] the order by utility, before exploration, caps and safety"""
    slates: np.ndarray
    """int32[U, n] slates as served"""
    sources: np.ndarray
    """uint32[U, n] of `slates`"""
    lists: np.ndarray
    """int32[U, width] the one list that every k is measured on: the slate, then the ranking without its items"""

    @classmethod
    def empty(cls, users: int, width: int, slots: int) -> Served:
        """Room for so many users, lists of `width` and slates of `slots` items, all slots empty (-1)."""
        return cls(
            np.full((users, width), -1, np.int32), np.full((users, slots), -1, np.int32),
            np.zeros((users, slots), np.uint32), np.full((users, width), -1, np.int32),
        )

    def first(self, n: int) -> Served:
        """What the first n users were given."""
        return Served(self.ranking[:n], self.slates[:n], self.sources[:n], self.lists[:n])

    @classmethod
    def of(cls, batch: SlateBatch, width: int, slots: int) -> Served:
        """What a batch was given, whose ranking was kept."""
        out = cls.empty(len(batch.users), width, slots)
        out.slates[:], out.sources[:] = batch.items, batch.sources
        ranked = batch.ranked.items[:, :width]
        out.ranking[:, : ranked.shape[1]] = ranked
        behind = (ranked >= 0) & ~(ranked[:, :, None] == batch.items[:, None, :]).any(axis=2)
        order = np.argsort(~behind, axis=1, kind="stable")
        rest = np.where(np.take_along_axis(behind, order, 1), np.take_along_axis(ranked, order, 1), -1)
        both = np.concatenate([batch.items, rest], axis=1)[:, :width]
        out.lists[:, : both.shape[1]] = both
        return out

    def put(self, places: np.ndarray, part: Served) -> None:
        """Write down what some were given. places: int[B] their rows here; part: theirs alone, in that order."""
        for mine, theirs in zip(self._arrays, part._arrays, strict=True):
            mine[places] = theirs

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.ranking, self.slates, self.sources, self.lists


@dataclass
class Account:
    """What came to pass within the funnel, batch by batch."""

    truth: Truth
    resamples: int
    seed: int
    fallback: dict[str, int] = field(default_factory=dict)
    stages: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.truth.users)
        self.found, self.counts, self.fates = np.zeros(n), np.zeros(n), np.zeros((n, len(FATES)))

    def take(self, places: np.ndarray, told: Told) -> None:
        """Write down what came to pass in a batch. places: int[B] rows of its users among the test users."""
        self.found[places], self.counts[places], self.fates[places] = told.found, told.counts, told.fates
        for reason, users in told.fallback.items():
            self.fallback[reason] = self.fallback.get(reason, 0) + users
        for r in told.funnel:
            row = self.stages.setdefault(r.name, np.zeros(3))
            row += np.array([r.before * len(places), r.after * len(places), r.ms])

    def sourced(self) -> dict[str, Any]:
        """Candidates a user, and the recall of all sources together."""
        mean, low, high = bootstrap_means(
            self.found[:, None], resamples=self.resamples, seed=self.seed, unit=True
        )
        return {"candidates": round(float(self.counts.mean()), 1), "recall": interval(mean[0], low[0], high[0])}

    def funnel(self) -> list[dict[str, Any]]:
        """Each stage with candidates in and out and milliseconds a user."""
        out = []
        for name, row in self.stages.items():
            before, after, ms = row / len(self.found)
            out.append({"stage": name, "in": round(before, 2), "out": round(after, 2), "ms_per_user": ms})
        return out
