"""Everything that is known as of a moment: histories, what was seen, the graph, what is popular.

A state is built from the log before `now` and is what every source and filter of the pipeline reads. It
is the same code for a request of today, for an evaluation as of a past day and for a simulated day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.schema import DAY

HISTORY_LENGTH = 200
"""Interactions kept per user, the latest ones."""
TREND_HALF_LIFE = 6 * DAY // 24
"""Half-life of an interaction's weight in `trending`."""
TIE_HALF_LIFE = 14 * DAY
"""Half-life of an interaction's weight in the tie between a user and an author."""


@dataclass(frozen=True)
class State:
    """What the system knows at `now` (µs), from rows strictly before it."""

    now: int
    catalogue: Catalogue
    history: Ragged
    """int32 items a user interacted with, oldest first, at most HISTORY_LENGTH, by user"""
    history_time: Ragged
    """int64 µs of those interactions"""
    seen: Ragged
    """int32 items a user was shown, ascending, each once, by user"""
    follows: Ragged
    """int32 authors a user follows, ascending, by user"""
    blocked: Ragged
    """int32 authors a user has blocked or muted, ascending, by user"""
    ties: Ragged
    """int32 authors a user interacted with, ascending, by user"""
    tie_strength: Ragged
    """float32 decayed count of interactions with them"""
    author_items: Ragged
    """int32 items by author, newest first, published before `now`"""
    interactions: np.ndarray
    """int32[n_items] interactions so far"""
    impressions: np.ndarray
    """int32[n_items] impressions so far"""
    trending: np.ndarray
    """float32[n_items] interactions decayed with TREND_HALF_LIFE"""
    author_followers: np.ndarray
    """int32[n_authors]"""
    history_actions: Ragged | None = None
    """uint32 what the user did in those interactions (`Log.action_bits`), by user; None where it was not kept"""
    history_numbers: dict[str, np.ndarray] = field(default_factory=dict)
    """column of the log → float32 its number beside each of `history.values`, NaN where unknown: "dwell_seconds" and
    the numeric columns of `Log.context`"""
    feedback: dict[str, np.ndarray] = field(default_factory=dict)
    """counters of what came of served impressions (`pipeline.exploration.feedback`), by name; empty where nothing was
    fed back"""

    @property
    def available(self) -> np.ndarray:
        """bool[n_items]: published before `now`."""
        return self.catalogue.item_created < self.now

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        log: Log,
        now: int,
        follows: dict[str, np.ndarray] | None = None,
        blocks: dict[str, np.ndarray] | None = None,
    ) -> State:
        """From the rows of `log` before `now`, and the edges that `Dataset.edges` gives.

        Follow, block and mute actions in the log are edges too, from their moment on.
        """
        log = log.window(end=now)
        n_users, n_items, n_authors = catalogue.n_users, catalogue.n_items, catalogue.n_authors
        positive = np.flatnonzero(log.positive)
        user, item, time = log.user[positive], log.item[positive], log.time[positive]
        numbers = _numbers(log)
        history, history_time, history_actions, *beside = _latest(
            user, (item, time, log.action_bits[positive], *(values[positive] for values in numbers.values())), n_users
        )
        author = catalogue.item_author[item]
        decay = np.exp2(-(now - time) / TIE_HALF_LIFE)
        ties, tie_strength = _sums(user, author, decay, n_users, n_authors)
        trend = np.exp2(-(now - time) / TREND_HALF_LIFE)
        followed = _edges(catalogue, log, ("follow",), follows, now)
        return cls(
            now=now,
            catalogue=catalogue,
            history=history,
            history_time=history_time,
            seen=Ragged.sets(log.user, log.item, n_users),
            follows=followed,
            blocked=_edges(catalogue, log, ("block", "mute"), blocks, now),
            ties=ties,
            tie_strength=tie_strength,
            author_items=newest_by_author(catalogue, now),
            interactions=np.bincount(item, minlength=n_items).astype(np.int32),
            impressions=np.bincount(log.item, minlength=n_items).astype(np.int32),
            trending=np.bincount(item, weights=trend, minlength=n_items).astype(np.float32),
            author_followers=np.bincount(followed.values, minlength=n_authors).astype(np.int32),
            history_actions=history_actions,
            history_numbers={name: rows.values for name, rows in zip(numbers, beside, strict=True)},
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """For `arrays.save_arrays`, without the catalogue."""
        out = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Ragged):
                out[f"{f.name}.offsets"], out[f"{f.name}.values"] = value.offsets, value.values
            elif isinstance(value, np.ndarray):
                out[f.name] = value
            elif isinstance(value, dict):
                out.update({f"{f.name}/{name}": array for name, array in value.items()})
        return out, {"now": self.now}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict, catalogue: Catalogue) -> State:
        values: dict = {"now": meta["now"], "catalogue": catalogue}
        for f in fields(cls):
            if f"{f.name}.offsets" in arrays:
                values[f.name] = Ragged(arrays[f"{f.name}.offsets"], arrays[f"{f.name}.values"])
            elif f.name in arrays:
                values[f.name] = arrays[f.name]
        for inside in ("history_numbers", "feedback"):
            start = f"{inside}/"
            values[inside] = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
        return cls(**values)


