"""The ranked lists of every system for the test users: the pipeline, itself without rankers, sources, baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.cluster import Here
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.batch_lists import Account, Asked, Served, lists_of_batch
from recsys_cli.evaluation.figures import Figures, headline, interval
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.lists import Popularity, Random, System
from recsys_cli.evaluation.losses import by_age, lost
from recsys_cli.evaluation.overlap import overlap, rank_biased_overlap
from recsys_cli.evaluation.repetition import by_repetition
from recsys_cli.pipeline.order import FUSION, HEAVY, LIGHT, MERGE

if TYPE_CHECKING:
    from recsys_cli.cluster import Tasks
    from recsys_cli.distributed.engines import SharedEngine
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.evaluation.oracle import Oracle
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.progress import Progress

FUNNEL = "funnel"
"""The whole pipeline among the systems of a report."""
RANKING = "before re-ranking"
"""The same before exploration, caps and safety."""
WITHOUT_HEAVY = "without heavy"
"""The pipeline without its heavy ranker: the light ranker's order, re-ranked as ever."""
SOURCES_ALONE = "sources alone"
"""No ranker: reciprocal-rank fusion of the sources, re-ranked as ever."""
FUSED = "fusion"
"""Likewise by the mean of the sources' standardised scores."""
BEST_SOURCE = "best source"
"""The source of highest NDCG among those that the funnel is compared with."""
POPULARITY = "popularity"
"""The baseline that no list should be worse than."""
ORACLE = "oracle"
"""The items of highest true utility."""
GROUPS = (
    ("no history", 0, 0), ("any history", 1, None), ("1–9 interactions", 1, 9), ("10–49 interactions", 10, 49),
    ("50 and more", 50, None),
)
"""Label, fewest and most interactions before the cutoff."""


