"""What the run in use foretells of the impressions of a log: calibration online, and drift of the predictions."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.files import scratch_folder
from recsys_cli.live.rollup import Day

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.settings import Settings

EDGES = np.array([0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7])
"""Where the bins of probabilities begin."""


def add_predictions(
    settings: Settings, dataset: Dataset, log: str | os.PathLike, days: dict[dt.date, Day], rows: int
) -> Day:
    """Add to the counts of days what the run in use foretells of up to `rows` impressions of each and what happened,
    and return the bins of its predictions on as many of the last impressions it was trained on.

    Features are as of each impression. People and items that the run does not know are left out. Nothing is added
    where it has no heavy ranker.
    """
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.live.lists import edges_in_vocabulary, in_vocabulary
    from recsys_cli.serving.export import export_events

    engine = RecommendationEngine.load(settings.paths.artifacts, threads=settings.threads)
    if engine.bundle.heavy is None:
        return {}
    with scratch_folder() as folder:
        from recsys_cli.data.dataset import Dataset as Opened

        export_events(log, dataset, Path(folder) / "data")
        both = Opened.open(Path(folder) / "data")
        known = in_vocabulary(engine.bundle, both, both.log)
        edges = {table: edges_in_vocabulary(engine.bundle, both, table) for table in ("follows", "blocks")}
    rng = np.random.default_rng(settings.seed)
    learned = int(np.searchsorted(known.time, engine.manifest.models_end))
    out: Day = {}
    _count(out, _predict(engine, known, edges, slice(max(0, learned - rows), learned)), None)
    for day, counts in days.items():
        start = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp() * 1e6)
        low, high = np.searchsorted(known.time, [start, start + 86_400_000_000])
        low = max(int(low), learned)
        if high <= low:
            continue
        # neighbouring rows, so that features of as many moments as rows are counted, no more
        first = low + int(rng.integers(0, max(int(high) - low - rows, 0) + 1))
        part = slice(first, min(first + rows, int(high)))
        _count(counts, _predict(engine, known, edges, part), known.take(part))
    return {key: value for key, value in out.items() if key[0].startswith("bin.")}


def _predict(
    engine: RecommendationEngine, log: Log, edges: dict[str, dict | None], rows: slice
) -> dict[str, np.ndarray]:
    from recsys_cli.features.build import build_table

    bundle = engine.bundle
    if rows.stop <= rows.start:
        return {}

    def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: bundle.retrievers[name].score(engine.state, users, items[:, None])[:, 0]
            if name in bundle.retrievers else np.zeros(len(users), np.float32)
            for name in bundle.spec.similarities
        }

    table = build_table(bundle.spec, bundle.catalogue, log, rows, **edges, similarity=similarity)
    return bundle.heavy.predict(table.values, table.entities)


def _count(counts: Day, predicted: dict[str, np.ndarray], log: Log | None) -> None:
    """Add sums and bins of predictions, and with a log what happened."""
    for action, p in predicted.items():
        if action == "dwell" or not len(p):
            continue
        bins = np.bincount(np.searchsorted(EDGES, p, side="right") - 1, minlength=len(EDGES))
        counts |= {(f"bin.p_{action}", f"{EDGES[b]:g}"): float(n) for b, n in enumerate(bins) if n}
        if log is not None and action in log.actions:
            counts["predicted", action] = float(p.sum())
            counts["observed", action] = float(log.actions[action].sum())
