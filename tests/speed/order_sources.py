"""Seconds and memory to fit sources of sessions, repeats and baskets, and milliseconds of a request.

    python tests/speed/order_sources.py [KIND ...] [--rows 10000000] [--items 100000] [--sessions 1000000]

People come back for visits of ten items of their own taste, half of them taken before. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.registry import SOURCES

KINDS = ("session_neighbours", "repeat_consumption", "next_basket")
VISITS = 4
"""Visits of everybody."""
FIT_SECONDS, FIT_GIB, REQUEST_MS = 120, 6.0, {"session_neighbours": 2.0}
SPAN, NOW = 60 * DAY, 1_750_000_000_000_000


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    asked = parser.parse_args(argv)
    window = window_of(asked.rows, asked.items, asked.sessions)
    print(f"{asked.rows:,} rows, {asked.items:,} items, {asked.sessions:,} sessions: {_peak():.2f} GiB", flush=True)
    for kind in asked.kinds or KINDS:
        source = SOURCES[kind](SOURCES[kind].config_type(**({"basket": "session"} if kind == "next_basket" else {})))
        before, start = _peak(), time.perf_counter()
        source.fit(window, Progress())
        seconds, peak = time.perf_counter() - start, _peak()
        with tempfile.TemporaryDirectory() as name:
            source.save(Path(name))
            size = sum(p.stat().st_size for p in Path(name).rglob("*")) / 2**20
            mapped = type(source).load(source.config, Path(name))
            median, high = requests(mapped, window.state)
        within = seconds <= FIT_SECONDS and peak <= FIT_GIB and median <= REQUEST_MS.get(kind, 1.0)
        print(
            f"{kind:<20} fit {seconds:7.1f} s, peak {peak:.2f} GiB ({before:.2f} before), {size:,.0f} MiB; "
            f"request {median:.2f} ms, p95 {high:.2f} ms{'' if within else '   MISSED'}", flush=True,
        )


def window_of(rows: int, items: int, sessions: int) -> Window:
    rng = np.random.default_rng(0)
    people, each = sessions // VISITS, rows // sessions
    popular = rng.permutation(items).astype(np.int32)
    # everybody's taste is a few of two hundred neighbourhoods of the catalogue
    home = rng.integers(0, 200, people)
    visit = np.repeat(np.arange(sessions), each)
    user = (visit % people).astype(np.int32)
    rank = np.minimum((rng.random(len(user)) ** 3 * items / 200).astype(np.int64) * 200 + home[user], items - 1)
    item = popular[np.where(rng.random(len(user)) < 0.2, (rng.random(len(user)) ** 4 * items).astype(np.int64), rank)]
    start = np.sort(rng.integers(0, SPAN, sessions))
    moment = NOW - SPAN + start[visit] + np.tile(np.arange(each) * 60_000_000, sessions)
    order = np.argsort(moment, kind="stable")
    log = Log(
        user=user[order], item=item[order], time=moment[order], actions={"click": np.ones(len(user), bool)},
        positive_actions=("click",), negative_actions=(), session=visit[order],
    )  # fmt: skip
    end = int(log.time[-1]) + 1
    none = Ragged.empty(items)
    catalogue = Catalogue(
        n_users=people, n_authors=0, item_author=np.full(items, -1, np.int32), item_created=np.zeros(items, np.int64),
        item_topics=none, item_text=none, item_codes={}, item_numbers={}, item_safety={},
        user_created=np.zeros(people, np.int64), user_codes={}, user_numbers={}, author_user=np.zeros(0, np.int32),
        names={},
    )  # fmt: skip
    return Window(None, catalogue, log, end, State.build(catalogue, log, end))


def requests(source, state: State, count: int = 300) -> tuple[float, float]:
    """(median, 95th percentile) milliseconds of a request for 100 items, of known users and of histories given."""
    rng = np.random.default_rng(1)
    users = rng.choice(state.catalogue.n_users, count, replace=False)
    guest = with_guest(state, state.history[int(users[0])][:5])
    asked = [(state, int(user)) for user in users] + [(guest, state.catalogue.n_users)] * 5
    source.retrieve(*_request(asked[0]), 100), source.retrieve(*_request(asked[-1]), 100)
    out = []
    for one in asked:
        start = time.perf_counter()
        source.retrieve(*_request(one), 100)
        out.append((time.perf_counter() - start) * 1000)
    return float(np.median(out)), float(np.quantile(out, 0.95))


def _request(asked: tuple[State, int]) -> tuple[State, np.ndarray]:
    return asked[0], np.array([asked[1]], np.int32)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(sys.argv[1:])
