"""What travels through the pipeline: candidates of a batch of users, in columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from recsys_cli.hashing import mix

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.features.context import Context
    from recsys_cli.features.snapshot import Snapshot
    from recsys_cli.pipeline.bundle import Bundle


@dataclass(frozen=True)
class Query:
    """One request for a batch of B users at one moment."""

    users: np.ndarray
    """int32[B] positions, -1 for somebody unknown"""
    size: int
    """items a slate"""
    bundle: Bundle
    state: State
    snapshot: Snapshot
    context: Context
    seed: int
    salt: int = 0
    """changes what exploration draws from one request of a user to the next"""
    journal: list | None = None
    """takes what the safety policy did (`safety.policy.Actions`); None where nobody will read it"""

    def __len__(self) -> int:
        return len(self.users)

    def uniform(self, columns: int, purpose: int) -> np.ndarray:
        """float64[B, columns] uniform draws in [0, 1) that depend on the user, the seed, the salt and the
        purpose only, so that a user gets the same alone and in a batch."""
        keys = self.users.astype(np.int64).view(np.uint64)
        base = mix(keys + mix(np.array([self.seed * 1_000_003 + self.salt * 8191 + purpose], np.int64).view(np.uint64)))
        grid = mix(base[:, None] + np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        return (grid >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Candidates:
    """Candidates of B users in K slots each.

    items: int32[B, K], -1 where a slot is empty. sources: uint32[B, K], bit s is set where source s
    proposed the item. scores: name → float32[B, K] ("light", "utility", "p_like", "sim_als", ...).
    Each stage leaves filled slots first, best first where it ranks.
    """

    items: np.ndarray
    sources: np.ndarray
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def filled(self) -> np.ndarray:
        """bool[B, K]"""
        return self.items >= 0

    @property
    def counts(self) -> np.ndarray:
        """int64[B] filled slots a user"""
        return self.filled.sum(axis=1)

    def take(self, columns: np.ndarray) -> Candidates:
        """Candidates in the given slots; columns: int[B, J], -1 leaves a slot empty."""
        empty = columns < 0
        width = self.items.shape[1]
        # one flat index serves every column: a gather a column along the axis costs several times as much
        at = np.maximum(columns, 0) + np.arange(len(self.items))[:, None] * width
        holes = bool(empty.any())

        def pick(a: np.ndarray, filler) -> np.ndarray:
            if not width:
                return np.full(columns.shape, filler, a.dtype)
            out = a.reshape(-1)[at]
            if holes:
                out[empty] = filler
            return out

        return Candidates(pick(self.items, -1), pick(self.sources, 0), {k: pick(v, 0) for k, v in self.scores.items()})

    def rows(self, rows: slice) -> Candidates:
        """Candidates of some of the users."""
        return Candidates(self.items[rows], self.sources[rows], {k: v[rows] for k, v in self.scores.items()})

    def keep(self, mask: np.ndarray) -> Candidates:
        """Only slots where mask [B, K] holds, moved to the front in their order; width is that of the
        longest row."""
        if mask.all():
            return self
        width = int(mask.sum(axis=1).max(initial=0))
        order = np.argsort(~mask, axis=1, kind="stable")[:, :width]
        order[~np.take_along_axis(mask, order, axis=1)] = -1
        return self.take(order)

    def best(self, name: str, k: int) -> Candidates:
        """The k best by a score, best first; equal scores go to the lower item position.

        Scores are compared after rounding to six significant digits, so that the last bits in which a
        matrix product of another shape differs cannot turn the order.
        """
        score = np.where(self.filled, significant(self.scores[name]), -np.inf)
        order = np.lexsort((self.items, -score), axis=1)[:, :k]
        order[~np.take_along_axis(self.filled, order, axis=1)] = -1
        return self.take(order)

    def with_scores(self, **scores: np.ndarray) -> Candidates:
        return replace(self, scores={**self.scores, **scores})


def significant(values: np.ndarray) -> np.ndarray:
    """float64 values rounded to about six significant digits (20 bits of mantissa)."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(mantissa * 2**20), exponent - 20)


class Stage(Protocol):
    """One step of the pipeline."""

    name: str

    def __call__(self, query: Query, candidates: Candidates) -> Candidates: ...


@dataclass(frozen=True)
class StageRecord:
    """What a stage did, recorded by the runner."""

    name: str
    before: float
    """candidates a user that came in, mean over the batch"""
    after: float
    """candidates a user that went out"""
    ms: float


def run_stages(
    stages: list[Stage],
    query: Query,
    observe: Callable[[str, Candidates], None] | None = None,
    start: Candidates | None = None,
):
    """Run the stages in order; returns (the last candidates, a StageRecord each).

    observe: called with each stage's name and its result. start: what the first stage is given; nothing by default.
    """
    b = len(query.users)
    candidates = Candidates(np.zeros((b, 0), np.int32), np.zeros((b, 0), np.uint32)) if start is None else start
    records = []
    before = float(candidates.counts.mean()) if b else 0.0
    for stage in stages:
        start = time.perf_counter()
        candidates = stage(query, candidates)
        ms = (time.perf_counter() - start) * 1e3
        after = float(candidates.counts.mean()) if b else 0.0
        records.append(StageRecord(stage.name, before, after, ms))
        before = after
        if observe is not None:
            observe(stage.name, candidates)
    return candidates, records
