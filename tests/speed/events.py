"""Speed of the server's log and state, each figure beside its limit.

    python tests/speed/events.py                     # a log in a folder of its own on this disk
    python tests/speed/events.py --folder /dev/shm   # without the time that a disk takes to flush

How fast events become durable depends on how long the disk takes to flush, so that it is measured beside them.
Processor seconds are of this process, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, Served
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.memory import MemoryStore

ACTIONS = ("click", "like", "repost", "reply", "follow", "share", "hide", "mute", "block", "report")


def some(n: int, first: int = 0) -> list[Event]:
    """n events as a server gets them: impressions of requests and what people do with some."""
    rng = np.random.default_rng(first)
    users, items, acts = rng.integers(0, 100_000, n), rng.integers(0, 1_000_000, n), rng.random(n)
    return [
        Event(
            "impression" if acts[k] < 0.7 else ACTIONS[int(acts[k] * 1000) % len(ACTIONS)], int(users[k // 10]),
            int(items[k]), event_id=uuid.uuid4().hex, request_id=f"{first}-{k // 10}", position=k % 10, surface="feed",
        )
        for k in range(n)
    ]


def timed(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Events a second by the clock, and by the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - clock), count / max(time.process_time() - processor, 1e-9)


def flush_ms(folder: Path) -> float:
    """Milliseconds of one flush of 4 KiB, the median of 100."""
    taken = []
    with open(folder / "flush", "wb", buffering=0) as handle:
        for _ in range(100):
            handle.write(bytes(4096))
            start = time.perf_counter()
            os.fdatasync(handle.fileno())
            taken.append((time.perf_counter() - start) * 1e3)
    return float(np.median(taken))


def show(name: str, rates: tuple[float, float], limit: float | None = None) -> None:
    told = "" if limit is None else f"   limit {limit:,.0f}/s"
    print(f"{name:58} {rates[0]:>10,.0f}/s by the clock {rates[1]:>10,.0f}/s by the processor{told}", flush=True)


async def _many(log: EventLog, events: list[Event], callers: int) -> None:
    async def one(mine: list[Event]) -> None:
        for event in mine:
            await log.append_async([event])

    await asyncio.gather(*(one(events[k::callers]) for k in range(callers)))


def writing(folder: Path, batches: int) -> None:
    """The log alone."""
    with EventLog.open(folder / "log") as log:
        parts = [some(100, 1000 * k) for k in range(batches)]
        show("appended in batches of 100", timed(lambda: [log.append(p) for p in parts], 100 * batches), 50_000)
        parts = [some(10_000, 10**7 + k) for k in range(5)]
        show("appended in batches of 10,000", timed(lambda: [log.append(p) for p in parts], 50_000))
        singles = some(1000, 2 * 10**7)
        show("appended one by one by one caller", timed(lambda: [log.append([e]) for e in singles], 1000), 3_000)
        for callers in (32, 256):
            events = some(40 * callers, 3 * 10**7 + callers)
            rates = timed(lambda e=events, c=callers: asyncio.run(_many(log, e, c)), len(events))
            show(f"appended one by one by {callers} callers at once", rates, 3_000)
        again = parts[0]
        show("sent again, all of them known", timed(lambda: log.append(again), len(again)))
        rates = timed(lambda: sum(len(log.read(k * 5000, 5000)) for k in range(8)), 40_000)
        show("read", rates)


def folding(folder: Path, count: int) -> None:
    """What is made of the log."""
    with EventLog.open(folder / "fold") as log:
        for k in range(count // 10_000):
            log.append(some(10_000, k * 10_000))
        entries = log.read(0, count)
    fold, memories = Fold(ACTIONS), MemoryStore()
    show("folded into impressions", timed(lambda: fold.take(entries), count))
    show("folded into memories of people", timed(lambda: memories.take(entries), count))
    body = fold.to_bytes()
    show("kept for the next start", timed(fold.to_bytes, count))
    show("taken up at the next start", timed(lambda: Fold.from_bytes(body), count))
    print(f"{'size of what is kept':58} {len(body) / count:>10,.0f} bytes an event", flush=True)
    served = Served([str(i) for i in range(20)], "run", "arm", [0.1] * 20, ["als"] * 20)
    with EventLog.open(folder / "served") as log:
        rows = [Event("served", k, request_id=f"q{k}", served=served) for k in range(2000)]
        show("records of answers of 20 items, in batches of 100",
             timed(lambda: [log.append(rows[k : k + 100]) for k in range(0, 2000, 100)], 2000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the log lies")
    parser.add_argument("--batches", type=int, default=300, help="batches of 100 events")
    parser.add_argument("--folded", type=int, default=100_000, help="events that are folded")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print(f"one flush of this disk takes {flush_ms(Path(folder)):.2f} ms", flush=True)
        writing(Path(folder), args.batches)
        folding(Path(folder), args.folded)


if __name__ == "__main__":
    sys.exit(main())
