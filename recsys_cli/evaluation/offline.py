"""The offline evaluator: the whole funnel and every source alone, as of the start of the test window.

Everything is served by the engine that also answers requests, from a state that knows only what came
before the cutoff; what people turned to afterwards is the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.impressions import measure_impressions
from recsys_cli.evaluation.lists import Popularity, Random, source_lists
from recsys_cli.evaluation.replay import replayed_rate
from recsys_cli.evaluation.targets import check_targets
from recsys_cli.evaluation.truth import Truth, find_truth
from recsys_cli.progress import Progress
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.ranking.serving import ServedRanker

FUNNEL = "funnel"
"""The whole pipeline among the systems of a report."""
RANKING = "before re-ranking"
"""The same before exploration, caps and safety."""


def evaluate(
    engine: RecommendationEngine,
    dataset: Dataset,
    config: EvaluationConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
    baseline: ServedRanker | None = None,
) -> dict[str, Any]:
    """Measure a run on the test window of its dataset and return the report (see the README for its fields).

    baseline: the trees that predictions are compared with.

    Raises ArtifactError where the run was trained on other data or refitted on everything, and DataError
    where the test window holds no interaction to find.
    """
    progress = progress or Progress()
    check_run(engine, dataset)
    started = time.perf_counter()
    windows, log = engine.manifest.windows, dataset.log
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    with trace.timed("evaluate.state"):
        past = engine.as_of(log, windows.test_start, **edges)
    truth = find_truth(log, past.state, windows.test_start, windows.end, config.truths)
    if not len(truth.users):
        raise DataError(
            f"{dataset.path}: the test window holds no interaction with an item that is new to its user",
            "make the window longer (`windows.test_share`) or set evaluation.truths to all",
        )
    truth = sample_users(truth, config.users, seed)
    with trace.timed("evaluate.rankings", users=len(truth.users)):
        rankings = _Rankings(past, log, truth, config, seed, progress, windows.end).measure()
    with trace.timed("evaluate.impressions"), progress.step("logged impressions"):
        impressions = measure_impressions(past, dataset, edges, config, seed, baseline)
    document = {
        "run": engine.manifest.id,
        "dataset": {"name": engine.manifest.dataset.name, "digest": engine.manifest.dataset.digest},
        "window": {"start": iso(windows.test_start), "end": iso(windows.end)},
        "seed": seed,
        "k": list(config.k),
        "slate_size": past.pipeline.slate_size,
        "truths": config.truths,
        "truth": truth.summary,
        "users": len(truth.users),
        "catalogue": {"items": past.state.catalogue.n_items, "available": int(past.state.available.sum())},
        **rankings,
        "impressions": impressions,
        "notes": list(engine.manifest.notes),
    }
    document["targets"] = check_targets(document)
    document["seconds"] = round(time.perf_counter() - started, 3)
    return document


def check_run(engine: RecommendationEngine, dataset: Dataset) -> None:
    """Raises ArtifactError where the run cannot be measured on the dataset."""
    manifest = engine.manifest
    if manifest.final:
        raise ArtifactError(
            f"run {manifest.id} was trained with --final on everything: nothing is left to measure it on",
            "evaluate a run trained without --final (`recsys runs list`, then --run ID)",
        )
    if dataset.manifest.digest != manifest.dataset.digest:
        raise ArtifactError(
            f"run {manifest.id} was trained on {manifest.dataset.name} ({manifest.dataset.digest[:12]}), "
            f"but {dataset.path} holds other rows ({dataset.manifest.digest[:12]})",
            "name the dataset of the run with --data-dir or -c, or train again",
        )


def sample_users(truth: Truth, users: int | None, seed: int) -> Truth:
    """The truth of so many of its users, drawn with the seed; None takes all."""
    if users is None or users >= len(truth.users):
        return truth
    return truth.take(np.sort(np.random.default_rng(seed).choice(len(truth.users), users, replace=False)))


@dataclass
class _Rankings:
    """Ranked lists of all systems for the test users, and their figures."""

    engine: RecommendationEngine
    log: Any
    truth: Truth
    config: EvaluationConfig
    seed: int
    progress: Progress
    end: int
    """of the test window, µs"""

    def measure(self) -> dict[str, Any]:
        """The parts "systems", "sourced", "by_source", "groups", "fallback" and "funnel" of the report."""
        users = self.truth.users
        # users with equally much to leave out stand in one batch: a source's list is only as deep as it must be
        order = np.argsort(self.engine.state.seen.lengths[users], kind="stable")
        # the engine serves as many batches at once as it has threads
        size = self.engine.pipeline.batch_size * self.engine.threads
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        width = max(*self.config.k, self.engine.pipeline.slate_size)
        makers = self._makers()
        lists = {name: np.full((len(users), width), -1, np.int32) for _, name, _ in makers}
        with self.progress.step("ranked lists", total=len(batches) * (len(makers) + 1)) as bar:
            served = self._serve(batches, width, bar)
            for places in batches:
                for _, name, make in makers:
                    bar.describe(name)
                    lists[name][places] = make(users[places], width)
                    bar.advance()
        ks = self.config.k
        systems = [
            ("pipeline", FUNNEL, {k: served.at(k) for k in ks}),
            ("pipeline", RANKING, dict.fromkeys(ks, served.ranking)),
        ]
        systems += [(kind, name, dict.fromkeys(ks, lists[name])) for kind, name, _ in makers]
        return {
            "systems": self._figures(systems),
            "sourced": served.sourced,
            "by_source": self._by_source(served),
            "groups": self._groups(served),
            "fallback": served.fallback,
            "funnel": served.funnel,
        }

    def _makers(self) -> list[tuple[str, str, Callable[[np.ndarray, int], np.ndarray]]]:
        state = self.engine.state
        out: list = [("baseline", "popularity", Popularity(state)), ("baseline", "random", Random(state, self.seed))]
        for name, retriever in self.engine.bundle.retrievers.items():
            label = f"{name} (source)" if name in ("popularity", "random") else name
            out.append(("source", label, lambda users, k, r=retriever: source_lists(r, state, users, k)))
        return out

    def _serve(self, batches: list[np.ndarray], width: int, bar) -> _Served:
        users, n = self.truth.users, self.engine.pipeline.slate_size
        out = _Served(
            ranking=np.full((len(users), width), -1, np.int32),
            slates=np.full((len(users), n), -1, np.int32),
            sources=np.zeros((len(users), n), np.uint32),
        )
        found, counts = np.zeros(len(users)), np.zeros(len(users))
        stages: dict[str, np.ndarray] = {}
        for places in batches:
            bar.describe(FUNNEL)
            batch = self.engine.slates(users[places], n, keep_sourced=True)
            out.slates[places], out.sources[places] = batch.items, batch.sources
            ranked = batch.ranked.items[:, :width]
            out.ranking[places, : ranked.shape[1]] = ranked
            part = self.truth.take(places)
            found[places] = rm.hits(batch.sourced.items, part.relevant).sum(axis=1) / part.relevant.lengths
            counts[places] = batch.sourced.counts
            for reason in batch.fallback:
                if reason is not None:
                    out.fallback[reason] = out.fallback.get(reason, 0) + 1
            for r in batch.funnel:
                row = stages.setdefault(r.name, np.zeros(3))
                row += np.array([r.before * len(places), r.after * len(places), r.ms])
            bar.advance()
        mean, low, high = rm.bootstrap_means(found[:, None], resamples=self.config.resamples, seed=self.seed)
        out.sourced |= {
            "candidates": round(float(counts.mean()), 1),
            "recall": _interval(mean[0], low[0], high[0]),
        }
        for name, row in stages.items():
            before, after, ms = row / len(users)
            out.funnel.append({"stage": name, "in": round(before, 2), "out": round(after, 2), "ms_per_user": ms})
        return out

    def _figures(self, systems: list[tuple[str, str, dict[int, np.ndarray]]]) -> list[dict]:
        """Metrics of each system, given as kind, name and the list to take at each k."""
        state = self.engine.state
        window = self.log.window(end=state.now)
        rows = np.flatnonzero(window.positive)
        pairs = np.unique(window.user[rows].astype(np.int64) * state.catalogue.n_items + window.item[rows])
        audience = np.bincount(pairs % max(state.catalogue.n_items, 1), minlength=state.catalogue.n_items)
        test = self.log.window(state.now, self.end)
        available = state.available
        popularity = np.where(available, state.interactions, -1)
        columns, names = [], []
        for _, _, by_k in systems:
            figures = {}
            for k in self.config.k:
                items = by_k[k]
                figures |= rm.accuracy(items, self.truth.relevant, [k])
                figures[f"diversity@{k}"] = rm.intra_list_diversity(items, k, state.catalogue.item_topics)
                figures[f"novelty@{k}"] = rm.novelty(items, k, audience, state.catalogue.n_users)
                figures[f"popularity@{k}"] = rm.popularity_percentile(items, k, popularity)
                figures[f"authors@{k}"] = rm.distinct_per_list(items, k, state.catalogue.item_author)
            names = list(figures)
            columns.append(np.stack(list(figures.values()), axis=1))
        mean, low, high = rm.bootstrap_means(
            np.concatenate(columns, axis=1), resamples=self.config.resamples, seed=self.seed
        )
        out = []
        for s, (kind, name, by_k) in enumerate(systems):
            at = s * len(names)
            metrics = {m: _interval(mean[at + j], low[at + j], high[at + j]) for j, m in enumerate(names)}
            for k in self.config.k:
                metrics[f"coverage@{k}"] = _interval(*rm.coverage(by_k[k], k, int(available.sum())))
                shown = by_k[k][:, :k]
                exposure = np.bincount(shown[shown >= 0], minlength=state.catalogue.n_items)[available]
                metrics[f"gini@{k}"] = _interval(rm.gini(exposure), np.nan, np.nan)
                if test.propensity is not None:
                    rate = replayed_rate(
                        by_k[k], self.truth.users, test, state.catalogue.n_items, k,
                        resamples=self.config.resamples, seed=self.seed,
                    )
                    metrics[f"replay@{k}"] = _interval(*rate)
            out.append({"name": name, "kind": kind, "metrics": metrics})
        return out

    def _by_source(self, served: _Served) -> list[dict]:
        """What each source contributes to the served slates; an item that several proposed counts for each."""
        hit = rm.hits(served.slates, self.truth.relevant)
        filled = served.slates >= 0
        out = []
        for bit, name in enumerate(self.engine.source_names):
            if name not in self.engine.bundle.retrievers:
                continue
            mine = ((served.sources >> np.uint32(bit)) & np.uint32(1)).astype(bool) & filled
            alone = mine & (served.sources == np.uint32(1 << bit))
            slots = int(mine.sum())
            out.append(
                {
                    "source": name,
                    "slots": slots,
                    "share": slots / max(int(filled.sum()), 1),
                    "alone": int(alone.sum()) / max(int(filled.sum()), 1),
                    "hits": int((hit & mine).sum()),
                    "precision": float(hit[mine].mean()) if slots else float("nan"),
                    "share_of_hits": int((hit & mine).sum()) / int(hit.sum()) if hit.any() else float("nan"),
                }
            )
        return out

    def _groups(self, served: _Served) -> list[dict]:
        """Figures of the funnel for users by how much was known of them at the cutoff."""
        touched = self.engine.state.history.lengths[self.truth.users]
        cuts = (
            ("no history", 0, 0),
            ("1–9 interactions", 1, 9),
            ("10–49 interactions", 10, 49),
            ("50 and more", 50, None),
        )
        k = headline(self.config.k, self.engine.pipeline.slate_size)
        values = rm.accuracy(served.at(k), self.truth.relevant, [k])
        wanted = ("recall", "ndcg", "hit_rate")
        out = []
        for label, low, high in cuts:
            mine = (touched >= low) & (touched <= (np.inf if high is None else high))
            if not mine.any():
                continue
            columns = np.stack([values[f"{m}@{k}"][mine] for m in wanted], axis=1)
            mean, lower, upper = rm.bootstrap_means(columns, resamples=self.config.resamples, seed=self.seed)
            figures = {f"{m}@{k}": _interval(mean[j], lower[j], upper[j]) for j, m in enumerate(wanted)}
            out.append({"group": label, "users": int(mine.sum()), "metrics": figures})
        return out


@dataclass
class _Served:
    """What the pipeline gave the test users."""

    ranking: np.ndarray
    """int32[U, width] the order by utility, before exploration, caps and safety"""
    slates: np.ndarray
    """int32[U, n] slates as served"""
    sources: np.ndarray
    """uint32[U, n] of `slates`"""
    sourced: dict = field(default_factory=dict)
    fallback: dict[str, int] = field(default_factory=dict)
    funnel: list[dict] = field(default_factory=list)

    def at(self, k: int) -> np.ndarray:
        """The list in which the first k of the funnel are measured: the slate, or beyond it the ranking."""
        return self.slates if k <= self.slates.shape[1] else self.ranking


def headline(ks, slate_size: int) -> int:
    """The k that reports speak of first: the largest that fits into a slate, or else the smallest."""
    fitting = [k for k in ks if k <= slate_size]
    return max(fitting) if fitting else min(ks)


def _interval(value, low, high) -> dict[str, float]:
    return {"value": float(value), "low": float(low), "high": float(high)}


def iso(moment: int) -> str:
    """A moment in µs as ISO 8601, UTC."""
    import datetime as dt

    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")
