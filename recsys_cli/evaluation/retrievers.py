"""Candidate sources side by side: what each finds, what only it finds, and what all find together.

Measured like the rest of an evaluation: lists made from what was known at the start of the test window, the
truth being what people turned to in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.windows.split import split_again
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.lists import DEEPEST, audience, open_popularity, source_lists, within_catalogue
from recsys_cli.evaluation.offline import check_run, sample_users
from recsys_cli.evaluation.period import test_window, truth_of_test
from recsys_cli.pipeline.query import SourceQuery
from recsys_cli.pipeline.sourcing import budgets, merge, propose
from recsys_cli.progress import Progress
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.retrieval.base import Retriever

DEPTHS = (100, 500, DEEPEST)
"""Numbers of candidates at which recall is taken; the other figures are of the middle one."""
UNION = "union of all"
"""The row of all sources' lists together: as many candidates as they have different items."""
MERGED = "merged"
"""The row of the lists as the pipeline's settings merge them: as many candidates as any source alone."""
NOT_FOUND = np.iinfo(np.int32).max


def evaluate_retrievers(
    engine: RecommendationEngine,
    dataset: Dataset,
    config: EvaluationConfig,
    *,
    depths: Sequence[int] = DEPTHS,
    seed: int = 0,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> dict[str, Any]:
    """Measure every source of a run, their union and their merge on the test window.

    Raises ArtifactError and DataError as `offline.evaluate` does.
    """
    progress = progress or Progress()
    check_run(engine, dataset)
    started = time.perf_counter()
    split = split_again(engine.manifest.windows, dataset)
    windows, log = split.windows, split.log
    with trace.timed("evaluate.state"):
        past = engine.as_of(log, windows.test_start, follows=dataset.edges("follows"), blocks=dataset.edges("blocks"))
    truth = truth_of_test(past, dataset, split, past.state, config)
    truth = sample_users(truth, config.users, seed)
    depths = list(within_catalogue(depths, past.state.catalogue.n_items))
    with trace.timed("evaluate.retrievers", users=len(truth.users)):
        rows = _Comparison(past, log, truth, depths, progress).measure(config.resamples, seed)
    return {
        "run": engine.manifest.id,
        "dataset": {"name": engine.manifest.dataset.name, "digest": engine.manifest.dataset.digest},
        "window": test_window(split),
        "seed": seed,
        "depths": depths,
        "focus": _focus(depths),
        "truth": truth.summary,
        "users": len(truth.users),
        "catalogue": {"items": past.state.catalogue.n_items, "available": int(past.state.available.sum())},
        "retrievers": rows,
        "notes": list(engine.manifest.notes),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _focus(depths: Sequence[int]) -> int:
    return depths[len(depths) // 2]


@dataclass
class _Row:
    """What is gathered of one source, of the union or of the merge."""

    name: str
    kind: str
    found: np.ndarray
    """bool[depths, pairs] whether each relevant item is among the first so many"""
    reached: np.ndarray
    """bool[n_items] in anybody's list of the focus depth"""
    candidates: list[np.ndarray] = field(default_factory=list)
    novelty: list[np.ndarray] = field(default_factory=list)
    popularity: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0


class _Comparison:
    """Lists of all sources for the test users, batch by batch; only figures are kept."""

    def __init__(
        self, engine: RecommendationEngine, log: Log, truth: Truth, depths: Sequence[int], progress: Progress
    ):
        self.engine, self.truth, self.depths, self.progress = engine, truth, depths, progress
        self.focus = _focus(depths)
        state = engine.state
        self.audience = audience(log, state)
        self.popular = open_popularity(state)
        self.sources: dict[str, Retriever] = engine.bundle.retrievers
        pairs, shape = len(truth.relevant.values), (len(depths), len(truth.relevant.values))
        kinds = [*((name, "source") for name in self.sources), (MERGED, "merged"), (UNION, "union")]
        self.rows = [_Row(n, k, np.zeros(shape, bool), np.zeros(state.catalogue.n_items, bool)) for n, k in kinds]
        self.only = np.full(pairs, -1, np.int64)
        """row of the one source that found each relevant item within the focus depth, -1 none or several"""

    def measure(self, resamples: int, seed: int) -> list[dict]:
        users = self.truth.users
        size = self.engine.pipeline.batch_size
        starts = range(0, len(users), size)
        with self.progress.step("sources", total=len(starts)) as bar:
            for start in starts:
                self._batch(slice(start, min(start + size, len(users))))
                bar.advance()
        return self._figures(resamples, seed)

    def _batch(self, part: slice) -> None:
        users, offsets = self.truth.users[part], self.truth.relevant.offsets
        pairs = slice(offsets[part.start], offsets[part.stop])
        wanted = self.truth.relevant.values[pairs]
        place = np.repeat(np.arange(len(users)), np.diff(offsets[part.start : part.stop + 1]))
        ranks, lists = [], []
        for row, source in zip(self.rows, self.sources.values(), strict=False):
            items, seconds = _timed(lambda s=source: self._list(s, users, self.depths[-1]))
            row.seconds += seconds
            rank = _ranks(items, place, wanted)
            for d, depth in enumerate(self.depths):
                row.found[d, pairs] = rank < depth
            self._describe(row, items[:, : self.focus])
            ranks.append(rank)
            lists.append(items)
        hit = np.stack(ranks) < self.focus
        self.only[pairs] = np.where(hit.sum(axis=0) == 1, hit.argmax(axis=0), -1)
        merged, union = self.rows[-2:]
        for d, depth in enumerate(self.depths):
            items, seconds = _timed(lambda k=depth: self._merged(users, k))
            merged.found[d, pairs] = _ranks(items, place, wanted) != NOT_FOUND
            union.found[d, pairs] = (np.stack(ranks) < depth).any(axis=0)
            if depth == self.focus:
                merged.seconds += seconds
                self._describe(merged, items)
        every = np.concatenate([items[:, : self.focus] for items in lists], axis=1)
        self._describe(union, merge(every, np.zeros(every.shape, np.uint32), np.zeros(every.shape, np.float32)).items)

    def _list(self, source: Retriever, users: np.ndarray, k: int) -> np.ndarray:
        if self.engine.repeats or source.config.exclude_seen:
            return source.retrieve(self.engine.state, users, k)[0]
        return source_lists(source, self.engine.state, users, k)

    def _merged(self, users: np.ndarray, k: int) -> np.ndarray:
        engine = self.engine
        config = engine.pipeline.sourcing.model_copy(update={"candidates": k})
        query = SourceQuery(users, engine.state)
        shares = budgets(config, self.sources, engine.bundle.configured)
        return propose(query, shares, self.sources, engine.bundle.bits, config).items

    def _describe(self, row: _Row, items: np.ndarray) -> None:
        state, width = self.engine.state, max(items.shape[1], 1)
        row.reached[items[items >= 0]] = True
        row.candidates.append((items >= 0).sum(axis=1))
        row.novelty.append(rm.novelty(items, width, self.audience, state.catalogue.n_users))
        row.popularity.append(rm.popularity_percentile(items, width, self.popular))

    def _figures(self, resamples: int, seed: int) -> list[dict]:
        relevant = self.truth.relevant
        place, counts = relevant.rows, relevant.lengths
        each = [
            np.bincount(place, weights=found, minlength=len(counts)) / counts for r in self.rows for found in r.found
        ]
        mean, low, high = bootstrap_means(np.stack(each, axis=1), resamples=resamples, seed=seed, unit=True)
        available = max(int(self.engine.state.available.sum()), 1)
        out = []
        for at, row in enumerate(self.rows):
            first = at * len(self.depths)
            alone = np.bincount(place, weights=self.only == at, minlength=len(counts)) / counts
            out.append(
                {
                    "name": row.name,
                    "kind": row.kind,
                    "recall": {
                        str(depth): {"value": float(mean[i]), "low": float(low[i]), "high": float(high[i])}
                        for i, depth in enumerate(self.depths, first)
                    },
                    "adds": float(alone.mean()) if row.kind == "source" else None,
                    "candidates": float(np.concatenate(row.candidates).mean()),
                    "coverage": float(row.reached.sum() / available),
                    "novelty": _mean(row.novelty),
                    "popularity": _mean(row.popularity),
                    "ms_per_user": None if row.kind == "union" else row.seconds * 1e3 / len(counts),
                }
            )
        return out


def _ranks(items: np.ndarray, place: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int32[m] where `wanted` stands in its row of `items` [B, K], NOT_FOUND where it does not."""
    out = np.full(len(wanted), NOT_FOUND, np.int32)
    for start in range(0, len(wanted), 2048):
        at = slice(start, start + 2048)
        same = items[place[at]] == wanted[at, None]
        if same.shape[1]:
            out[at] = np.where(same.any(axis=1), same.argmax(axis=1), NOT_FOUND)
    return out


def _timed(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def _mean(parts: list[np.ndarray]) -> float:
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
