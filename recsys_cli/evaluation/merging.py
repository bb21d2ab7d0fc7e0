"""How the sources' lists become one, learned and measured on the validation window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.repeats import repeats_in
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.offline import sample_users
from recsys_cli.evaluation.truth import Truth, find_truth
from recsys_cli.pipeline.config import SourcingConfig
from recsys_cli.pipeline.query import SourceQuery
from recsys_cli.pipeline.rank_curves import learn_curves
from recsys_cli.pipeline.sourcing import budgets, propose
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.config import settle_seen
from recsys_cli.retrieval.registry import make
from recsys_cli.training.sources import candidates_for, unmet_share

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.settings import Settings

LEARN_FROM = 2000
"""Users whose lists the curves are learned from at most."""
FEWEST = 20
"""Users with something to find without whom neither half says anything."""


def tune_sources(settings: Settings, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Learn `pipeline.sourcing.curves` from every enabled source, and compare the ways to merge.

    The sources are fitted on everything before the validation window. On half of the users who turn to new items
    in it the curves are learned, on the other half every source and every way to merge is measured by its recall
    at `pipeline.sourcing.candidates` and by the NDCG of its first ten. The test window is not touched. Raises DataError
    where the validation window holds too little, ConfigError where fewer than two sources can work.
    """
    started = time.perf_counter()
    split = make_split(settings.windows, dataset, seed=settings.seed)
    windows, log = split.windows, split.log
    dataset, moment = dataset.with_log(log), windows.validation_start
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = log.window(end=moment)
    state = State.build(dataset.catalogue, past, moment, **edges)
    seen = not settings.pipeline.filters.leaves_out_seen(repeats_in(log, moment, windows.test_start).common)
    truth = find_truth(log, state, moment, windows.test_start, never_again=not seen, repeats=seen)
    if len(truth.users) < FEWEST:
        raise DataError(
            f"{dataset.path}: {len(truth.users)} users turn to something new in the validation window",
            f"at least {FEWEST} are needed; make `windows.validation_share` larger",
        )
    fitted_on = split.fitting(past)
    known = state if split.held_out is None else State.build(dataset.catalogue, fitted_on, moment, **edges)
    window = Window(dataset, dataset.catalogue, fitted_on, moment, known, settings.seed)
    sources, notes = _fitted(settings, window, progress, seen)
    if len(sources) < 2:
        raise ConfigError("fewer than two sources can work on this data", "enable others under `retrieval`")
    learning, measuring = _halves(truth, settings.seed)
    lists = _Lists(sources, state, tuple(settings.retrieval), progress)
    config = settings.pipeline.sourcing
    if config.candidates == "auto":
        unmet = unmet_share(state, log.window(moment, windows.test_start))
        config = config.model_copy(update={"candidates": candidates_for(unmet)})
    curves = _learn(lists, learning, config.candidates, settings.seed)
    found = {name: lists.measured(measuring, name, config) for name in sources}
    if any(config.shares.get(name, 0) > 0 for name in sources):
        for merge in ("quota", "rrf", "weighted"):
            found[merge] = lists.measured(measuring, merge, config.model_copy(update={"merge": merge}))
    learned = config.model_copy(update={"merge": "learned", "curves": curves})
    found["learned"] = lists.measured(measuring, "learned", learned)
    recall, ndcg = (
        bootstrap_means(np.stack([f[which] for f in found.values()], axis=1), seed=settings.seed, unit=True)
        for which in (0, 1)
    )
    return {
        "dataset": {"name": dataset.manifest.name, "digest": dataset.manifest.digest},
        "candidates": config.candidates,
        "users": {"learned_from": len(learning.users), "measured_on": len(measuring.users)},
        "lists": [
            {
                "name": name, "kind": "source" if name in sources else "merge",
                "recall": _interval(recall, i), "ndcg_at_10": _interval(ndcg, i),
            }
            for i, name in enumerate(found)
        ],
        "settings": {"pipeline": {"sourcing": {"merge": "learned", "curves": curves}}},
        "notes": notes,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _interval(figures: tuple[np.ndarray, np.ndarray, np.ndarray], at: int) -> dict[str, float]:
    return {name: float(part[at]) for name, part in zip(("value", "low", "high"), figures, strict=True)}


def _fitted(
    settings: Settings, window: Window, progress: Progress, seen: bool
) -> tuple[dict[str, Retriever], list[str]]:
    fitted, notes = {}, []
    enabled = {name: config for name, config in settings.retrieval.items() if config.enabled}
    with progress.step("sources", total=len(enabled)) as bar:
        for name, config in enabled.items():
            bar.describe(name)
            source = make(settle_seen(config, seen))
            lack = source.missing(window)
            if lack is None:
                source.fit(window, progress)
                fitted[name] = source
            else:
                notes.append(f"source {name} steps aside: {lack}")
                progress.message(notes[-1])
            bar.advance()
    return fitted, notes


def _halves(truth: Truth, seed: int) -> tuple[Truth, Truth]:
    order = np.random.default_rng(seed).permutation(len(truth.users))
    middle = len(order) // 2
    learning = truth.take(np.sort(order[:middle]))
    return sample_users(learning, LEARN_FROM, seed), truth.take(np.sort(order[middle:]))


@dataclass(frozen=True)
class _Lists:
    """The sources' lists for users, by themselves and merged."""

    sources: dict[str, Retriever]
    state: State
    configured: tuple[str, ...]
    progress: Progress

    def __call__(self, users: np.ndarray, name: str, config: SourcingConfig) -> np.ndarray:
        """int32[B, K] of the source of that name, else of the merge that the settings tell, best first."""
        if name in self.sources:
            k = min(config.candidates, self.state.catalogue.n_items)
            return self.sources[name].retrieve(self.state, users, k)[0]
        asked = budgets(config, self.sources, self.configured)
        bits = {source: bit for bit, source in enumerate(self.sources)}
        found = propose(SourceQuery(users, self.state), asked, self.sources, bits, config)
        weight = np.where(found.filled, found.scores["rrf"], -np.inf)
        return np.take_along_axis(found.items, np.argsort(-weight, axis=1, kind="stable"), axis=1)

    def measured(
        self, truth: Truth, name: str, config: SourcingConfig, batch: int = 256
    ) -> tuple[np.ndarray, np.ndarray]:
        """float64[users] share of what each turned to that is among the candidates, and NDCG@10 of their order."""
        out = []
        with self.progress.step(f"lists of {name}", total=-(-len(truth.users) // batch)) as bar:
            for start in range(0, len(truth.users), batch):
                part = truth.take(np.arange(start, min(start + batch, len(truth.users))))
                hit = rm.hits(self(part.users, name, config), part.relevant)
                wanted = part.relevant.lengths
                out.append((rm.recall(hit, wanted, hit.shape[1]), rm.ndcg(hit, wanted, 10)))
                bar.advance()
        recall, ndcg = (np.concatenate(part) for part in zip(*out, strict=True))
        return recall, ndcg


def _learn(lists: _Lists, truth: Truth, k: int, seed: int) -> dict[str, list[float]]:
    config = SourcingConfig(candidates=k, shares={}, fallback=[])
    found = {name: lists(truth.users, name, config) for name in lists.sources}
    n_items = lists.state.catalogue.n_items
    wanted = truth.relevant.rows * np.int64(n_items) + truth.relevant.values
    return learn_curves(found, wanted, n_items, seed)