@dataclass
class Rankings:
    """Ranked lists of all systems for the test users, and their figures."""

    engine: RecommendationEngine
    """as of the start of the test window"""
    truth: Truth
    config: EvaluationConfig
    seed: int
    progress: Progress
    figures: Figures
    oracle: Oracle | None = None
    tasks: Tasks = field(default_factory=Here)
    """where the lists are made"""
    shared: RecommendationEngine | SharedEngine | None = None
    """the engine as tasks are given it; itself where None"""

    def measure(self) -> dict[str, Any]:
        """The parts of the report that are about lists, from "systems" to "funnel"."""
        ks, account = self.config.k, Account(self.truth, self.config.resamples, self.seed)
        width = max(*ks, self.engine.pipeline.slate_size)
        served, reduced, lists = self._lists(width, account)
        n = len(self.truth.users)

        def system(kind: str, name: str, of: np.ndarray) -> System:
            return System(kind, name, dict.fromkeys(ks, of[:n]), of[n:])

        systems = [system("pipeline", FUNNEL, served.lists), system("pipeline", RANKING, served.ranking)]
        systems += [system("pipeline", name, of.lists) for name, of in reduced.items()]
        systems += [system(kind, name, of) for (kind, name), of in lists.items()]
        served = served.first(n)
        known = None
        if self.oracle is not None:
            with self.progress.step("what the world knows"):
                known, best = self.figures.ask(self.oracle, width)
                if len(best) == n:
                    of_others = self.oracle.best(self.figures.others, width)[0]
                    systems.append(System("oracle", ORACLE, dict.fromkeys(ks, best), of_others))
        against = self._against(systems)
        pairs = [(FUNNEL, name) for name in (*reduced, *against.values())]
        figures, less = self.figures.measure(systems, pairs)
        resampled = {"resamples": self.config.resamples, "seed": self.seed}
        k = headline(self.config.k, self.engine.pipeline.slate_size)
        named = [s for s in systems if s.name in (FUNNEL, against.get(BEST_SOURCE), POPULARITY)]
        gains, compared = less[: len(reduced)], less[len(reduced) :]
        return {
            "systems": figures,
            "against": [{"role": role, **row} for role, row in zip(against, compared, strict=True)],
            "silent": [s.name for s in systems if all((items < 0).all() for items in s.lists.values())],
            "heavy_ranker": gains,
            "oracle": known,
            "sourced": account.sourced(),
            "repeats": by_repetition(self.truth, named, k, **resampled),
            "by_source": self._by_source(served),
            "groups": self._groups(served.lists, lists["baseline", POPULARITY][:n]),
            "fallback": account.fallback,
            "funnel": account.funnel(),
            "lost": lost(account.fates, **resampled),
            "overlap": self._overlap(systems, k),
            "ages": by_age(self.truth, self.engine.state, named, k, **resampled),
        }

    def _lists(
        self, width: int, account: Account
    ) -> tuple[Served, dict[str, Served], dict[tuple[str, str], np.ndarray]]:
        """What the pipeline, itself in simpler orders, and each source and baseline give the test users and, in the
        rows behind theirs, those who turned to nothing."""
        n, seen = len(self.truth.users), self.engine.state.seen.lengths
        users = np.concatenate([self.truth.users, self.figures.others])
        # users with equally much to leave out stand in one batch: a source's list is only as deep as it must be
        order = np.concatenate(
            [part[np.argsort(seen[users[part]], kind="stable")] for part in np.split(np.arange(len(users)), [n])]
        )
        size = self.engine.pipeline.batch_size
        # here the engine serves as many batches at once as it has threads
        together = size * (self.engine.threads if isinstance(self.tasks, Here) else 1)
        batches = [part[i : i + together] for part in np.split(order, [n]) for i in range(0, len(part), together)]
        baselines, simpler, slots = self._baselines(), self._simpler(), self.engine.pipeline.slate_size
        lists = {("baseline", name): np.full((len(users), width), -1, np.int32) for name in baselines}
        lists |= {("source", name): np.full((len(users), width), -1, np.int32) for name in self._labels.values()}
        served = Served.empty(len(users), width, slots)
        reduced = {name: Served.empty(len(users), width, slots) for name in simpler}
        asked = self.tasks.share(Asked(self.truth, width, simpler))
        items = ((users[places], places[places < n]) for places in batches)
        with self.progress.step("ranked lists", total=len(batches)) as bar:
            made = self.tasks.map(lists_of_batch, items, self.shared or self.engine, asked)
            for places, found in zip(batches, made, strict=True):
                served.put(places, found.served)
                if found.told is not None:
                    account.take(places, found.told)
                for name, part in found.reduced.items():
                    reduced[name].put(places, part)
                for name, part in found.sources.items():
                    lists["source", self._labels[name]][places] = part
                for start in range(0, len(places), size):  # in this order: what is drawn at random follows it
                    some = places[start : start + size]
                    for name, make in baselines.items():
                        lists["baseline", name][some] = make(users[some], width)
                bar.advance()
        return served, reduced, lists

    def _against(self, systems: list[System]) -> dict[str, str]:
        """Role → the system that the funnel is compared with: the best source, popularity, itself before re-ranking.

        The best source is the one of highest mean NDCG on the very lists that it is then compared on.
        """
        k = headline(self.config.k, self.engine.pipeline.slate_size)
        counts = self.truth.relevant.lengths
        quality = {
            s.name: float(np.nanmean(rm.ndcg(rm.hits(s.lists[k], self.truth.relevant), counts, k)))
            for s in systems
            if s.kind == "source"
        }
        best = {BEST_SOURCE: max(quality, key=quality.__getitem__)} if quality else {}
        return {**best, POPULARITY: POPULARITY, RANKING: RANKING}

    def _overlap(self, systems: list[System], k: int) -> list[dict[str, Any]]:
        """How alike each system's lists are to the funnel's: rank-biased overlap, and the first k in common."""
        ours = systems[0].lists[k]
        out = []
        for system in systems[1:]:
            theirs = system.lists[k]
            columns = np.stack([rank_biased_overlap(ours, theirs), overlap(ours, theirs, k)], axis=1)
            if np.isfinite(columns).any():
                mean, low, high = bootstrap_means(
                    columns, resamples=self.config.resamples, seed=self.seed, unit=True
                )
                names = ("rank_biased_overlap", "overlap")
                figures = {name: interval(mean[i], low[i], high[i]) for i, name in enumerate(names)}
                out.append({"system": system.name, **figures})
        return out

    def _baselines(self) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
        state, repeats = self.engine.state, self.engine.repeats
        return {POPULARITY: Popularity(state, repeats=repeats), "random": Random(state, self.seed, repeats=repeats)}

    @property
    def _labels(self) -> dict[str, str]:
        """Source → its name among the systems."""
        names = self.engine.bundle.retrievers
        return {name: f"{name} (source)" if name in (POPULARITY, "random") else name for name in names}

    def _simpler(self) -> dict[str, str]:
        """Name → an order simpler than the one chosen, with the same sources, filters, caps and draws."""
        pipeline, bundle = self.engine.pipeline, self.engine.bundle
        simpler = {SOURCES_ALONE: MERGE, FUSED: FUSION}
        if HEAVY in self.engine.order.orders and bundle.light is not None and pipeline.light.enabled:
            simpler = {WITHOUT_HEAVY: LIGHT, **simpler}
        return simpler

    def _by_source(self, served: Served) -> list[dict]:
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

    def _groups(self, funnel: np.ndarray, popularity: np.ndarray) -> list[dict]:
        """Figures of the funnel, and how far it is above popularity, for users by what was known at the cutoff."""
        touched = self.engine.state.history.lengths[self.truth.users]
        k = headline(self.config.k, self.engine.pipeline.slate_size)
        ours, theirs = (rm.accuracy(lists, self.truth.relevant, [k]) for lists in (funnel, popularity))
        wanted = [f"{m}@{k}" for m in ("recall", "ndcg", "hit_rate")]
        values = np.stack([ours[m] for m in wanted] + [ours[m] - theirs[m] for m in wanted], axis=1)
        out = []
        for label, low, high in GROUPS:
            mine = (touched >= low) & (touched <= (np.inf if high is None else high))
            if not mine.any() or (label == "any history" and mine.all()):
                continue
            unit = np.arange(values.shape[1]) < len(wanted)  # the rest are differences
            figures = bootstrap_means(values[mine], resamples=self.config.resamples, seed=self.seed, unit=unit)
            found = [interval(*each) for each in zip(*figures, strict=True)]
            out.append(
                {
                    "group": label,
                    "users": int(mine.sum()),
                    "metrics": dict(zip(wanted, found, strict=False)),
                    "over_popularity": dict(zip(wanted, found[len(wanted) :], strict=True)),
                }
            )
        return out
