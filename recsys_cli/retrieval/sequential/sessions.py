"""Interactions put together that belong together: visits of a person, and baskets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import SECOND

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.retrieval.base import Window

TOGETHER = 0.5
"""Share of the interactions that must stand beside another one before a way to put them together is taken."""
USUAL = 0.99
"""Quantile of the gaps within sessions up to which a served history still goes on with the same one."""


@dataclass(frozen=True)
class Sessions:
    """Sessions of all people, those of one person one after the other and oldest first.

    items: int32 by session, oldest first. user: int32[S]. start, end: int64[S] µs of the first and the last
    interaction. gap: µs without an interaction after which a history that is served begins a new session.
    """

    items: Ragged
    user: np.ndarray
    start: np.ndarray
    end: np.ndarray
    gap: int

    def __len__(self) -> int:
        return len(self.user)

    @property
    def together(self) -> float:
        """Share of the interactions that stand in a session with another one."""
        lengths = self.items.lengths
        return float(lengths[lengths > 1].sum() / max(lengths.sum(), 1))


def sessions_of(window: Window, by: str, gap: int = 0) -> Sessions:
    """The interactions of a window by session.

    by: "session_id" or "request_id", the column of the log, which must be there; "gap", so that one begins where
    more than `gap` µs pass without an interaction (0: what is of one moment belongs together); or "history", all that
    a person did.
    """
    users, items, times = window.interactions
    column = {"session_id": window.log.session, "request_id": window.log.request}.get(by)
    key = np.zeros(len(users), np.int64) if column is None else column[np.flatnonzero(window.log.positive)]
    if column is not None:
        key = np.where(key < 0, -1 - np.arange(len(key)), key)  # what has no name stands alone
        # sessions of one person stand in the order in which they began
        order = np.lexsort((np.arange(len(users)), times, key, users))
        new = _changes(users[order], key[order])
        began = times[order][np.flatnonzero(new)][np.cumsum(new) - 1]
        order = order[np.lexsort((np.arange(len(users)), key[order], began, users[order]))]
    else:
        order = np.lexsort((np.arange(len(users)), times, users))
    user, time, key = users[order], times[order], key[order]
    new = _changes(user, key)
    apart = np.diff(time, prepend=time[:1])
    if by == "gap":
        new |= apart > gap
    first = np.flatnonzero(new)
    lengths = np.diff(first, append=len(user))
    if column is not None and (~new).any():
        gap = max(gap, int(np.quantile(apart[~new], USUAL)))
    elif by == "history":
        gap = np.iinfo(np.int64).max
    last = first + lengths - 1
    return Sessions(Ragged(offsets_of(lengths), items[order]), user[first], time[first], time[last], int(gap))


def has_groups(column: np.ndarray | None) -> bool:
    """Whether a column of the log names sessions or requests: it is there, and some rows share a name."""
    return column is not None and len(column) > 0 and len(np.unique(column)) < len(column)


def visits_of(window: Window, by: str, gap_minutes: float) -> tuple[Sessions, str]:
    """(sessions, what they were made by) for visits; "auto" takes the log's own, else those that gaps in time make
    where most interactions then stand beside another, else whole histories."""
    gap = int(gap_minutes * 60 * SECOND)
    if by == "auto":
        if has_groups(window.log.session):
            by = "session_id"
        else:
            found = sessions_of(window, "gap", gap)
            return (found, "gap") if found.together >= TOGETHER else (sessions_of(window, "history"), "history")
    return sessions_of(window, by, gap), by


def newest_start(state: State, user: int, gap: int) -> int:
    """Place in the user's history at which the newest session begins, gaps of more than `gap` µs dividing them."""
    times = state.history_time[user]
    breaks = np.flatnonzero(np.diff(times) > gap)
    return int(breaks[-1]) + 1 if len(breaks) else 0


def _changes(user: np.ndarray, key: np.ndarray) -> np.ndarray:
    out = np.ones(len(user), bool)
    out[1:] = (user[1:] != user[:-1]) | (key[1:] != key[:-1])
    return out
