"""Candidate sourcing: ask every source, merge what they propose, top up who has too little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline import rank_curves
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import SourcingConfig
from recsys_cli.pipeline.query import Query, SourceQuery
from recsys_cli.pipeline.quota_merge import Lists, merge_by_place
from recsys_cli.pipeline.stage import Filter, Source, passing

if TYPE_CHECKING:
    from recsys_cli.retrieval.base import Retriever

CELLS_AT_ONCE = 2**17
"""Proposals that are merged at once."""
RRF_CONSTANT = 60
"""Of reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""


def budgets(config: SourcingConfig, sources: dict[str, Retriever], known: tuple[str, ...]) -> dict[str, int]:
    """Candidates to ask of each source that is there: its share among those, of `config.candidates`; all of them
    where curves merge the lists. Where no source that is there has a share, all have the same.

    known: the names of all configured sources, present or not. Raises ConfigError for a share or fallback
    that names no source.
    """
    for name in [*config.shares, *config.fallback, *config.curves]:
        if name not in known:
            raise ConfigError(
                f"pipeline.sourcing names a source {name!r} that retrieval does not define",
                did_you_mean(name, known, f"defined are: {', '.join(known)}"),
            )
    if config.merge == "learned":
        return {name: config.settled for name in sources if name in config.curves}
    shares = {name: config.shares[name] for name in sources if config.shares.get(name, 0) > 0}
    # a list of nobody's proposals is empty
    shares = shares or {name: 1.0 for name in sources if name not in config.shares}
    total = sum(shares.values())
    return {name: max(1, round(config.settled * share / total)) for name, share in shares.items()}


