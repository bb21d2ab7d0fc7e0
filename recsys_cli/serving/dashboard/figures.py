"""Figures of the server over time: its counters are looked at every few seconds, and windows are differences."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from recsys_cli.serving.metrics import SECONDS, Metrics

EVERY = 5.0
"""Seconds between two looks."""
KEPT = 720
"""Looks that are kept: an hour."""
ANSWERS = "/v1/recommend/"
"""What is in the routes whose times the overview tells of."""
BOUNDS = np.array(SECONDS)


@dataclass(frozen=True)
class Look:
    """Every counter at one moment, since the server started."""

    moment: float
    """seconds since 1970"""
    requests: dict[tuple[str, str], float] = field(default_factory=dict)
    """(route, status) → requests"""
    buckets: dict[str, np.ndarray] = field(default_factory=dict)
    """route → requests that took at most SECONDS[i]; the last entry is all of them"""
    fallbacks: dict[str, float] = field(default_factory=dict)
    pool_lookups: dict[str, float] = field(default_factory=dict)
    events: dict[str, float] = field(default_factory=dict)
    alerts: dict[str, float] = field(default_factory=dict)
    pools_built: float = 0.0
    pool_failures: float = 0.0

    @classmethod
    def at(cls, metrics: Metrics, moment: float) -> Look:
        """What the counters say now."""
        told: dict[str, dict] = {name: {} for name in ("requests", "fallbacks", "pool_lookups", "events", "alerts")}
        single = {"pools_built": 0.0, "pool_failures": 0.0}
        buckets: dict[str, list[float]] = defaultdict(list)
        for family in metrics.registry.collect():
            name = family.name.removeprefix("recsys_")
            for sample in family.samples:
                values = tuple(sample.labels.values())
                if name == "request_seconds" and sample.name.endswith("_bucket"):
                    buckets[sample.labels["route"]].append(sample.value)
                elif not sample.name.endswith("_total"):
                    continue
                elif name in told:
                    told[name][values if name == "requests" else values[0]] = sample.value
                elif name in single:
                    single[name] = sample.value
        return cls(moment, buckets={route: np.array(held) for route, held in buckets.items()}, **told, **single)

    def since(self, before: Look) -> Window:
        """What happened between two looks."""
        def less(now: dict, then: dict) -> dict:
            return {key: value - then.get(key, 0) for key, value in now.items() if value > then.get(key, 0)}

        zeros = np.zeros(len(BOUNDS) + 1)
        return Window(
            self.moment - before.moment, less(self.requests, before.requests),
            {route: held - before.buckets.get(route, zeros) for route, held in self.buckets.items()},
            less(self.fallbacks, before.fallbacks), less(self.pool_lookups, before.pool_lookups),
            less(self.events, before.events), self.pools_built - before.pools_built,
        )


@dataclass(frozen=True)
class Window:
    """What happened within some seconds; fields as in `Look`."""

    seconds: float
    requests: dict[tuple[str, str], float]
    buckets: dict[str, np.ndarray]
    fallbacks: dict[str, float]
    pool_lookups: dict[str, float]
    events: dict[str, float]
    pools_built: float

    def count(self, part: str = "", failed: bool = False) -> int:
        """Requests of routes that hold `part`. failed: those answered with a status from 500 on alone."""
        return int(sum(
            n for (route, status), n in self.requests.items() if part in route and (not failed or status >= "500")
        ))

    def quantiles(self, part: str, at: tuple[float, ...] = (0.5, 0.95, 0.99)) -> list[float | None]:
        """Seconds that these shares of the requests of some routes took at most, see `quantile`; None of no request."""
        held = [counts for route, counts in self.buckets.items() if part in route]
        counts = np.sum(held, axis=0) if held else np.zeros(len(BOUNDS) + 1)
        return [quantile(counts, q) for q in at]

    def routes(self) -> list[dict]:
        """One row a route: requests, those that failed, p50, p95 and p99 in seconds; most requests first."""
        rows = []
        for route in {route for route, _ in self.requests}:
            n = int(sum(count for (r, _), count in self.requests.items() if r == route))
            failed = int(sum(count for (r, s), count in self.requests.items() if r == route and s >= "500"))
            refused = int(sum(count for (r, s), count in self.requests.items() if r == route and "400" <= s < "500"))
            times = [quantile(self.buckets[route], q) for q in (0.5, 0.95, 0.99)]
            rows.append({"route": route, "requests": n, "refused": refused, "failed": failed,
                         "p50": times[0], "p95": times[1], "p99": times[2]})
        return sorted(rows, key=lambda row: (-row["requests"], row["route"]))


def quantile(counts: np.ndarray, q: float) -> float | None:
    """Seconds within which a share q was answered, on a straight line within its bucket as Prometheus has it.

    counts: float[len(SECONDS) + 1] requests up to each bound, all of them last. Beyond the last bound it is that bound;
    None of no request.
    """
    total = counts[-1]
    if total <= 0:
        return None
    rank = q * total
    at = int(np.searchsorted(counts, rank))
    if at >= len(BOUNDS):
        return float(BOUNDS[-1])
    low, below = (float(BOUNDS[at - 1]), counts[at - 1]) if at else (0.0, 0.0)
    return low + (float(BOUNDS[at]) - low) * float((rank - below) / (counts[at] - below))


class Figures:
    """Looks at the counters of a server, the latest hour of them."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics
        self.looks: deque[Look] = deque([Look(time.time())], maxlen=KEPT)
        """oldest first; the first one stands for the start"""
        self.started = self.looks[0].moment

    def look(self) -> Look:
        """Look now, and keep it."""
        look = Look.at(self._metrics, time.time())
        self.looks.append(look)
        return look

    def last(self, seconds: float) -> Window:
        """What happened within the last `seconds`, or since the oldest look."""
        now = Look.at(self._metrics, time.time())
        held = list(self.looks)
        return now.since(next((look for look in held if look.moment >= now.moment - seconds), held[-1]))

    def steps(self, most: int = 90) -> list[tuple[float, Window]]:
        """(moment, what happened up to it) of windows that follow on each other, oldest first, at most so many."""
        held = list(self.looks)
        every = max(1, -(-len(held) // most))
        held = held[(len(held) - 1) % every :: every]
        return [(now.moment, now.since(before)) for before, now in pairwise(held)]
