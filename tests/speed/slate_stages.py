"""How long the stages take that make a slate of 100 of 500 candidates for one user, in processor milliseconds.

    python tests/speed/slate_stages.py [repeats]

The median over repeats on a world of 4,000 items with vectors of 64 numbers. Asked for: DPP, MMR, and every filter, cap
and rule of the preset x-2026 together in at most 3 ms each.
"""

import statistics
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from recsys_cli.data.catalogue import Columns
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.features.context import Context
from recsys_cli.pipeline.added import KINDS
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import Blocked, Own, Published, Seen
from recsys_cli.pipeline.query import Query
from recsys_cli.testing.planted_world import NOW, planted

FROM, TO, DIM, USERS, ITEMS = 500, 100, 64, 200, 4000
SLATES = {
    "mmr": [("mmr", {})],
    "dpp": [("dpp", {"diversity": 0.35})],
    "k_dpp": [("k_dpp", {})],
    "calibration": [("calibration", {})],
    "constraints": [("constraints", {"max_count": {"author": 2}, "apart": {"author": 3}})],
    "exposure": [("exposure", {"bounds": [7]})],
    "x-2026": [
        ("served", {}), ("muted_keywords", {}), ("language", {}), ("unavailable", {}), ("subscription", {}),
        ("see_less", {}), ("author_decay", {}), ("out_of_network", {}), ("dpp", {"diversity": 0.35}),
        ("constraints", {"max_count": {"author": 3}, "apart": {"author": 2}}), ("conversation", {}),
        ("near_duplicates", {}),
    ],
}


def world(rng: np.random.Generator):
    """(bundle, query of one user, candidates): enough of a run for these stages."""
    catalogue, log, follows = planted(users=USERS, items=ITEMS)
    n, lists = catalogue.n_items, lambda high, each: Ragged.group(
        np.repeat(np.arange(USERS), each), rng.integers(0, high, USERS * each).astype(np.int32), USERS
    ).sorted_rows()
    numbers = {"available": np.ones(n, np.float32), "subscribers_only": (rng.random(n) < 0.05).astype(np.float32)}
    catalogue = replace(
        catalogue,
        item_codes={
            "language": rng.integers(0, 3, n).astype(np.int32),
            "conversation_id": rng.integers(0, n // 2, n).astype(np.int32),
        },
        item_numbers=numbers,
        user_codes={"language": rng.integers(0, 3, USERS).astype(np.int32)},
        user_columns=Columns(lists={k: lists(2**31 - 1, 5) for k in ("muted_keywords", "subscriptions", "see_less")}),
        names={**catalogue.names, "item.language": list("abc"), "user.language": list("abc")},
    )
    state = State.build(catalogue, log, NOW, follows)
    index = SimpleNamespace(vectors=rng.normal(size=(n, DIM)).astype(np.float32), known=np.ones(n, bool))
    ids = SimpleNamespace(external=lambda p: p.tolist(), __len__=lambda: USERS)
    bundle = SimpleNamespace(
        retrievers={"als": SimpleNamespace(index=index)}, catalogue=catalogue, state=state,
        author_ids=Names(catalogue.n_authors), user_ids=ids,
    )
    query = Query(np.array([3], np.int32), TO, bundle, state, None, Context(now=NOW), seed=1,
                  served=np.sort(rng.choice(n, 50, replace=False)).astype(np.int32))
    items = rng.choice(n, (1, FROM), replace=False).astype(np.int32)
    utility = -np.sort(-rng.normal(size=(1, FROM)).astype(np.float32), axis=1)
    return bundle, query, Candidates(items, np.ones((1, FROM), np.uint32), {"utility": utility})


class Names:
    """Ids that are their positions."""

    def __init__(self, n: int):
        self._n = n

    def __len__(self) -> int:
        return self._n

    def external(self, positions: np.ndarray) -> list[int]:
        return positions.tolist()


def main(repeats: int = 200) -> None:
    bundle, query, candidates = world(np.random.default_rng(0))
    for name, kinds in SLATES.items():
        stages = [Published(), Own(), Blocked(), Seen()] if name == "x-2026" else []
        for kind, settings in kinds:
            settings = {"column": "language", **settings} if kind == "language" else settings
            stage = KINDS[kind](KINDS[kind].config_type(**settings))
            stage.name = kind
            if lack := stage.prepare(bundle):
                raise SystemExit(f"{kind} {lack}")
            stages.append(stage)
        out, parts = candidates, {}
        for stage in stages:
            if stage.enabled(query):
                parts[stage.name] = median_ms(lambda s=stage, c=out: s(query, c), repeats)
                out = stage(query, out)
        assert out.counts[0] >= TO, name
        total = median_ms(lambda stages=stages: through(stages, query, candidates), repeats)
        told = ", ".join(f"{k} {v:.2f}" for k, v in sorted(parts.items(), key=lambda part: -part[1])[:8])
        print(f"{name:12} {total:6.2f} ms   {told if len(parts) > 1 else ''}")


def through(stages: list, query: Query, candidates: Candidates) -> None:
    """One request."""
    for stage in stages:
        if stage.enabled(query):
            candidates = stage(query, candidates)


def median_ms(call, repeats: int, each: int = 10) -> float:
    """Processor milliseconds of a call: the median over runs of several, for the clock costs time as well."""
    times = []
    for _ in range(max(repeats // each, 1)):
        start = time.process_time()
        for _ in range(each):
            call()
        times.append((time.process_time() - start) * 1e3 / each)
    return statistics.median(times)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
