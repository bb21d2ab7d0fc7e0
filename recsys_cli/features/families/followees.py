"""What the people whom a user follows have to do with an author or an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.arrays import count_in_rows, find_rows
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.features import formulas
from recsys_cli.features.edges import Edges, author_of_user
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Past, Served, SnapshotInputs, Values
from recsys_cli.features.history import Clock, History
from recsys_cli.features.request import FrozenFeatures, Request
from recsys_cli.features.spec import Definitions, Feature, Features

MOST_FOLLOWS = 32
"""Latest follows of a user that are compared with those of an author."""
MOST_FANS = 8
"""Latest interactions with an item among which those of followed people are counted; serving counts eight at once."""
_PAIRS_AT_ONCE = 2**21


class Followees(FeatureFamily):
    """Follows that user and author share, and interactions of followed people with the item, where authors are users
    themselves."""

    name = "followees"
    needs = ("social",)

    def define(self, facts: DatasetFacts) -> Definitions:
        if not (facts.catalogue.author_user >= 0).any():
            return
        yield Feature(
            "shared_follows", "pair", "pair", "shared_follows", "whom both the user and the author follow",
            f"ln(1 + authors among the user's latest {MOST_FOLLOWS} follows whom the author follows too)",
        )
        yield Feature(
            "social_proof", "pair", "pair", "social_proof", "interactions with the item by people the user follows",
            f"ln(1 + those among the item's latest {MOST_FANS} interactions)",
        )

    def compute(self, features: Features, rows: AsOf) -> Values:
        history = _history(rows.past)
        for f in features:
            yield f.name, history.value(f.measure, rows.user, rows.item, rows.time)

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        return _history(inputs.past).frozen(inputs.now)

    def prepare(self, features: Features, frozen: FrozenFeatures) -> _Frozen:
        arrays = frozen.arrays[self.name]
        latest, followers = (Ragged(arrays[f"{n}.offsets"], arrays[f"{n}.values"]) for n in ("latest", "followers"))
        return _Frozen(latest, followers, arrays["fans"], **{k: frozen.arrays["social"][k] for k in _OF_SOCIAL})

    def serve(self, features: Features, request: Request, held: _Frozen) -> Served:
        for f in features:
            read = held.shared_follows if f.measure == "shared_follows" else held.social_proof
            yield f.name, formulas.size(read(request.users, request.items, request.author))


def _history(past: Past) -> _FolloweeHistory:
    return past.once("followees", lambda: _FolloweeHistory(past.catalogue, past.log, past.follows))


class _FolloweeHistory:
    """Both as of any moment, from the log and the edges."""

    def __init__(self, catalogue: Catalogue, log: Log, follows: Edges):
        self.catalogue, self.log, self.follows = catalogue, log, follows
        self.own = author_of_user(catalogue)
        order = np.argsort(follows.key, kind="stable")
        self._key, self._time = follows.key[order], follows.time[order]
        self._latest = History(follows.key // follows.width, Clock(follows.time))
        self._fans = History(np.where(log.positive, log.item, -1).astype(np.int64), Clock(log.time))

    def value(self, measure: str, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """float32[n]; -1 is an unknown user or item."""
        most = MOST_FOLLOWS if measure == "shared_follows" else MOST_FANS
        read = self._shared if measure == "shared_follows" else self._proof
        out = np.zeros(len(user), np.float32)
        step = max(_PAIRS_AT_ONCE // most, 1)
        for low in range(0, len(user), step):
            part = slice(low, low + step)
            out[part] = read(user[part], item[part], time[part])
        return formulas.size(out)

    def _shared(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        author = np.where(item >= 0, self.catalogue.item_author[np.maximum(item, 0)], -1)
        writer = np.where(author >= 0, self.catalogue.author_user[np.maximum(author, 0)], -1)
        asked, row = self._latest_rows(self._latest, np.where(writer >= 0, user, -1), time, MOST_FOLLOWS)
        followed = self.follows.key[row] % self.follows.width
        return self._count(writer[asked], followed, time[asked], asked, len(user))

    def _proof(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        asked, row = self._latest_rows(self._fans, item, time, MOST_FANS)
        fan = self.own[self.log.user[row]]
        return self._count(user[asked], fan, time[asked], asked, len(user))

    @staticmethod
    def _latest_rows(history: History, keys: np.ndarray, time: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """(question, row) of the latest rows of each key before its moment."""
        view = history.view(keys.astype(np.int64), time)
        low = np.maximum(view.start, view.end - most)
        return expand(low, view.end - low, history.row)

    def _count(
        self, user: np.ndarray, author: np.ndarray, time: np.ndarray, asked: np.ndarray, n: int
    ) -> np.ndarray:
        """How many of the edges (user, author) were there strictly before their time, by question."""
        good = np.flatnonzero((user >= 0) & (author >= 0))
        if not len(good) or not len(self._key):
            return np.zeros(n)
        keys = user[good].astype(np.int64) * self.follows.width + author[good]
        at = np.minimum(np.searchsorted(self._key, keys), len(self._key) - 1)
        there = (self._key[at] == keys) & (self._time[at] < time[good])
        return np.bincount(asked[good[there]], minlength=n)

    def frozen(self, time: int) -> Arrays:
        """The latest follows of each user, the followers of each author and the latest fans of each item."""
        catalogue, follows = self.catalogue, self.follows
        users, moments = np.arange(catalogue.n_users), np.full(catalogue.n_users, time, np.int64)
        who, row = self._latest_rows(self._latest, users, moments, MOST_FOLLOWS)
        items, moments = np.arange(catalogue.n_items), np.full(catalogue.n_items, time, np.int64)
        item, rows = self._latest_rows(self._fans, items, moments, MOST_FANS)
        fans = np.full((catalogue.n_items + 1, MOST_FANS), -1, np.int32)
        fans[item, np.arange(len(item)) - np.searchsorted(item, item)] = self.own[self.log.user[rows]]
        edges = follows.key[: np.searchsorted(follows.time, time, "left")]
        user, author = (x.astype(np.int32) for x in (edges // follows.width, edges % follows.width))
        latest = Ragged.group(who, (follows.key[row] % follows.width).astype(np.int32), catalogue.n_users)
        followers = Ragged.group(author, user, catalogue.n_authors)
        return {
            "latest.offsets": latest.offsets, "latest.values": latest.values, "fans": fans,
            "followers.offsets": followers.offsets, "followers.values": followers.values,
        }


_OF_SOCIAL = ("follows", "author_user")


@dataclass(frozen=True)
class _Frozen:
    """The same as of one moment, for serving."""

    latest: Ragged
    """int32 authors whom a user followed last, by user"""
    followers: Ragged
    """int32 users by author"""
    fans: np.ndarray
    """int32[n_items + 1, MOST_FANS] authors who interacted with an item last, -1 fills"""
    follows: np.ndarray
    """int64 user · n_authors + author, ascending"""
    author_user: np.ndarray
    """int32[n_authors] users who are authors"""

    def social_proof(self, users: np.ndarray, items: np.ndarray, author: np.ndarray) -> np.ndarray:
        """Counts int[B, K] of users [B] and items [B, K]."""
        fans = self.fans.take(items, axis=0, mode="wrap")
        found = find_rows(self.follows, users, max(len(self.author_user), 1), fans) >= 0
        # eight Booleans side by side are one number of 64 bits
        return np.bitwise_count(found.view(np.uint64)[..., 0])

    def shared_follows(self, users: np.ndarray, items: np.ndarray, author: np.ndarray) -> np.ndarray:
        """Likewise; author: int32[B, K] of the items."""
        writer = np.where(author >= 0, self.author_user.take(author, mode="clip"), -1)
        row, followed = self.latest.take(users)
        edge, follower = self.followers.take(followed)
        return count_in_rows(row[edge], follower, writer)
