"""What is counted of the server, in Prometheus' text form."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server, apart from those of others in the process."""

    def __init__(self):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("recsys_requests", "Requests answered", ["route", "status"], registry=registry)
        self.seconds = Histogram("recsys_request_seconds", "Time to answer", ["route"], buckets=SECONDS,
                                 registry=registry)
        self.fallbacks = Counter("recsys_fallbacks", "Slates that were not the person's own", ["reason"],
                                 registry=registry)
        self.events = Counter("recsys_events", "Events that came in", ["outcome"], registry=registry)
        self.pools = Counter("recsys_pools_built", "Pools built", registry=registry)
        self.pool_failures = Counter("recsys_pool_failures", "Batches of pools that could not be built",
                                     registry=registry)
        self.alerts = Counter("recsys_alerts", "What somebody should look at", ["kind"], registry=registry)
        self.refreshes = Counter("recsys_refreshes", "Times that the state was brought forward", registry=registry)
        self.hits = Counter("recsys_pool_lookups", "Pools asked for", ["found"], registry=registry)
        self.found, self.not_found = self.hits.labels("yes"), self.hits.labels("no")
        self._gauges = {
            name: Gauge(f"recsys_{name}", told, registry=registry)
            for name, told in (
                ("pool_bytes", "Memory of pools"), ("pools", "Pools kept"), ("pools_waiting", "Pools to be built"),
                ("resident_bytes", "Memory of the server's own process, at its largest"),
                ("processor_seconds", "Processor time of the server and of the processes that build pools"),
                ("worker_bytes", "Memory of the processes that build pools"),
                ("log_offset", "Events in the log"),
            )
        }
        self._run = Gauge("recsys_run", "The run that is served", ["run"], registry=registry)
        self._known: dict[tuple, object] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request."""
        key = (route, status)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = (self.requests.labels(route, str(status)), self.seconds.labels(route))
        child[0].inc()
        child[1].observe(seconds)

    def text(self, run: str | None, workers: Iterable[int], **gauges: float) -> bytes:
        """All of it; workers: ids of their processes; gauges: by name, as they stand now."""
        times, theirs = os.times(), [process_figures(pid) for pid in workers]
        gauges |= {
            "processor_seconds": times.user + times.system + sum(seconds for seconds, _ in theirs),
            "worker_bytes": sum(size for _, size in theirs),
            "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        for name, value in gauges.items():
            self._gauges[name].set(value)
        self._run.clear()
        if run is not None:
            self._run.labels(run).set(1)
        return generate_latest(self.registry)


def process_figures(pid: int) -> tuple[float, int]:
    """(processor seconds, resident bytes) of a process; zeros for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            parts = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0, 0
    ticks = int(parts[11]) + int(parts[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(parts[21]) * os.sysconf("SC_PAGE_SIZE")
