"""Seconds and memory to fit the closed-form sources on 10 M rows of 100 K items, and milliseconds of a request.

    python tests/speed/sources_at_scale.py [KIND ...] [--rows N] [--items N]

Each is fitted in a process of its own, with its default settings, on people whose next items depend on their last. Run
it on a machine that does nothing else; beside wall-clock time it tells processor time, which others disturb less.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.registry import SOURCES

KINDS = ("markov", "linear_autoregressive", "ease", "graph_filter", "item_neighbours", "rp3beta")
EACH = 100
"""Rows of a user."""
FIT_SECONDS, FIT_GIB, REQUEST_MS = 120, 6, 1.0


class Said(Progress):
    """Prints what is said."""

    def message(self, text: str) -> None:
        print(f"  {text}", flush=True)


def window_of(rows: int, items: int, seed: int = 0) -> Window:
    """Half of what people do is popular with all (Zipf), half lies a little way on from the item before."""
    rng, users = np.random.default_rng(seed), rows // EACH
    named = rng.permutation(items)
    popular = np.minimum(rng.zipf(1.2, (users, EACH)) % items, items - 1)
    at = np.empty((users, EACH), np.int64)
    at[:, 0] = popular[:, 0]
    for place in range(1, EACH):
        on = (at[:, place - 1] + rng.integers(1, 30, users)) % items
        at[:, place] = np.where(rng.random(users) < 0.5, on, popular[:, place])
    item = named[at.T.ravel()].astype(np.int32)
    user = np.tile(np.arange(users, dtype=np.int32), EACH)
    stamp = 1_700_000_000_000_000 + np.arange(len(item), dtype=np.int64)
    actions = {"click": np.ones(len(item), bool)}
    log = Log(user=user, item=item, time=stamp, actions=actions, positive_actions=("click",), negative_actions=())
    none = np.full(items, -1, np.int32)
    catalogue = Catalogue(
        n_users=users, n_authors=users, item_author=none, item_created=np.zeros(items, np.int64),
        item_topics=Ragged.empty(items), item_text=Ragged.empty(items), item_codes={}, item_numbers={}, item_safety={},
        user_created=np.zeros(users, np.int64), user_codes={}, user_numbers={},
        author_user=np.arange(users, dtype=np.int32), names={"topics": []},
    )  # fmt: skip
    end = int(stamp[-1]) + 1
    return Window(None, catalogue, log, end, State.build(catalogue, log, end, None))


def measure(kind: str, rows: int, items: int) -> None:
    window = window_of(rows, items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    source = SOURCES[kind](SOURCES[kind].config_type())
    start, work = time.perf_counter(), time.process_time()
    source.fit(window, Said())
    seconds, work = time.perf_counter() - start, time.process_time() - work
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    users = np.random.default_rng(1).integers(0, window.catalogue.n_users, 200).astype(np.int32)
    source.retrieve(window.state, users[:1], 100)
    asked, took = [], time.process_time()
    for user in users:
        began = time.perf_counter()
        source.retrieve(window.state, np.array([user]), 100)
        asked.append(time.perf_counter() - began)
    took = (time.process_time() - took) / len(users) * 1e3
    missed = "   MISSED" if seconds > FIT_SECONDS or memory > FIT_GIB or np.median(asked) * 1e3 > REQUEST_MS else ""
    print(
        f"{kind:<22} fit {seconds:7.1f} s ({work:.0f} s of processors), {memory:.1f} GiB ({before:.1f} of them the "
        f"data); a request {np.median(asked) * 1e3:.2f} ms ({took:.2f} ms of processors){missed}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS, metavar="KIND")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    for kind in options.kinds:
        task = multiprocessing.Process(target=measure, args=(kind, options.rows, options.items))
        task.start()
        task.join()


if __name__ == "__main__":
    main()
