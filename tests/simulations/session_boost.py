"""What the boost of the session is worth: NDCG of what people turned to later in the window that no model knows.

    python tests/simulations/session_boost.py --artifacts artifacts --data data/world

Of each person's first session of the test window with two actions or more, the first half is known to the server and
the pool is that of before; later items of the window are the truth. Beside each strength stands the pool that is built
again with those actions in the history, which a server has some hundred milliseconds later.
"""

from __future__ import annotations

import argparse

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.pipeline.since import Since
from recsys_cli.serving.memory import SESSION_GAP
from recsys_cli.serving.pooling import Pool, pool_engine
from recsys_cli.serving.session import Likeness, boosted
from recsys_cli.serving.workers import Job, build_jobs
from recsys_cli.slate_engine import SlateEngine

STRENGTHS = (0.1, 0.25, 0.5, 1.0, 2.0)


def sessions(engine: SlateEngine, dataset: Dataset, positive: tuple[str, ...]):
    """(user, items known, items that follow) of every person with such a session."""
    log = dataset.log
    window = log.window(engine.state.now, int(log.time[-1]) + 1)
    acted = np.zeros(len(window), bool)
    for action in positive:
        acted |= window.actions[action]
    user, item, time = window.user[acted], window.item[acted], window.time[acted]
    order = np.lexsort((time, user))
    user, item, time = user[order], item[order], time[order]
    for person in np.unique(user):
        mine = np.flatnonzero(user == person)
        ends = np.flatnonzero(np.diff(time[mine], append=2**62) > SESSION_GAP) + 1
        for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
            if end - start >= 2:
                cut = start + (end - start) // 2
                known = item[mine[start:cut]]
                later = np.setdiff1d(item[mine[cut:]], known)
                if len(later):
                    yield int(person), known, later
                break


def ndcg(pool: Pool, known: np.ndarray, later: np.ndarray, k: int = 10) -> float:
    top = pool.items[~np.isin(pool.items, known)][:k]
    gain = 1 / np.log2(np.arange(2, k + 2))
    return float((np.isin(top, later) * gain[: len(top)]).sum() / gain[: min(len(later), k)].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--data", default="data/world")
    args = parser.parse_args()
    dataset, measured = Dataset.open(args.data), SlateEngine.load(args.artifacts, measured=True)
    edges = {name: dataset.edges(name) for name in ("follows", "blocks")}
    engine = measured.as_of(dataset.log, measured.manifest.windows.test_start, **edges)
    found = list(sessions(engine, dataset, engine.bundle.spec.positive))
    builder, likeness = pool_engine(engine, 300), Likeness(engine.bundle)
    plain = build_jobs(builder, [Job(user) for user, _, _ in found])
    again = build_jobs(builder, [Job(user, since=Since(tuple(known.tolist()))) for user, known, _ in found])
    base = np.array([ndcg(p, known, later) for p, (_, known, later) in zip(plain, found, strict=True)])
    print(f"{len(found):,} sessions; likeness by {likeness.source or 'topics and authors'}; NDCG@10 {base.mean():.4f}")
    rows = {f"boost of {s:g}": [
        boosted(p, likeness.of(p.items, known), s) for p, (_, known, _) in zip(plain, found, strict=True)
    ] for s in STRENGTHS} | {"built again": again}
    for name, pools in rows.items():
        mine = np.array([ndcg(p, known, later) for p, (_, known, later) in zip(pools, found, strict=True)])
        change = mine - base
        print(f"{name:14} {mine.mean():.4f}  change {change.mean():+.4f} ± "
              f"{1.96 * change.std(ddof=1) / len(change) ** 0.5:.4f}")


if __name__ == "__main__":
    main()
