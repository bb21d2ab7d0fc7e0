"""What the people whom a user follows have to do with an author or an item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.features import formulas
from recsys_cli.features.history import Clock, History
from recsys_cli.features.social import Edges, author_of_user
from recsys_cli.features.spec import Feature

SOURCE = "circle"
MOST_FOLLOWS = 32
"""Latest follows of a user that are compared with those of an author."""
MOST_FANS = 8
"""Latest interactions with an item among which those of followed people are counted."""
_PAIRS_AT_ONCE = 2**21


def define_circle(catalogue: Catalogue) -> Iterator[Feature]:
    """Where authors are users themselves."""
    if not (catalogue.author_user >= 0).any():
        return
    yield Feature(
        "shared_follows", "pair", "pair", SOURCE, "shared_follows", "whom both the user and the author follow",
        f"ln(1 + authors among the user's latest {MOST_FOLLOWS} follows whom the author follows too)",
    )
    yield Feature(
        "social_proof", "pair", "pair", SOURCE, "social_proof", "interactions with the item by people the user follows",
        f"ln(1 + those among the item's latest {MOST_FANS} interactions)",
    )


class CircleHistory:
    """Answers as of any moment, from the log and the edges."""

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

    def _count(self, user, author, time, asked, n: int) -> np.ndarray:
        """How many of the edges (user, author) were there strictly before their time, by question."""
        good = np.flatnonzero((user >= 0) & (author >= 0))
        if not len(good) or not len(self._key):
            return np.zeros(n)
        keys = user[good].astype(np.int64) * self.follows.width + author[good]
        at = np.minimum(np.searchsorted(self._key, keys), len(self._key) - 1)
        there = (self._key[at] == keys) & (self._time[at] < time[good])
        return np.bincount(asked[good[there]], minlength=n)

    def now(self, time: int) -> Circle:
        """What the snapshot of a moment keeps of it."""
        catalogue, follows = self.catalogue, self.follows
        users, moments = np.arange(catalogue.n_users), np.full(catalogue.n_users, time, np.int64)
        who, row = self._latest_rows(self._latest, users, moments, MOST_FOLLOWS)
        items, moments = np.arange(catalogue.n_items), np.full(catalogue.n_items, time, np.int64)
        item, rows = self._latest_rows(self._fans, items, moments, MOST_FANS)
        fan = self.own[self.log.user[rows]]
        place = np.arange(len(item)) - np.searchsorted(item, item)
        fans = np.full((catalogue.n_items + 1, MOST_FANS), -1, np.int32)
        fans[item, place] = fan
        edges = follows.key[: np.searchsorted(follows.time, time, "left")]
        return Circle(
            Ragged.group(who, (follows.key[row] % follows.width).astype(np.int32), catalogue.n_users),
            Ragged.group(
                (edges % follows.width).astype(np.int32), (edges // follows.width).astype(np.int32), catalogue.n_authors
            ),
            fans,
        )


class Circle:
    """The same as of one moment, for serving."""

    def __init__(self, latest: Ragged, followers: Ragged, fans: np.ndarray):
        """latest: int32 authors a user followed last, by user. followers: int32 users by author. fans: int32[n_items
        + 1, MOST_FANS] authors who interacted with an item last, -1 fills."""
        self.latest, self.followers, self.fans = latest, followers, fans

    def values(
        self, measures: list[str], users: np.ndarray, items: np.ndarray, author_user: np.ndarray, author: np.ndarray,
        followed: list[np.ndarray],
    ) -> dict[str, np.ndarray]:
        """Measure → float32[B, K]. author: int32[B, K] of the items. followed: all authors whom each user follows."""
        out = {m: np.zeros(items.shape, np.float32) for m in measures}
        n_authors = len(author_user)
        for b in np.flatnonzero(users >= 0):
            if "social_proof" in out and len(followed[b]):
                mine = np.zeros(n_authors + 1, np.float32)
                mine[followed[b]] = 1
                fans = self.fans.take(items[b], axis=0, mode="wrap")
                out["social_proof"][b] = mine.take(fans, mode="wrap").sum(axis=1)
            latest = self.latest[users[b]]
            if "shared_follows" in out and len(latest):
                common = np.sort(self.followers.take(latest)[1])
                writer = np.where(author[b] >= 0, author_user.take(author[b], mode="clip"), -1)
                out["shared_follows"][b] = common.searchsorted(writer, "right") - common.searchsorted(writer, "left")
        return {m: formulas.size(v) for m, v in out.items()}

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "circle/latest.offsets": self.latest.offsets, "circle/latest.values": self.latest.values,
            "circle/followers.offsets": self.followers.offsets, "circle/followers.values": self.followers.values,
            "circle/fans": self.fans,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Circle:
        def rows(name: str) -> Ragged:
            return Ragged(arrays[f"circle/{name}.offsets"], arrays[f"circle/{name}.values"])

        return cls(rows("latest"), rows("followers"), arrays["circle/fans"])
