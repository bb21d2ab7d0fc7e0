"""Who followed or blocked whom, and since when."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features.history import Clock, History


class Edges:
    """Edges from users to authors, each from the first moment it is known, from a table and from actions."""

    def __init__(self, catalogue: Catalogue, log: Log, actions: tuple[str, ...], table: dict[str, np.ndarray] | None):
        """table: as `Dataset.edges` gives; an edge of unknown time (0) was always there."""
        users, authors, times = [], [], []
        for action in actions:
            if action in log.actions:
                rows = np.flatnonzero(log.actions[action])
                users.append(log.user[rows])
                authors.append(catalogue.item_author[log.item[rows]])
                times.append(log.time[rows])
        if table is not None:
            users.append(table["from"])
            authors.append(table["to"])
            times.append(table["time"])
        user = np.concatenate([np.zeros(0, np.int32), *users])
        author = np.concatenate([np.zeros(0, np.int32), *authors])
        time = np.concatenate([np.zeros(0, np.int64), *times])
        self.width = max(catalogue.n_authors, 1)
        key = np.where(author >= 0, user.astype(np.int64) * self.width + author, -1)
        order = np.lexsort((time, key))
        key, time = key[order], time[order]
        first = key >= 0
        first[1:] &= key[1:] != key[:-1]
        key, time = key[first], time[first]
        order = np.argsort(time, kind="stable")
        self.key, self.time = key[order], time[order]
        self._clock = Clock(self.time)
        self._by: dict[str, History] = {}

    def _history(self, by: str) -> History:
        if by not in self._by:
            keys = {"pair": self.key, "user": self.key // self.width, "author": self.key % self.width}[by]
            self._by[by] = History(keys, self._clock)
        return self._by[by]

    def before(self, users: np.ndarray, authors: np.ndarray, time: np.ndarray) -> np.ndarray:
        """bool[n]: the edge was there strictly before `time`; False for -1."""
        keys = np.where((users >= 0) & (authors >= 0), users.astype(np.int64) * self.width + authors, -1)
        return self._history("pair").view(keys, time).shown() > 0

    def count(self, by: str, who: np.ndarray, time: np.ndarray) -> np.ndarray:
        """int[n]: edges strictly before `time` of each user ("user") or to each author ("author")."""
        return self._history(by).view(who.astype(np.int64), time).shown()

    def keys_before(self, now: int) -> np.ndarray:
        """int64 user · width + author of the edges before `now`, ascending."""
        return np.sort(self.key[self.time < now])


def author_of_user(catalogue: Catalogue) -> np.ndarray:
    """int32[n_users]: the position of each user among the authors, -1 where the user is none."""
    out = np.full(catalogue.n_users, -1, np.int32)
    known = np.flatnonzero(catalogue.author_user >= 0)
    out[catalogue.author_user[known]] = known
    return out