def _numbers(log: Log) -> dict[str, np.ndarray]:
    """The columns of numbers that a log has beside its actions."""
    out = {} if log.dwell is None else {"dwell_seconds": log.dwell}
    out.update({name: values for name, values in log.context.items() if values.dtype.kind == "f"})
    return out


def _latest(user: np.ndarray, columns: tuple[np.ndarray, ...], n_users: int) -> tuple[Ragged, ...]:
    """The last HISTORY_LENGTH interactions a user, one Ragged a column; rows come in time order."""
    groups = [Ragged.group(user, column, n_users) for column in columns]
    count = np.minimum(groups[0].lengths, HISTORY_LENGTH)
    start, offsets = groups[0].offsets[1:] - count, offsets_of(count)
    return tuple(Ragged(offsets, expand(start, count, group.values)[1]) for group in groups)


def _sums(row: np.ndarray, column: np.ndarray, weight: np.ndarray, n: int, width: int) -> tuple[Ragged, Ragged]:
    """Sum weights by (row, column); columns ascending within a row, -1 left out."""
    keep = column >= 0
    key = row[keep].astype(np.int64) * max(width, 1) + column[keep]
    unique, place = np.unique(key, return_inverse=True)
    total = np.bincount(place, weights=weight[keep], minlength=len(unique)).astype(np.float32)
    offsets = offsets_of(np.bincount(unique // max(width, 1), minlength=n))
    return Ragged(offsets, (unique % max(width, 1)).astype(np.int32)), Ragged(offsets, total)


def _edges(catalogue: Catalogue, log: Log, actions: tuple[str, ...], table: dict | None, now: int) -> Ragged:
    users, authors = [], []
    for action in actions:
        if action in log.actions:
            rows = np.flatnonzero(log.actions[action])
            users.append(log.user[rows])
            authors.append(catalogue.item_author[log.item[rows]])
    if table is not None:
        past = table["time"] < now
        users.append(table["from"][past])
        authors.append(table["to"][past])
    if not users:
        return Ragged.empty(catalogue.n_users)
    user, author = np.concatenate(users), np.concatenate(authors)
    keep = author >= 0
    return Ragged.group(user[keep], author[keep], catalogue.n_users).sorted_rows()


def newest_by_author(catalogue: Catalogue, now: int) -> Ragged:
    """int32 items by author, newest first, published before `now` (µs)."""
    items = np.flatnonzero((catalogue.item_created < now) & (catalogue.item_author >= 0)).astype(np.int32)
    items = items[np.argsort(-catalogue.item_created[items], kind="stable")]
    return Ragged.group(catalogue.item_author[items], items, catalogue.n_authors)
