"""Load of a server as people make it: requests arrive at random moments, whether or not earlier ones were answered.

Arrivals are a Poisson process and never wait for answers (an open loop). A request's time runs from the moment at which
it was due, not from when it could be sent, so that a server that stalls is not spared what came meanwhile (Tene's
"coordinated omission"). Users are drawn by Zipf's law. What is answered is acted upon: events name items, positions and
request ids of slates that were served.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import httptools
import msgspec
import numpy as np

from recsys_cli.serving.timer import Timer

SLATES = 2_000
"""Slates that events are drawn from, the latest."""
TYPES = ("impression", "click", "like", "dwell", "hide")
SHARES = (0.7, 0.2, 0.05, 0.04, 0.01)
"""Kinds of events and how often each is sent."""
LATE_MS = 20.0
"""Milliseconds behind its own schedule at which the load itself is too slow to be trusted."""


class _Shown(msgspec.Struct):
    item_id: str | int


class _Answer(msgspec.Struct):
    request_id: str
    items: list[_Shown]
    user_id: str | int | None = None
    fallback: str | None = None


_answer = msgspec.json.Decoder(_Answer).decode


@dataclass
class Load:
    """What is asked of a server."""

    rate: float
    """requests for recommendations a second"""
    seconds: float
    events: float = 0.0
    """calls with events a second"""
    batch: int = 1
    """events of a call"""
    users: Sequence[str] = ()
    zipf: float = 1.0
    """exponent of the law by which users are drawn: 0 draws all alike"""
    n: int = 10
    connections: int = 64
    """most connections at once; what is due beyond waits, and its time runs"""
    seed: int = 0
    key: str | None = None
    timeout: float = 30.0
    """seconds after which an answer no longer counts"""


@dataclass
class Outcome:
    """What came of a load: one entry a request, in the order in which they were due."""

    due: list[float] = field(default_factory=list)
    """seconds since the beginning"""
    ms: list[float] = field(default_factory=list)
    """from when it was due until it was answered"""
    kind: list[int] = field(default_factory=list)
    """0 a recommendation, 1 events"""
    status: Counter = field(default_factory=Counter)
    """(kind, status) → requests; status 0 where the connection broke or nothing came in time"""
    fallback: Counter = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)
    """ms by which the load was behind its own schedule"""
    seconds: float = 0.0


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, pool: _Sender):
        self._pool, self._parser = pool, None
        self.transport: asyncio.Transport | None = None
        self._job, self._body, self._open = None, b"", True

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def send(self, job: _Job) -> None:
        self._job, self._body = job, b""
        self.transport.write(job.content)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        job, self._job = self._job, None
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if job is not None:
            self._pool.done(job, status, self._body)
        if keep and self._open:
            self._pool.free(self)
        else:
            self.transport.close()

    def connection_lost(self, error) -> None:
        self._open = False
        job, self._job = self._job, None
        self._pool.gone(self)
        if job is not None:
            self._pool.done(job, 0, b"")


@dataclass
class _Job:
    at: int
    kind: int
    content: bytes


class _Sender:
    """Sends what is due over as many connections as are allowed."""

    def __init__(self, host: str, port: int, load: Load, outcome: Outcome, started: float):
        self._host, self._port, self._load, self._outcome = host, port, load, outcome
        self._started = started
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Future] = set()
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self.slates: deque[_Answer] = deque(maxlen=SLATES)

    @property
    def busy(self) -> bool:
        return self._running > 0

    def submit(self, job: _Job) -> None:
        self._running += 1
        if self._idle:
            self._idle.pop().send(job)
            return
        self._waiting.append(job)
        if len(self._all) + self._opening < self._load.connections:
            self._begin()

    def _begin(self) -> None:
        self._opening += 1
        task = asyncio.ensure_future(self._open())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port
            )
        except OSError:
            self._opening -= 1
            while self._waiting and not self._all and not self._opening:
                self.done(self._waiting.popleft(), 0, b"")
            return
        self._opening -= 1
        self._all.add(connection)
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting and len(self._all) + self._opening < self._load.connections:
            self._begin()

    def done(self, job: _Job, status: int, body: bytes) -> None:
        self._running -= 1
        outcome = self._outcome
        outcome.ms[job.at] = (time.perf_counter() - self._started - outcome.due[job.at]) * 1e3
        if status == 200 and job.kind == 0:
            try:
                slate = _answer(body)
            except msgspec.DecodeError:
                status = 0
            else:
                outcome.fallback[slate.fallback] += 1
                if slate.items and slate.user_id is not None:
                    self.slates.append(slate)
        outcome.status[job.kind, status] += 1

    def close(self) -> None:
        for connection in list(self._all):
            connection.transport.close()
        for job in self._waiting:
            self._outcome.status[job.kind, 0] += 1
        self._waiting.clear()


def arrivals(rate: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """float64 moments in [0, seconds) of a Poisson process, ascending."""
    if rate <= 0:
        return np.zeros(0)
    return np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)


def zipf_users(users: int, draws: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """int64[draws] users, the r-th most active with probability ∝ r^−exponent; who that is, is drawn too."""
    weights = np.arange(1, users + 1, dtype=np.float64) ** -exponent
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(draws), side="right")
    return rng.permutation(users)[np.minimum(ranks, users - 1)]


def _head(load: Load, host: str, port: int) -> str:
    key = f"x-api-key: {load.key}\r\n" if load.key else ""
    return f"host: {host}:{port}\r\n{key}"


def _events_of(slates: deque[_Answer], count: int, rng: np.random.Generator, number: Iterator[int]) -> bytes:
    told = []
    for kind in rng.choice(len(TYPES), count, p=SHARES):
        slate = slates[int(rng.integers(len(slates)))]
        place = int(rng.integers(len(slate.items)))
        event = {
            "type": TYPES[kind], "user_id": str(slate.user_id), "item_id": str(slate.items[place].item_id),
            "request_id": slate.request_id, "position": place, "event_id": f"load-{next(number):x}",
        }
        if TYPES[kind] == "dwell":
            event["dwell_seconds"] = round(float(rng.exponential(20.0)), 1)
        told.append(event)
    return msgspec.json.encode(told)


async def run_load(host: str, port: int, load: Load) -> Outcome:
    """Put a load on a server and wait for its answers."""
    rng = np.random.default_rng(load.seed)
    asked, told = arrivals(load.rate, load.seconds, rng), arrivals(load.events, load.seconds, rng)
    due = np.concatenate([asked, told])
    order = np.argsort(due, kind="stable")
    kinds = (order >= len(asked)).astype(int).tolist()
    users = [quote(load.users[u], safe="") for u in zipf_users(len(load.users), len(due), load.zipf, rng)]
    outcome = Outcome(due[order].tolist(), [load.timeout * 1e3] * len(due), kinds)
    head = _head(load, host, port)
    number = iter(range(int(time.time_ns()), 2**63))
    started = time.perf_counter()
    sender, timer = _Sender(host, port, load, outcome, started), Timer.here()
    for at, moment in enumerate(outcome.due):
        while (wait := moment - (time.perf_counter() - started)) > 0:
            await timer.sleep(wait)
        outcome.late.append((time.perf_counter() - started - moment) * 1e3)
        if kinds[at] and sender.slates:
            body = _events_of(sender.slates, load.batch, rng, number)
            first = f"POST /v1/events HTTP/1.1\r\n{head}content-type: application/json\r\n"
            content = f"{first}content-length: {len(body)}\r\n\r\n".encode() + body
        else:  # nothing was served yet that could be acted upon
            kinds[at] = outcome.kind[at] = 0
            content = f"GET /v1/recommend/{users[at]}?n={load.n} HTTP/1.1\r\n{head}\r\n".encode()
        sender.submit(_Job(at, kinds[at], content))
        if at % 16 == 0:
            await asyncio.sleep(0)
    deadline = time.perf_counter() + load.timeout
    while sender.busy and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    outcome.seconds = time.perf_counter() - started
    timer.close()
    sender.close()
    await asyncio.sleep(0)
    return outcome
