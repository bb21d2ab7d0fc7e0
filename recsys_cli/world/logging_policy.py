"""The logging policy: which items a request shows, and with which probability each was drawn.

Each slot of a request draws one of four components with the configured shares, then an item from it:

- `follows`: items that accounts followed at the start of the day published in the last `recent_days`, up to
  the moment of the request, ranked newest first; of n such items, rank r (0 is the newest) has probability
  √((r+1)/n) − √(r/n);
- `trending`: the items with most interactions up to the day before, in proportion to the square root of
  their decayed count;
- `similar`: a topic in proportion to the user's profile (topics chosen at signup count 1, every interaction
  up to the day before counts 1 for each topic of its item), then an item on it published in the last
  `eligible_days` up to the start of the day, ranked newest first as above;
- `uniform`: any item published in the last `eligible_days`, up to the moment of the request.

A component that is empty for a user (nobody followed, nothing trending yet) gives its share to `uniform`.
A slot that draws an item that the user wrote, has been shown before (in the log or above in the slate) or
whose author they have blocked or muted stays empty, and the slate closes up. So each slot shows an
item that may be shown with exactly the probability

    propensity = Σ_component share · P(item | component, user, moment)

whichever component it was drawn from; `source` names that component.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.data.schema import DAY
from recsys_cli.world.config import SOURCES, WorldConfig
from recsys_cli.world.content import Content
from recsys_cli.world.people import log_start

TRENDING_LEAST = 20
FOLLOWS, TRENDING, SIMILAR, UNIFORM = range(len(SOURCES))


def rank_chance(rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    """float64 probability of a rank among `count` items, newest first: √((r+1)/n) − √(r/n)."""
    rank, count = np.maximum(rank, 0), np.maximum(count, 1).astype(np.float64)
    return 1.0 / (np.sqrt(count) * (np.sqrt(rank + 1.0) + np.sqrt(rank)))


def draw_rank(uniform: np.ndarray, count: np.ndarray) -> np.ndarray:
    """int64 rank with the probabilities of `rank_chance`."""
    return np.minimum((count * uniform * uniform).astype(np.int64), np.maximum(count - 1, 0))


class Shelves:
    """Items by author and by topic, oldest first: positions are in order of publication."""

    def __init__(self, config: WorldConfig, content: Content, n_people: int):
        n = self.n = len(content)
        self.created = content.created
        self.author_items = Ragged.group(content.author, np.arange(n, dtype=np.int32), n_people)
        self._author_keys = self.author_items.rows * np.int64(n) + self.author_items.values
        topic, item = content.topics.T.ravel(), np.tile(np.arange(n, dtype=np.int32), 2)
        order = np.argsort(item, kind="stable")
        self.topic_items = Ragged.group(topic[order].astype(np.int64), item[order], config.topics)
        self._topic_keys = self.topic_items.rows * np.int64(n) + self.topic_items.values
        self.topic_place = np.full((n, 2), -1, np.int32)
        for column in range(2):
            known = np.flatnonzero(content.topics[:, column] >= 0)
            self.topic_place[known, column] = np.searchsorted(
                self._topic_keys, content.topics[known, column].astype(np.int64) * n + known
            )

    def before(self, time: np.ndarray | int) -> np.ndarray:
        """Number of items published before each moment."""
        return np.searchsorted(self.created, time, side="left")

    def author_range(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """For each author, the range in `author_items.values` of the items with low ≤ position < high."""
        base = np.arange(len(self.author_items), dtype=np.int64) * self.n
        return np.searchsorted(self._author_keys, base + low), np.searchsorted(self._author_keys, base + high)

    def topic_range(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """The same for topics."""
        base = np.arange(len(self.topic_items), dtype=np.int64) * self.n
        return np.searchsorted(self._topic_keys, base + low), np.searchsorted(self._topic_keys, base + high)


class DayIndex:
    """What the policy knows at the start of a day, the same for everybody."""

    def __init__(self, config: WorldConfig, shelves: Shelves, day: int, trend: np.ndarray):
        """trend: float64[items] decayed count of interactions up to the day before."""
        logging = config.logging
        self.start = log_start(config) + day * DAY
        self.lifetime = round(logging.eligible_days * DAY)
        end = self.start + DAY
        recent = int(shelves.before(self.start - round(logging.recent_days * DAY)))
        self.author_low, self.author_high = shelves.author_range(recent, int(shelves.before(end)))
        # what may be shown at every moment of the day
        self.low, self.high = int(shelves.before(end - self.lifetime)), int(shelves.before(self.start))
        self.high = max(self.high, self.low)
        self.topic_low, self.topic_high = shelves.topic_range(self.low, self.high)
        self.trend_items, self.trend_edges, self.trend_chance = self._trending(config, shelves, trend)

    def _trending(self, config: WorldConfig, shelves: Shelves, trend: np.ndarray):
        most = max(TRENDING_LEAST, round(config.logging.trending_share * config.items))
        counts = trend[self.low : self.high]
        order = np.argsort(-counts, kind="stable")[:most]
        order = order[counts[order] > 0]
        chance = np.zeros(shelves.n)
        if not len(order):
            return np.zeros(0, np.int32), np.zeros(0), chance
        items = (order + self.low).astype(np.int32)
        weight = np.sqrt(counts[order])
        chance[items] = weight / weight.sum()
        return items, np.cumsum(weight) / weight.sum(), chance


@dataclass
class Pool:
    """Recent items of the accounts that a block's users follow, as ascending keys user · n + item."""

    keys: np.ndarray
    starts: np.ndarray
    """int64[users + 1] where each user's keys begin"""

    @classmethod
    def build(cls, index: DayIndex, shelves: Shelves, user: np.ndarray, author: np.ndarray, n_users: int, kind) -> Pool:
        """user, author: the follow edges of the block, users counted from its first."""
        low = index.author_low[author]
        count = index.author_high[author] - low
        place, item = expand(low, count, shelves.author_items.values)
        keys = user[place].astype(kind) * kind(shelves.n) + item.astype(kind)
        keys.sort()
        return cls(keys, np.searchsorted(keys, (np.arange(n_users + 1) * shelves.n).astype(kind)))


