"""Which window each row of a log belongs to, and the order that makes those windows cuts in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.data.schema import SECOND

HISTORY, RANKER, VALIDATION, TEST = range(4)
"""Codes of the windows."""


class Shares(NamedTuple):
    """How much of each user's rows goes into the windows, as shares of them or as numbers of rows."""

    history: float
    validation: float
    test: float
    validation_rows: int | None = None
    """rows a user instead of the share"""
    test_rows: int | None = None


class Arranged(NamedTuple):
    """A log put in the order of its windows."""

    log: Log
    order: np.ndarray
    """int64[n] the row of the original log at each place"""
    bounds: tuple[int, int, int, int, int]
    """µs: start, and the ends of the history, ranker's, validation and test windows"""


def places_in_order(user: np.ndarray) -> np.ndarray:
    """int64[n]: which of its user's rows each row is, 0 the first, as they stand."""
    return _places(np.argsort(user, kind="stable"), user)


def places_at_random(user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64[n]: the same in an order that is drawn for each user."""
    return _places(np.lexsort((rng.random(len(user)), user)), user)


def _places(order: np.ndarray, user: np.ndarray) -> np.ndarray:
    counts = np.bincount(user)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    out = np.empty(len(user), np.int64)
    out[order] = np.arange(len(user)) - first
    return out


def count_of(
    rows: np.ndarray, share: float, room: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """int64[n_users], at most `room`: how many of each user's rows a share is.

    With rng a fraction of a row is drawn, so that the share holds on average for everybody. Without, it is cut off;
    of users too short for a single row so many give one that the share holds for them together.
    """
    exact = rows * share
    if rng is not None:
        return np.minimum(np.floor(exact + rng.random(len(rows))).astype(np.int64), room)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    short = np.where(whole == 0, exact, 0.0)
    able = np.where(room > 0, short, 0.0)
    able *= short.sum() / max(able.sum(), 1e-12)
    together = np.floor(np.cumsum(able) + 1e-9).astype(np.int64)
    return np.minimum(whole + np.diff(together, prepend=0), room)


def by_user(
    user: np.ndarray, place: np.ndarray, shares: Shares, rng: np.random.Generator | None = None
) -> np.ndarray:
    """int8[n] window of each row: a user's last places measure, those before validate, the first are history.

    user: int32[n]; place: int64[n] among the rows of the user. Everybody keeps a row of history.
    """
    rows = np.bincount(user)

    def counts(share: float, fixed: int | None, room: np.ndarray) -> np.ndarray:
        return count_of(rows, share, room, rng) if fixed is None else np.minimum(fixed, room)

    test = counts(shares.test, shares.test_rows, np.maximum(rows - 1, 0))
    validation = counts(shares.validation, shares.validation_rows, np.maximum(rows - test - 1, 0))
    rest = rows - test - validation
    history = np.clip(np.floor(rows * shares.history + 0.5).astype(np.int64), np.minimum(rest, 1), rest)
    out = np.full(len(user), RANKER, np.int8)
    out[place < history[user]] = HISTORY
    out[place >= rest[user]] = VALIDATION
    out[place >= (rows - test)[user]] = TEST
    return out


def by_people(
    user: np.ndarray, place: np.ndarray, shares: Shares, known: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out people: int8[n] window of each row, and bool[n_users] who is held out.

    Shares of the people with at least two rows are drawn for test and for validation; the first `known` share of the
    rows of each is history and the rest is to be found. The rows of everybody else are history and the ranker's.
    """
    rows = np.bincount(user)
    people = rng.permutation(np.flatnonzero(rows >= 2))
    n_test, n_validation = (round(share * len(people)) for share in (shares.test, shares.validation))
    window = np.full(len(rows), RANKER, np.int8)
    window[people[:n_test]] = TEST
    window[people[n_test : n_test + n_validation]] = VALIDATION
    held_out = window != RANKER
    history = np.floor(rows * known + 0.5).astype(np.int64)
    others = shares.history / (1 - shares.test - shares.validation)
    history = np.where(held_out, history, np.floor(rows * others + 0.5).astype(np.int64))
    history = np.clip(history, 1, np.where(held_out, rows - 1, np.maximum(rows, 1)))
    return np.where(place < history[user], np.int8(HISTORY), window[user]), held_out


def arrange(log: Log, window: np.ndarray, start: int) -> Arranged:
    """Put the rows in the order of their windows, with moments of their own from `start` (µs) on.

    window: int8[n]. Within a window a row's moment is `start of the window + s seconds` for the s-th different moment
    of its user there, so the order within a user stays, and what was shown together stays together.
    """
    by_moment = np.lexsort((np.arange(len(log)), log.time, log.user, window))
    user, time, code = log.user[by_moment], log.time[by_moment], window[by_moment]
    first = np.ones(len(log), bool)
    first[1:] = (user[1:] != user[:-1]) | (code[1:] != code[:-1])
    step = np.cumsum(first | np.r_[True, time[1:] != time[:-1]][: len(log)])
    group = np.cumsum(first) - 1
    second = step - step[np.flatnonzero(first)][group]
    lengths = np.zeros(TEST + 1, np.int64)
    np.maximum.at(lengths, code, second + 1)
    ends = start + np.cumsum(lengths) * SECOND
    moment = np.empty(len(log), np.int64)
    moment[by_moment] = (ends - lengths * SECOND)[code] + second * SECOND
    order = np.lexsort((np.arange(len(log)), log.user, moment))
    return Arranged(log.at_times(order, moment[order]), order, (start, *(int(e) for e in ends)))
