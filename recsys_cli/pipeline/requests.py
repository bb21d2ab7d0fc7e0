"""Requests of the past, asked again: what the sources propose to a user at a moment, and what the user then took.

Rankers learn from such rows: the candidates come from the very stages that serve, with features as those stages see
them, and nothing after the moment has a part in them but the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.features.context import Context
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.table import FeatureTable
from recsys_cli.parallel import one_blas_thread
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.request_features import candidate_features
from recsys_cli.pipeline.request_rows import TAKEN, RequestRows
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.scoring import similarities

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.pipeline.config import PipelineConfig

AT_ONCE = 128
"""Users asked for at once."""
KEPT_BYTES = 512 * 2**20
"""Memory that answers which are wanted a second time may take; those beyond it are asked for again."""


@dataclass(frozen=True)
class Moment:
    """A moment at which requests are made, and what the users did from it until the horizon."""

    state: State
    snapshot: Snapshot
    users: np.ndarray
    """int32[U] who is asked for, ascending"""
    wanted: Ragged
    """int32 items that each of them turned to and could have been shown, ascending, each once"""

    def take(self, places: np.ndarray) -> Moment:
        """Some of the users; places: int[V] into `users`."""
        rows, values = self.wanted.take(places)
        return Moment(self.state, self.snapshot, self.users[places], Ragged.group(rows, values, len(places)))


def moment_of(
    bundle: Bundle, log: Log, now: int, horizon: int, edges: dict[str, Any], *, most: int, seed: int,
    repeats: bool = False,
) -> Moment:
    """The requests at `now` (µs) of the users who turned to something in [now, horizon).

    What is wanted are items published by then and, unless `repeats`, new to the user. most: users at most, drawn
    with the seed. edges: follows and blocks as `Dataset.edges` gives them.
    """
    state = State.build(bundle.catalogue, log, now, **edges)
    users, wanted = new_items(log.window(now, horizon), state, repeats=repeats)
    found = Moment(
        state, Snapshot.build(bundle.spec, bundle.catalogue, log, now, **edges), users, wanted
    )
    if len(users) <= most:
        return found
    return found.take(np.sort(np.random.default_rng(seed).choice(len(users), most, replace=False)))


def new_items(later: Log, state: State, *, repeats: bool = False) -> tuple[np.ndarray, Ragged]:
    """(int32[U] users, their items): what people turned to in the rows of `later`, published at the state's moment
    and, unless `repeats`, not shown to them before it."""
    rows = np.flatnonzero(later.positive)
    width = np.int64(max(state.catalogue.n_items, 1))
    pairs = np.unique(later.user[rows].astype(np.int64) * width + later.item[rows])
    user, item = (pairs // width).astype(np.int32), (pairs % width).astype(np.int32)
    can = state.available[item]
    if not repeats:
        can &= ~state.seen.contains(user, item[:, None])[:, 0]
    users, place = np.unique(user[can], return_inverse=True)
    return users.astype(np.int32), Ragged.group(place, item[can], len(users))


def moments_between(times: np.ndarray, start: int, end: int, count: int) -> list[tuple[int, int]]:
    """(moment, horizon) of `count` requests a user in [start, end), so that between them equally many rows lie.

    times: int64[n] of the log, ascending.
    """
    inside = times[np.searchsorted(times, start) : np.searchsorted(times, end)]
    cuts = [int(inside[round(i * len(inside) / count)]) for i in range(1, count)] if len(inside) else []
    edges = sorted({start, *cuts, end})
    return list(pairwise(edges))


Asked = tuple[slice, Query, Candidates]
"""The places of some users, the query, the candidates."""
Made = TypeVar("Made")


class Kept:
    """Answers of requests that are wanted a second time of the same sources, within KEPT_BYTES."""

    def __init__(self) -> None:
        self._answers: dict[tuple[int, int], Asked] = {}
        self._moments: list[Moment] = []  # held, so that no other has the same id
        self._bytes = 0

    def get(self, moment: Moment, start: int) -> Asked | None:
        return self._answers.get((id(moment), start))

    def put(self, moment: Moment, start: int, answer: Asked) -> None:
        self._bytes += sum(scores.nbytes for scores in answer[2].scores.values())
        if self._bytes <= KEPT_BYTES:
            self._moments.append(moment)
            self._answers[id(moment), start] = answer


def ask(
    bundle: Bundle, config: PipelineConfig, moment: Moment, seed: int, then: Callable[[Asked], Made], threads: int = 1,
    kept: Kept | None = None,
) -> Iterator[Made]:
    """What `then` makes of the hydrated candidates of a moment's users, batch by batch.

    then: is called on the thread that asked, for several batches at once. kept: where answers are looked up and kept;
    only for bundles of the same sources.
    """
    stages = build_pipeline(config, bundle, Order(FUSION, FUSION)).gathering

    def one(start: int) -> Made:
        return then(answered(start))

    def answered(start: int) -> Asked:
        found = None if kept is None else kept.get(moment, start)
        if found is not None:
            return found
        rows = slice(start, min(start + AT_ONCE, len(moment.users)))
        query = Query(
            users=moment.users[rows], size=config.slate_size, bundle=bundle, state=moment.state,
            snapshot=moment.snapshot, context=Context(now=moment.state.now), seed=seed,
        )
        answer = rows, query, Runner(query).run(stages)
        if kept is not None:
            kept.put(moment, start, answer)
        return answer

    starts = range(0, len(moment.users), AT_ONCE)
    with one_blas_thread():
        if threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(threads) as pool:
                yield from pool.map(one, starts)
        else:
            yield from map(one, starts)


def request_rows(
    bundle: Bundle, config: PipelineConfig, moments: Sequence[Moment], names: tuple[str, ...], *, most: int, seed: int,
    threads: int = 1, kept: Kept | None = None,
) -> RequestRows:
    """Rows of the candidates at these moments: all that was taken, and of the rest as many a request as `most` rows
    allow, drawn evenly and weighted by the inverse of their share.

    names: features, of the request (`request_features`) or of the bundle's spec. kept: see `ask`.
    """
    requests = sum(len(moment.users) for moment in moments)
    room = max(most // max(requests, 1), 1)
    parts, number, proposed = [], 0, 0

    def rows_of(index: int, asked: Asked) -> tuple[tuple[np.ndarray, ...], int, int]:
        rows, query, found = asked
        moment, rng = moments[index], np.random.default_rng([seed, index, rows.start])
        wanted = moment.take(np.arange(rows.start, rows.stop)).wanted
        taken = wanted.contains(np.arange(len(wanted)), found.items) & found.filled
        chosen, weight = _drawn(found.filled, taken, room, rng)
        values = candidate_features(query, found, names, similarities(query, found))
        row, column = np.nonzero(chosen)
        part = (
            values[row, column], taken[row, column], weight[row], query.users[row], found.items[row, column],
            np.full(len(row), moment.state.now), row,
        )
        return part, int(taken.sum()), len(wanted)

    for index, moment in enumerate(moments):
        for part, took, users in ask(bundle, config, moment, seed, partial(rows_of, index), threads, kept):
            parts.append((*part[:-1], number + part[-1]))
            proposed += took
            number += users
    values, label, weight, user, item, time, request = (
        (np.concatenate([p[i] for p in parts]) for i in range(7)) if parts else _no_rows(len(names))
    )
    weight = np.where(label, 1, weight).astype(np.float32)
    request = request.astype(np.int64)
    table = FeatureTable(values, names, {}, {TAKEN: label}, None, user, item, time, weight=weight, request=request)
    return RequestRows(table, request, sum(len(m.wanted.values) for m in moments), proposed)


def _no_rows(width: int) -> tuple[np.ndarray, ...]:
    none = np.zeros(0, np.int32)
    return np.zeros((0, width), np.float32), np.zeros(0, bool), np.zeros(0, np.float32), none, none, none, none


def _drawn(
    filled: np.ndarray, taken: np.ndarray, room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """bool[B, K] candidates that become rows, and float32[B] what a negative of each request stands for."""
    negative = filled & ~taken
    count = negative.sum(axis=1)
    keep = np.minimum(count, room)
    lottery = np.where(negative, rng.random(filled.shape), 2.0)
    place = np.argsort(np.argsort(lottery, axis=1), axis=1)
    chosen = (negative & (place < keep[:, None])) | (taken & filled)
    return chosen, (count / np.maximum(keep, 1)).astype(np.float32)