@dataclass(frozen=True)
class Draws:
    """Slots of requests; arrays [R, S]."""

    items: np.ndarray
    """int32, -1 where nothing can be drawn"""
    source: np.ndarray
    """int8 places in SOURCES"""
    propensity: np.ndarray
    """float32"""


class Policy:
    """Draws slots and tells the probability of each draw."""

    def __init__(self, config: WorldConfig, shelves: Shelves, content: Content):
        self.shares = np.array([getattr(config.logging, s) for s in SOURCES])
        self.slots = config.logging.slots
        self.shelves = shelves
        self.content = content

    def draw(
        self, rng: np.random.Generator, index: DayIndex, pool: Pool, profile: np.ndarray, user: np.ndarray,
        time: np.ndarray,
    ) -> Draws:
        """Draw all slots of some requests.

        profile: float32[users of the block, topics]. user: int64[R] within the block. time: int64[R] µs.
        """
        now = self._moment(index, pool, profile, user, time)
        shape = (len(user), self.slots)
        choice = rng.random(shape)
        source = np.zeros(shape, np.int8)
        for edge in np.cumsum(now.shares, axis=1).T[:-1]:
            source += choice >= edge[:, None]
        first, second = rng.random(shape), rng.random(shape, np.float32)
        items = np.full(shape, -1, np.int32)
        row, slot = np.nonzero(source == FOLLOWS)
        if len(row):
            n = now.followed[row]
            rank = draw_rank(first[row, slot], n)
            key = pool.keys[pool.starts[user[row]] + n - 1 - rank]
            items[row, slot] = key - (user[row] * self.shelves.n).astype(key.dtype)
        row, slot = np.nonzero(source == TRENDING)
        if len(row):
            place = np.searchsorted(index.trend_edges, first[row, slot], side="right")
            items[row, slot] = index.trend_items[np.minimum(place, len(index.trend_items) - 1)]
        row, slot = np.nonzero(source == SIMILAR)
        if len(row):
            topics = now.profile.shape[1]
            place = np.searchsorted(now.profile_edges, user[row] + first[row, slot], side="right")
            topic = np.clip(place - user[row] * topics, 0, topics - 1)
            n = index.topic_high[topic] - index.topic_low[topic]
            rank = draw_rank(second[row, slot].astype(np.float64), n)
            drawn = self.shelves.topic_items.values[np.maximum(index.topic_high[topic] - 1 - rank, 0)]
            items[row, slot] = np.where(n > 0, drawn, -1)
        row, slot = np.nonzero(source == UNIFORM)
        if len(row):
            n = now.high[row] - now.low[row]
            items[row, slot] = np.where(n > 0, now.low[row] + (first[row, slot] * n).astype(np.int64), -1)
        return Draws(items, source, self._propensity(index, pool, now, user, items))

    def propensity(
        self, index: DayIndex, pool: Pool, profile: np.ndarray, user: np.ndarray, time: np.ndarray, items: np.ndarray
    ) -> np.ndarray:
        """float32[R, S] probability with which one slot of each request draws each item (0 for -1)."""
        return self._propensity(index, pool, self._moment(index, pool, profile, user, time), user, items)

    def _moment(self, index: DayIndex, pool: Pool, profile: np.ndarray, user: np.ndarray, time: np.ndarray) -> _Moment:
        high = self.shelves.before(time)
        low = np.minimum(self.shelves.before(time - index.lifetime), high)
        kind = pool.keys.dtype.type
        followed = np.searchsorted(pool.keys, (user * self.shelves.n + high).astype(kind)) - pool.starts[user]
        available = profile * (index.topic_high > index.topic_low)
        total = available.sum(axis=1, keepdims=True, dtype=np.float64)
        available = available / np.maximum(total, 1e-12)
        edges = np.cumsum(available, axis=1)
        # rounding must not leave a gap below the next user's first edge
        edges[:, -1] = np.where(total[:, 0] > 0, 1.0, edges[:, -1])
        shares = np.repeat(self.shares[None, :], len(user), axis=0)
        shares[followed == 0, FOLLOWS] = 0
        if not len(index.trend_items):
            shares[:, TRENDING] = 0
        shares[total[user, 0] <= 0, SIMILAR] = 0
        shares[:, UNIFORM] += 1 - shares.sum(axis=1)
        return _Moment(
            low, high, followed, shares, available.astype(np.float32),
            (edges + np.arange(len(edges))[:, None]).ravel(),
        )

    def _propensity(self, index: DayIndex, pool: Pool, now: _Moment, user: np.ndarray, items: np.ndarray) -> np.ndarray:
        row, slot = np.nonzero(items >= 0)
        item, person = items[row, slot], user[row]
        shares = now.shares
        chance = shares[row, TRENDING] * index.trend_chance[item]
        low, high = now.low[row], now.high[row]
        chance += shares[row, UNIFORM] / np.maximum(high - low, 1) * ((item >= low) & (item < high))
        if len(pool.keys):
            kind = pool.keys.dtype.type
            key = person.astype(kind) * kind(self.shelves.n) + item.astype(kind)
            place = np.searchsorted(pool.keys, key)
            n = now.followed[row]
            rank = pool.starts[person] + n - 1 - place
            found = (pool.keys[np.minimum(place, len(pool.keys) - 1)] == key) & (rank >= 0)
            chance += found * shares[row, FOLLOWS] * rank_chance(rank, n)
        similar = np.zeros(len(item))
        flat, topics = now.profile.ravel(), now.profile.shape[1]
        for column in range(2):
            topic = self.content.topics[item, column].astype(np.int64)
            place, high = self.shelves.topic_place[item, column], index.topic_high[topic]
            low = index.topic_low[topic]
            inside = (topic >= 0) & (place >= low) & (place < high)
            similar += inside * flat[person * topics + np.maximum(topic, 0)] * rank_chance(high - 1 - place, high - low)
        chance += shares[row, SIMILAR] * similar
        out = np.zeros(items.shape, np.float32)
        out[row, slot] = chance
        return out


@dataclass(frozen=True)
class _Moment:
    low: np.ndarray
    """int64[R] first eligible item"""
    high: np.ndarray
    """int64[R] number of items published before the request"""
    followed: np.ndarray
    """int64[R] how many items of followed accounts there are"""
    shares: np.ndarray
    """float64[R, 4]"""
    profile: np.ndarray
    """float32[users, topics], rows sum to 1 (or 0)"""
    profile_edges: np.ndarray
    """float64[users · topics] cumulative profile, user u's between u and u + 1"""


def repeats(keys: np.ndarray) -> np.ndarray:
    """bool[n]: whether the same key stands earlier."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    out = np.zeros(len(keys), bool)
    out[order[1:]] = ordered[1:] == ordered[:-1]
    return out


def close_up(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the filled places of each row to its front, in order.

    items: int32[R, S], -1 where empty. Returns the rows closed up, and the column each place came from.
    """
    order = np.argsort(items < 0, axis=1, kind="stable")
    return np.take_along_axis(items, order, axis=1), order


