"""Candidate sourcing: ask every source, merge what they propose, top up who has too little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import ConfigError, nearest
from recsys_cli.pipeline.candidates import Candidates, Query
from recsys_cli.pipeline.config import SourcingConfig

if TYPE_CHECKING:
    from recsys_cli.retrieval.base import Retriever

RRF_CONSTANT = 60
"""Of reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""


def budgets(config: SourcingConfig, sources: dict[str, Retriever], known: tuple[str, ...]) -> dict[str, int]:
    """Candidates to ask of each source that is there: its share among those, of `config.candidates`.

    known: the names of all configured sources, present or not. Raises ConfigError for a share or fallback
    that names no source.
    """
    for name in [*config.shares, *config.fallback]:
        if name not in known:
            close = nearest(name, known)
            raise ConfigError(
                f"pipeline.sourcing names a source {name!r} that retrieval does not define",
                f"did you mean {close!r}?" if close else f"defined are: {', '.join(known)}",
            )
    shares = {name: config.shares[name] for name in sources if config.shares.get(name, 0) > 0}
    total = sum(shares.values())
    return {name: max(1, round(config.candidates * share / total)) for name, share in shares.items()}


def merge(items: np.ndarray, bits: np.ndarray, weights: np.ndarray) -> Candidates:
    """Each item once a row, with the bits of all its proposals together and their weights summed.

    items: int32[B, K] with -1 fillers. bits: uint32[B, K]. weights: float32[B, K]. The result is ordered by
    item position; the sum stands in scores["rrf"].
    """
    order = np.argsort(items, axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1)
    first = items >= 0
    first[:, 1:] &= items[:, 1:] != items[:, :-1]
    counts = first.sum(axis=1)
    width = int(counts.max(initial=0))
    out = Candidates(
        np.full((len(items), width), -1, np.int32),
        np.zeros((len(items), width), np.uint32),
        {"rrf": np.zeros((len(items), width), np.float32)},
    )
    starts = np.flatnonzero(first)
    if not len(starts):
        return out
    empty = items < 0
    bits = np.where(empty, np.uint32(0), np.take_along_axis(bits, order, axis=1))
    weights = np.where(empty, np.float32(0), np.take_along_axis(weights, order, axis=1))
    # fillers sort to the front of the next row and carry no bits and no weight, so segments may span them
    rows = starts // items.shape[1]
    columns = np.arange(len(starts)) - np.repeat(np.cumsum(counts) - counts, counts)
    out.items[rows, columns] = items.ravel()[starts]
    out.sources[rows, columns] = np.bitwise_or.reduceat(bits.ravel(), starts)
    out.scores["rrf"][rows, columns] = np.add.reduceat(weights.ravel(), starts)
    return out


class Sourcing:
    """Asks every source for its share and merges the proposals."""

    name = "sources"

    def __init__(self, config: SourcingConfig, sources: dict[str, Retriever], bits: dict[str, int], known: tuple):
        self._sources, self._bits = sources, bits
        self.budgets = budgets(config, sources, known)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        return propose(query, self.budgets, self._sources, self._bits)


def propose(query: Query, budgets: dict[str, int], sources: dict[str, Retriever], bits: dict[str, int]) -> Candidates:
    """Ask the given sources for the given numbers and merge."""
    items, marks, weights = [], [], []
    for name, k in budgets.items():
        proposed, _ = sources[name].retrieve(query.state, query.users, k)
        items.append(proposed)
        marks.append(np.full(proposed.shape, 1 << bits[name], np.uint32))
        rank = np.arange(1, proposed.shape[1] + 1, dtype=np.float32)
        weights.append(np.broadcast_to(1 / (RRF_CONSTANT + rank), proposed.shape))
    if not items:
        b = len(query)
        return Candidates(
            np.zeros((b, 0), np.int32), np.zeros((b, 0), np.uint32), {"rrf": np.zeros((b, 0), np.float32)}
        )
    return merge(np.concatenate(items, 1), np.concatenate(marks, 1), np.concatenate(weights, 1))


class Fallback:
    """Tops up users who have less than a slate left, from what needs no history: trending, then popular.

    Runs after the filters, with filters of its own (they must hold for what it adds).
    """

    name = "fallback"

    def __init__(self, config: SourcingConfig, sources: dict[str, Retriever], bits: dict[str, int], filters: list):
        self._names = [name for name in config.fallback if name in sources]
        self._sources, self._bits, self._filters = sources, bits, filters
        self._candidates = config.candidates

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        for name in self._names:
            short = np.flatnonzero(candidates.counts < query.size)
            if not len(short):
                break
            part = Query(**{**query.__dict__, "users": query.users[short]})
            # deep enough to leave a slate after everything the user has seen is filtered out
            seen = np.diff(query.state.seen.offsets)[np.maximum(part.users, 0)] * (part.users >= 0)
            depth = int(min(query.state.catalogue.n_items, max(self._candidates // 5, query.size * 10) + seen.max()))
            extra = propose(part, {name: depth}, self._sources, self._bits)
            for stage in self._filters:
                extra = stage(part, extra)
            candidates = _add(candidates, short, extra)
        return candidates


def _add(candidates: Candidates, rows: np.ndarray, extra: Candidates) -> Candidates:
    """Merge further candidates into some rows, the others stay as they are."""
    b = len(candidates.items)
    width = extra.items.shape[1]
    items, bits = np.full((b, width), -1, np.int32), np.zeros((b, width), np.uint32)
    weights = np.zeros((b, width), np.float32)
    items[rows], bits[rows], weights[rows] = extra.items, extra.sources, extra.scores["rrf"]
    return merge(
        np.concatenate([candidates.items, items], 1),
        np.concatenate([candidates.sources, bits], 1),
        np.concatenate([candidates.scores["rrf"], weights], 1),
    )