def merge(
    items: np.ndarray,
    bits: np.ndarray,
    weights: np.ndarray,
    order: np.ndarray | None = None,
    limit: int | None = None,
    lists: dict[str, int] | None = None,
) -> Candidates:
    """Each item once a row, with the bits of all its proposals together and their weights summed.

    items: int32[B, K] with -1 fillers. bits: uint32[B, K]. weights: float32[B, K]. order: float32[B, K] place in
    which a proposal is taken, the smallest of an item counting; each of the three may be [K], the same for every
    row. limit: items of a row that are kept, the first by `order`, without it those of the greatest sum (ties go to
    the lower item position). The result is ordered by item position; the sum stands in scores["rrf"].

    lists: source → columns of its list, best first, in the order in which they stand beside each other; adds the
    scores "rank_<source>", an item's place from 1 in the list of a source, 0 where that lacks it.
    """
    b, width = items.shape
    if items.size > CELLS_AT_ONCE and b > 1:  # some rows at a time, which stay near the processor
        size = max(CELLS_AT_ONCE // width, 1)
        parts = []
        for start in range(0, b, size):
            rows = slice(start, start + size)
            mine = [each if each.ndim == 1 else each[rows] for each in (bits, weights)]
            first_by = order if order is None or order.ndim == 1 else order[rows]
            parts.append(merge(items[rows], mine[0], mine[1], first_by, limit, lists))
        return stacked(parts)
    if not items.size:
        return _ranked(Candidates.empty(b), lists, *np.zeros((2, 0), np.int64))
    shift = max(width - 1, 1).bit_length()
    keys = _in_order(items, shift)
    at = np.flatnonzero(keys >= 0)
    if not len(at):
        return _ranked(Candidates.empty(b), lists, at, at)
    keys, rows = keys[at], at // width
    columns, found = keys & ((1 << shift) - 1), keys >> shift
    first = np.ones(len(at), bool)
    np.not_equal(found[1:], found[:-1], out=first[1:])
    first[1:] |= rows[1:] != rows[:-1]
    starts = np.flatnonzero(first)

    def each(values: np.ndarray, gather: np.ufunc) -> np.ndarray:
        """What the proposals of each item come to."""
        return gather.reduceat(values.take(columns) if values.ndim == 1 else values[rows, columns], starts)

    every = rows[starts], found[starts].astype(np.int32), each(bits, np.bitwise_or), each(weights, np.add)
    chosen: slice | np.ndarray = slice(None)
    if limit is not None:
        place = np.float32(1) / (1 + every[3]) if order is None else each(order, np.minimum)
        chosen = _first(every[0], place, b, limit)
    row, item, mark, weight = (column[chosen] for column in every)
    out, slots = _grid(row, item, mark, weight, b)
    if lists is None:
        return out
    slot_of = np.full(len(starts), -1, np.int64)
    slot_of[chosen] = slots
    slots = slot_of[np.cumsum(first) - 1]
    held = slots >= 0
    return _ranked(out, lists, slots[held], columns[held])


def _in_order(items: np.ndarray, shift: int) -> np.ndarray:
    """[B * K] keys of the proposals int32[B, K], ascending in each row: the item, and in the last `shift` bits the
    column in which it stood; below 0 where empty. One sort of whole numbers does, in half the time with 32 bits."""
    kind = np.dtype(np.int32 if int(items.max()) < 2 ** (31 - shift) else np.int64)
    keys: np.ndarray = items.astype(kind)
    keys <<= shift
    keys += np.arange(items.shape[1], dtype=kind)
    keys.sort(axis=1)
    return keys.reshape(-1)


def _ranked(candidates: Candidates, lists: dict[str, int] | None, slots: np.ndarray, columns: np.ndarray) -> Candidates:
    """Adds "rank_<source>"; slots, columns: int64[m] flat slot of each proposal and the column in which it stood."""
    if lists is None:
        return candidates
    widths = list(lists.values())
    places = np.concatenate([np.arange(1, n + 1, dtype=np.float32) for n in widths])
    ranks = np.zeros((len(lists), *candidates.items.shape), np.float32)
    of = np.repeat(np.arange(len(lists)) * candidates.items.size, widths)
    # backwards, so that of an item that stands twice in a list the better place is written last
    slots, columns = slots[::-1], columns[::-1]
    ranks.reshape(-1)[of[columns] + slots] = places[columns]
    return candidates.with_scores(**{f"rank_{name}": values for name, values in zip(lists, ranks, strict=True)})


def _first(rows: np.ndarray, order: np.ndarray, b: int, limit: int) -> np.ndarray:
    """Indices of the `limit` smallest of each row, ascending; rows: ascending int64[m]."""
    counts = np.bincount(rows, minlength=b)
    over = counts > limit
    if not over.any():
        return np.arange(len(rows))
    keep = ~over[rows]
    starts = np.cumsum(counts) - counts
    # floats that are not negative order like their bits, so that ties can be told apart below them
    keys = (order.view(np.int32).astype(np.int64) << 32) + np.arange(len(rows))
    for row in np.flatnonzero(over):
        mine = slice(starts[row], starts[row] + counts[row])
        keep[mine] = keys[mine] <= np.partition(keys[mine], limit - 1)[limit - 1]
    return np.flatnonzero(keep)


def _grid(
    rows: np.ndarray, items: np.ndarray, bits: np.ndarray, weights: np.ndarray, b: int
) -> tuple[Candidates, np.ndarray]:
    """Candidates from a flat list ordered by row, and the flat slot int64[m] of each."""
    counts = np.bincount(rows, minlength=b)
    shape = b, int(counts.max(initial=0))
    slots = np.arange(len(rows)) + np.repeat(np.arange(b) * shape[1] - (np.cumsum(counts) - counts), counts)
    out = Candidates(np.full(shape, -1, np.int32), np.zeros(shape, np.uint32), {"rrf": np.zeros(shape, np.float32)})
    out.items.reshape(-1)[slots], out.sources.reshape(-1)[slots] = items, bits
    out.scores["rrf"].reshape(-1)[slots] = weights
    return out, slots


def stacked(parts: list[Candidates]) -> Candidates:
    """The candidates of some users and then those of others, with the scores of the first ones."""
    widths = [part.items.shape[1] for part in parts]
    most = max(widths)

    def joined(arrays: list[np.ndarray], filler: int) -> np.ndarray:
        out = np.full((sum(map(len, arrays)), most), filler, arrays[0].dtype)
        start = 0
        for array, width in zip(arrays, widths, strict=True):
            out[start : start + len(array), :width] = array
            start += len(array)
        return out

    return Candidates(
        joined([p.items for p in parts], -1), joined([p.sources for p in parts], 0),
        {name: joined([p.scores[name] for p in parts], 0) for name in parts[0].scores},
    )


class Sourcing(Source):
    """Asks every source and merges the proposals as `merge` of the settings says."""

    name = "sources"
    gives = ("rrf", "rank_")
    needed = True

    def __init__(
        self, config: SourcingConfig, sources: dict[str, Retriever], bits: dict[str, int], known: tuple[str, ...]
    ):
        self._sources, self._bits, self._config = sources, bits, config
        self.budgets = budgets(config, sources, known)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        found = propose(query, self.budgets, self._sources, self._bits, self._config)
        return add_candidates(found, np.arange(len(query)), candidates) if candidates.items.size else found


def propose(
    query: Query | SourceQuery,
    budgets: dict[str, int],
    sources: dict[str, Retriever],
    bits: dict[str, int],
    config: SourcingConfig | None = None,
) -> Candidates:
    """Ask the given sources and merge.

    budgets: source → candidates it is to give. Without `config` those are asked for and all are kept; with it
    sources are asked deeper and `config.candidates` are chosen by its `merge`. A source that raises proposes nothing,
    where the query keeps failures.
    """
    items, marks, weights, order, lists = [], [], [], [], {}
    for name, k in budgets.items():
        depth = k if config is None else _depth(config, k, query.state.catalogue.n_items)
        answer = query.attempt(f"source {name}", sources[name].retrieve, query.state, query.users, depth)
        if answer is None:
            continue
        proposed, scores = answer
        rank = np.arange(1, proposed.shape[1] + 1, dtype=np.float32)
        lists[name] = len(rank)
        items.append(proposed)
        marks.append(np.full(len(rank), 1 << bits[name], np.uint32))
        weight = 1 / (RRF_CONSTANT + rank)
        if config is not None and config.merge == "learned":
            weight = rank_curves.weights(config.curves[name], len(rank))
        elif config is not None and config.merge != "quota":
            share = np.float32(k / config.settled)
            weight = share * (weight if config.merge == "rrf" else _scaled(scores))
        weights.append(weight)
        order.append(rank / np.float32(k))
    if not items:
        return Candidates.empty(len(query))
    every = np.concatenate(items, 1), np.concatenate(marks), np.concatenate(weights, -1)
    by_quota = config is not None and config.merge == "quota"
    if config is not None and by_quota:
        asked = Lists(tuple(lists), tuple(lists.values()), tuple(budgets[name] for name in lists))
        bit_of = np.array([1 << bits[name] for name in lists], np.uint32)
        merged = merge_by_place(asked, every[0], bit_of, every[2], config.settled, query.state.catalogue.n_items)
        if merged is not None:
            return merged
    return merge(
        *every,
        order=np.concatenate(order) if by_quota else None,
        limit=None if config is None else config.settled,
        lists=lists,
    )


def _places(candidates: Candidates) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from (row int[m], item int[m]) to the flat place of that candidate, -1 where it is none."""
    width = candidates.items.shape[1]
    rows, columns = np.nonzero(candidates.items >= 0)
    most = np.int64(candidates.items.max(initial=0)) + 1
    held = rows * most + candidates.items[rows, columns]
    flat = rows * width + columns

    def find(row: np.ndarray, item: np.ndarray) -> np.ndarray:
        if not len(held):
            return np.full(len(row), -1, np.int64)
        wanted = row * most + np.minimum(item, most - 1)
        near = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
        return np.where((held[near] == wanted) & (item < most), flat[near], -1)

    return find


def _depth(config: SourcingConfig, k: int, n_items: int) -> int:
    """How many items a source is asked for that is to give k."""
    wanted = config.settled if config.merge != "quota" else int(min(np.ceil(k * config.deepen), config.settled))
    return max(1, min(max(wanted, k), n_items))


def _scaled(scores: np.ndarray) -> np.ndarray:
    """float32[B, K] scores of a source between 0 (its last) and 1 (its first) a row; 0 where empty."""
    filled = np.isfinite(scores)
    high = np.where(filled, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    low = np.where(filled, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    with np.errstate(invalid="ignore"):
        span = np.where(high > low, high - low, 1)
        return np.where(filled, np.where(high > low, (scores - low) / span, 1), 0).astype(np.float32)


class Fallback(Source):
    """Tops up users who have less than a slate left, from what needs no history: trending, then popular.

    Runs after the filters, with filters of its own (they must hold for what it adds).
    """

    name = "fallback"
    reads = ("rrf", "rank_")
    gives = ("rrf", "rank_")

    def __init__(
        self, config: SourcingConfig, sources: dict[str, Retriever], bits: dict[str, int], filters: list[Filter]
    ):
        self._names = [name for name in config.fallback if name in sources]
        self._sources, self._bits, self._filters = sources, bits, filters
        self._config = config

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        for name in self._names:
            short = np.flatnonzero(candidates.counts < query.size)
            if not len(short):
                break
            part = replace(query, users=query.users[short])
            # deep enough to leave a slate after everything the user has seen is filtered out
            depth = max(self._config.settled // 5, query.size * 10) + int(query.state.seen.counts(part.users).max())
            extra = propose(part, {name: min(query.state.catalogue.n_items, depth)}, self._sources, self._bits)
            candidates = add_candidates(candidates, short, passing(self._filters, part, extra))
        return candidates


def add_candidates(candidates: Candidates, rows: np.ndarray, extra: Candidates) -> Candidates:
    """Merge further candidates into some rows, each item once a row; the others stay as they are.

    rows: int[R]. extra: of those rows. Both have the scores "rrf", which are summed, and "rank_<source>"; others are
    not kept.
    """
    b = len(candidates.items)
    width = extra.items.shape[1]
    items, bits = np.full((b, width), -1, np.int32), np.zeros((b, width), np.uint32)
    weights = np.zeros((b, width), np.float32)
    items[rows], bits[rows], weights[rows] = extra.items, extra.sources, extra.scores["rrf"]
    merged = merge(
        np.concatenate([candidates.items, items], 1),
        np.concatenate([candidates.sources, bits], 1),
        np.concatenate([candidates.scores["rrf"], weights], 1),
    )
    return _carry_ranks(merged, (np.arange(b), candidates), (rows, extra))


def _carry_ranks(merged: Candidates, *parts: tuple[np.ndarray, Candidates]) -> Candidates:
    """The ranks that candidates had before they were merged; a part is (its rows in `merged`, its candidates)."""
    at = _places(merged)
    ranks: dict[str, np.ndarray] = {}
    for rows, part in parts:
        mine, columns = np.nonzero(part.items >= 0)
        place = at(rows[mine], part.items[mine, columns])
        for name, values in part.scores.items():
            if name.startswith("rank_"):
                out = ranks.setdefault(name, np.zeros(merged.items.shape, np.float32))
                old, new = out.reshape(-1)[place], values[mine, columns]
                out.reshape(-1)[place] = np.where(new > 0, new, old)
    return merged.with_scores(**ranks)
