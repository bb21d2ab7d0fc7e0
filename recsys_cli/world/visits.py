"""When people open the product: sessions and requests of a day, each with its surface and device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.schema import DAY, HOUR, SECOND
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.content import HOURS, weekday_weight
from recsys_cli.world.people import People, log_start
from recsys_cli.world.randomness import generator

SURFACES = ("explore", "home", "video")
SURFACE_SHARES = (0.2, 0.65, 0.15)
SESSION_BREAK = 0.35
"""Probability with which a request after the first of a day begins a new session."""
KEPT_SLOTS = 0.83
"""Share of drawn slots that usually remains after leaving out what was seen (measured on the default world)."""
MAX_REQUESTS = 200
_SESSIONS_A_DAY = 256


@dataclass(frozen=True)
class Visits:
    """Requests of one day, ordered by user and then by time. Every array has one row a request."""

    user: np.ndarray
    """int32 positions"""
    time: np.ndarray
    """int64 µs"""
    surface: np.ndarray
    """int8 places in SURFACES"""
    device: np.ndarray
    """int8 places in `people.DEVICES`"""
    session: np.ndarray
    """int64 ids, unique over users and days"""
    request: np.ndarray
    """int64 ids, unique over users and days, ascending within a user"""
    depth: np.ndarray
    """int16 number of the user's earlier requests in the same session"""

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def concat(cls, parts: list[Visits]) -> Visits:
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))


def block_size(users: int) -> int:
    """Users who share one stream of random numbers: a function of their number alone, never of shards."""
    return max(1, min(1024, -(-users // 4)))


def requests_a_visit(config: WorldConfig, people: People) -> float:
    """Mean number of requests on a day with a visit that gives the configured number of impressions."""
    visit = 1 / (1 + np.exp(-people.activity.astype(np.float64)))
    days = np.clip(config.days - (people.created - log_start(config)) / DAY, 0, config.days)
    expected = float((visit * days * people.requests).sum())
    wanted = config.impressions_per_user * len(people) / (config.logging.slots * KEPT_SLOTS)
    return max(wanted / max(expected, 1e-9), 0.02)


def day_visits(
    config: WorldConfig, people: People, seed: int, users: slice, block: int, day: int, mean_requests: float,
    satisfaction: np.ndarray | None = None, salt: int = 0,
) -> Visits:
    """Requests of the users of one block on one day (0 is the first of the log).

    satisfaction: float32[users of the block], around zero, moves the log-odds of a visit by
    `behaviour.return_effect`. Whoever visits more for being satisfied visits at the same times and from the
    same devices as otherwise: the random numbers do not depend on it.
    """
    n = users.stop - users.start
    rng = generator(seed, "visits", block, day, salt)
    start = log_start(config) + day * DAY
    logit = people.activity[users] + math.log(float(weekday_weight(start)))
    if satisfaction is not None:
        logit = logit + np.float32(config.behaviour.return_effect) * satisfaction
    mean = mean_requests * people.requests[users]
    # a mean below one request a visit means fewer visits
    visit = np.minimum(mean, 1) / (1 + np.exp(-logit))
    here = rng.random(n) < np.where(people.created[users] < start + DAY, visit, 0)
    count = _requests(rng, n, np.maximum(mean, 1), here)
    most = int(count.max(initial=0))
    cap = int(min(MAX_REQUESTS, max(40, math.ceil(12 * mean_requests))))
    count = np.minimum(count, cap)
    most = min(most, cap)
    if most == 0:
        return _empty()
    # drawn for every user and one request after the other, so that one user's numbers never shift another's
    breaks = rng.random((cap, n), np.float32)[:most].T < SESSION_BREAK
    gaps = -np.log1p(-rng.random((cap, n), np.float32)[:most].T) * 150
    surface_draw = rng.random((cap, n), np.float32)[:most].T
    start_hours, device_draw = rng.random(n), rng.random((n, 2), np.float32)
    breaks[:, 0] = True
    number = np.cumsum(breaks, axis=1) - 1
    seconds = _clock(start_hours, people.utc_offset[users], breaks, gaps, count)
    row, column = np.nonzero(np.arange(most) < count[:, None])
    moment = start + (seconds[row, column].astype(np.float64) * SECOND).astype(np.int64) + column
    moment = np.minimum(np.maximum(moment, people.created[users][row] + column), start + DAY - MAX_REQUESTS + column)
    person = (users.start + row).astype(np.int64)
    key = person * 4096 + (day % 4096)
    first = np.maximum.accumulate(np.where(breaks, np.arange(most), 0), axis=1)
    surface = np.searchsorted(np.cumsum(SURFACE_SHARES)[:-1], surface_draw[row, column], side="right")
    return Visits(
        user=person.astype(np.int32), time=moment, surface=surface.astype(np.int8),
        device=_devices(people.device[users], device_draw)[row], session=key * _SESSIONS_A_DAY + number[row, column],
        request=key * _SESSIONS_A_DAY + column, depth=(column - first[row, column]).astype(np.int16),
    )


def _requests(rng: np.random.Generator, n: int, mean: np.ndarray, here: np.ndarray) -> np.ndarray:
    """One request and a geometric number of further ones, `mean` on average, 0 without a visit."""
    u = rng.random(n)
    further = mean - 1
    # P(more than k) = (further / mean) ** k
    ratio = np.maximum(further / mean, 1e-12).astype(np.float64)
    extra = np.floor(np.log(np.maximum(1 - u, 1e-15)) / np.log(ratio)).astype(np.int64)
    return np.where(here, 1 + extra, 0)


def _clock(
    start: np.ndarray, utc_offset: np.ndarray, breaks: np.ndarray, gaps: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """float64[n, requests] seconds since midnight UTC, ascending in a row; the first `count` are below one day.

    The first session begins at an hour drawn from the local rhythm; a new session follows hours later. The longer a
    day's visits take, the earlier they begin, so that none runs past midnight; too long ones are drawn together.
    """
    edges = np.concatenate([[0.0], np.cumsum(HOURS) / HOURS.sum()])
    hour = np.interp(start, edges, np.arange(25))
    first = ((hour - utc_offset) % 24) * HOUR / SECOND
    steps = np.where(breaks, 60 * gaps.astype(np.float64), gaps.astype(np.float64))
    steps[:, 0] = 0
    passed = np.cumsum(steps, axis=1)
    day = 86_399.0 - MAX_REQUESTS / SECOND
    last = np.take_along_axis(passed, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    scale = np.minimum(1, day / np.maximum(last, 1))
    first = first * (1 - last * scale / day)
    return first[:, None] + passed * scale[:, None]


def _devices(usual: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """int8[n]: mostly the usual device of a person, one a day."""
    return np.where(draw[:, 0] < 0.85, usual, (draw[:, 1] * 3).astype(np.int8)).astype(np.int8)


def _empty() -> Visits:
    kinds = (np.int32, np.int64, np.int8, np.int8, np.int64, np.int64, np.int16)
    return Visits(*(np.zeros(0, kind) for kind in kinds))
