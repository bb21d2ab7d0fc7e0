"""What each user did last, as of any moment: the histories that ranking networks attend to.

The training table asks a whole log (`Behaviour.of_log`), a request asks the state that it is served from
(`Behaviour.of_state`); both answer alike, and no question sees a row of its own moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State

UNKNOWN_TIME = np.int64(-1)
"""Time of what was done before the log begins."""
MAX_ACTIONS = 32
"""Actions that fit into the bits of an interaction; those beyond leave no trace in histories."""


@dataclass(frozen=True)
class Behaviour:
    """Interactions of every user, oldest first, and what is known of the time before the log."""

    catalogue: Catalogue
    actions: tuple[str, ...]
    """action of each bit: the positive ones of the log, then those that only the time before it has"""
    items: Ragged
    """int32 by user"""
    times: Ragged
    """int64 µs, ascending within a user"""
    bits: Ragged
    """uint32 actions of each interaction"""

    @classmethod
    def of_log(cls, catalogue: Catalogue, log: Log) -> Behaviour:
        """From all interactions of a log; questions are cut off at their moments."""
        positive = np.flatnonzero(log.positive)
        rows = Ragged.group(log.user[positive], positive, catalogue.n_users)
        columns = (log.item[rows.values], log.time[rows.values], log.action_bits[rows.values])
        names = _names(catalogue, log.positive_actions)
        return cls(catalogue, names, *(Ragged(rows.offsets, values) for values in columns))

    @classmethod
    def of_state(cls, state: State, positive_actions: Sequence[str]) -> Behaviour:
        """From the interactions that a state keeps. positive_actions: those of its log, in their order."""
        names = _names(state.catalogue, positive_actions)
        bits = state.history_actions or Ragged(state.history.offsets, np.zeros(len(state.history.values), np.uint32))
        return cls(state.catalogue, names, state.history, state.history_time, bits)

    def recent(
        self, users: np.ndarray, moments: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The last `length` interactions of each user strictly before its moment, latest first.

        users: int[Q], -1 unknown. moments: int64[Q] µs. Returns items int32[Q, length] (-1 where there are fewer),
        bits uint32[Q, length] and times int64[Q, length]; what was done before the log follows what the log holds,
        with UNKNOWN_TIME.
        """
        users = np.asarray(users)
        known = np.where((users >= 0) & (users < len(self.items)), users, -1)
        start, stop = self._cut(known, np.asarray(moments, np.int64))
        held = np.minimum(stop - start, length)[:, None]
        step = np.arange(length)
        old, old_bits = self._before(known, length)
        if not len(self.items.values):
            return old, old_bits, np.full(old.shape, UNKNOWN_TIME)
        at = np.clip(stop[:, None] - 1 - step, 0, len(self.items.values) - 1)
        inside, earlier = step < held, np.maximum(step - held, 0)
        items = np.where(inside, self.items.values[at], np.take_along_axis(old, earlier, 1))
        bits = np.where(inside, self.bits.values[at], np.take_along_axis(old_bits, earlier, 1))
        return items, bits, np.where(inside, self.times.values[at], UNKNOWN_TIME)

    def _cut(self, users: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last place (exclusive) of each user's interactions before the moment, by bisection."""
        offsets, times = self.times.offsets, self.times.values
        start = offsets[np.maximum(users, 0)]
        low, high = start.copy(), np.where(users >= 0, offsets[np.maximum(users, 0) + 1], start)
        while (low < high).any():
            middle = (low + high) // 2
            earlier = times[np.minimum(middle, len(times) - 1)] < moments
            open_ = low < high
            low, high = np.where(open_ & earlier, middle + 1, low), np.where(open_ & ~earlier, middle, high)
        return start, low

    def _before(self, users: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and bits of the time before the log: the longest of its lists, marked by the others."""
        lists = {a: rows for a, rows in self.catalogue.before.items() if len(rows.values)}
        if not lists:
            return np.full((len(users), length), -1, np.int32), np.zeros((len(users), length), np.uint32)
        users = np.where(users < min(len(rows) for rows in lists.values()), users, -1)
        longest = max(lists, key=lambda a: len(lists[a].values))
        items = lists[longest].last(users, length)
        bits = np.zeros(items.shape, np.uint32)
        for action, rows in lists.items():
            if action in self.actions[:MAX_ACTIONS]:
                done = items >= 0 if action == longest else _among(items, *rows.take(users))
                bits |= done.astype(np.uint32) << np.uint32(self.actions.index(action))
        return items, bits


def _names(catalogue: Catalogue, positive_actions: Sequence[str]) -> tuple[str, ...]:
    before = sorted(a for a, rows in catalogue.before.items() if len(rows.values))
    return (*positive_actions, *(a for a in before if a not in positive_actions))


def _among(items: np.ndarray, place: np.ndarray, held: np.ndarray) -> np.ndarray:
    """bool[Q, L]: whether row q of `held` (its values one after the other, their rows in `place`) has the item."""
    width = np.int64(max(items.max(initial=0), held.max(initial=0)) + 2)
    keys = np.unique(place * width + held)
    if not len(keys):
        return np.zeros(items.shape, bool)
    wanted = np.arange(len(items))[:, None] * width + items
    at = np.minimum(np.searchsorted(keys, wanted.ravel()), len(keys) - 1).reshape(items.shape)
    return (keys[at] == wanted) & (items >= 0)


@dataclass(frozen=True)
class Entities:
    """Who and what n rows are about, beside their features."""

    behaviour: Behaviour
    user: np.ndarray
    """int32[n], -1 unknown"""
    item: np.ndarray
    """int32[n]"""
    time: np.ndarray
    """int64[n] µs, the moment of each row"""

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows) -> Entities:
        """The given rows (a slice, index array or mask)."""
        return Entities(self.behaviour, self.user[rows], self.item[rows], self.time[rows])
