"""Figures of ranked lists for the same users: each system's, and differences between two, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means, bootstrap_ratios
from recsys_cli.evaluation.lists import audience, open_popularity
from recsys_cli.replay import replayed

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State
    from recsys_cli.evaluation.beyond import Beyond
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.evaluation.lists import System
    from recsys_cli.evaluation.oracle import Oracle
    from recsys_cli.evaluation.truth import Truth

COMPARED = ("recall", "ndcg", "replay", "true_ndcg", "true_value")
"""Metrics whose differences between two systems are reported."""


def headline(ks: Sequence[int], slate_size: int) -> int:
    """The k that reports speak of first: the largest that fits into a slate, or else the smallest."""
    fitting = [k for k in ks if k <= slate_size]
    return max(fitting) if fitting else min(ks)


def interval(value, low, high) -> dict[str, float]:
    """A figure as reports keep it: "value", and "low" and "high" of its 95 % interval, NaN where there is none."""
    return {"value": float(value), "low": float(low), "high": float(high)}


@dataclass
class Figures:
    """Measures the systems of a report. All share the users and the resamples of them."""

    state: State
    """as of the start of the test window"""
    log: Log
    """everything before it, and the test window"""
    end: int
    """of the test window, µs"""
    truth: Truth
    config: EvaluationConfig
    seed: int
    slate_size: int
    others: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """int32[V] people who were shown something in the test window and turned to nothing; see `others_of`"""
    beyond: Beyond | None = None
    """what lists are measured by beside accuracy, at the length that reports speak of first; None leaves it out"""
    _asked: _Asked | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        state = self.state
        self._audience = audience(self.log, state)
        self._test = self.log.window(state.now, self.end)
        self._popularity = open_popularity(state)

    def ask(self, oracle: Oracle, width: int) -> tuple[dict[str, Any], np.ndarray]:
        """Let the oracle judge all lists too: the part "oracle" of the report, and int32[≤ U, width] its own lists.

        In a world too large to ask about everybody the oracle judges some of the users.
        """
        places = oracle.users(len(self.truth.users), self.seed)
        best, utility, open_to = oracle.best(self.truth.users[places], width)
        self._asked = _Asked(oracle, places, utility)
        return {"users": len(places), "items": round(open_to, 1), "surface": oracle.surface}, best

    def measure(
        self, systems: Sequence[System], pairs: Sequence[tuple[str, str]] = ()
    ) -> tuple[list[dict], list[dict]]:
        """Metrics of each system, and the differences first − second of pairs of them (by name) in `COMPARED`.

        A difference is taken user by user, so that what the two have in common does not widen its interval.
        """
        by_user = [self.by_user(system) for system in systems]
        place = {system.name: i for i, system in enumerate(systems)}
        columns = {(i, m): values for i, figures in enumerate(by_user) for m, values in figures.items()}
        for p, (a, b) in enumerate(pairs):
            for m in by_user[place[a]]:
                if m.split("@")[0] in COMPARED:
                    columns[p, m, "less"] = by_user[place[a]][m] - by_user[place[b]][m]
        unit = np.array([len(key) == 2 and rm.of_unit(key[1]) for key in columns])
        means = bootstrap_means(
            np.stack(list(columns.values()), axis=1), resamples=self.config.resamples, seed=self.seed, unit=unit
        )
        found = {key: interval(*figures) for key, *figures in zip(columns, *means, strict=True)}
        replays = self._replays(systems, [(place[a], place[b]) for a, b in pairs])
        out = []
        for i, system in enumerate(systems):
            metrics = {m: found[i, m] for m in by_user[i]} | self.of_all(system)
            metrics |= {f"replay@{k}": figures[i] for k, figures in replays.items()}
            out.append({"name": system.name, "kind": system.kind, "metrics": metrics})
        less = []
        for p, (_, b) in enumerate(pairs):
            metrics = {key[1]: figure for key, figure in found.items() if key[0] == p and len(key) == 3}
            metrics |= {f"replay@{k}": figures[len(systems) + p] for k, figures in replays.items()}
            less.append({"against": b, "metrics": metrics})
        return out, less

    def by_user(self, system: System) -> dict[str, np.ndarray]:
        """Metric → float64[U], NaN for a user without a figure."""
        catalogue, out = self.state.catalogue, {}
        for items, ks in _by_list(system):
            out |= rm.accuracy(items, self.truth.relevant, ks)
            for k in ks:
                out[f"diversity@{k}"] = rm.intra_list_diversity(items, k, catalogue.item_topics)
                out[f"novelty@{k}"] = rm.novelty(items, k, self._audience, catalogue.n_users)
                out[f"popularity@{k}"] = rm.popularity_percentile(items, k, self._popularity)
                out[f"authors@{k}"] = rm.distinct_per_list(items, k, catalogue.item_author)
            first = headline(self.config.k, self.slate_size)
            if self.beyond is not None and first in ks:
                hit = rm.hits(items[:, :first], self.truth.relevant)
                out |= self.beyond.by_user(items, hit, self.truth.relevant.lengths, first)
            if self._asked is not None:
                out |= self._asked.judge(self.truth.users, items, ks, self.slate_size)
        return out

    def of_all(self, system: System) -> dict[str, dict[str, float]]:
        """What is no mean over users: coverage and inequality of exposure."""
        available, metrics = self.state.available, {}
        for k, items in system.lists.items():
            metrics[f"coverage@{k}"] = interval(*rm.coverage(items, k, int(available.sum())))
            shown = items[:, :k]
            exposure = np.bincount(shown[shown >= 0], minlength=self.state.catalogue.n_items)[available]
            metrics[f"gini@{k}"] = interval(rm.gini(exposure), np.nan, np.nan)
        return metrics

    def _replays(self, systems: Sequence[System], pairs: list[tuple[int, int]]) -> dict[int, list[dict[str, float]]]:
        """k → the replayed rate of each system, then the difference of each pair; {} without propensities.

        Over everybody who was there: only those who turned to something would be a choice by the outcome.
        """
        if self._test.propensity is None:
            return {}
        everyone = np.concatenate([self.truth.users, self.others])
        order = np.argsort(everyone, kind="stable")
        sums: list[dict[int, tuple]] = [{} for _ in systems]
        for of, system in zip(sums, systems, strict=True):
            for items, ks in _by_list(system):
                if system.of_others is not None:
                    items = np.concatenate([items[:, : max(ks)], system.of_others[:, : max(ks)]])
                of |= replayed(items[order], everyone[order], self._test, self.state.catalogue.n_items, ks)
        out = {}
        for k in self.config.k:
            above, below = (np.stack([of[k][side] for of in sums], axis=1) for side in (0, 1))
            rates = bootstrap_ratios(above, below, pairs, resamples=self.config.resamples, seed=self.seed)
            out[k] = [interval(*figures) for figures in zip(*rates, strict=True)]
        return out


def others_of(log: Log, truth: Truth, share: float, seed: int) -> np.ndarray:
    """int32 people of the test window's `log` who are not among the test users, ascending: no item was there to find.

    share: of them, drawn with the seed: the share of the test users that is measured. Empty without propensities,
    where nobody asks for them.
    """
    if log.propensity is None:
        return np.zeros(0, np.int32)
    people = np.setdiff1d(log.user[np.isfinite(log.propensity)], truth.users).astype(np.int32)
    if share >= 1:
        return people
    drawn = np.random.default_rng(seed).choice(len(people), round(share * len(people)), replace=False)
    return people[np.sort(drawn)]


@dataclass(frozen=True)
class _Asked:
    """An oracle and what it was asked about."""

    oracle: Oracle
    places: np.ndarray
    """int[V] which of the test users"""
    ideal: np.ndarray
    """float32[V, width] utility of the best items of each, descending"""

    def judge(self, users: np.ndarray, items: np.ndarray, ks: list[int], slate_size: int) -> dict[str, np.ndarray]:
        """Metric → float64[U], NaN for those who were not asked about."""
        figures = self.oracle.figures(users[self.places], items[self.places], self.ideal, ks, slate_size)
        out = {}
        for name, values in figures.items():
            out[name] = np.full(len(users), np.nan)
            out[name][self.places] = values
        return out


def _by_list(system: System) -> list[tuple[np.ndarray, list[int]]]:
    """The different lists of a system, each with the k for which it counts."""
    groups: dict[int, tuple[np.ndarray, list[int]]] = {}
    for k, items in system.lists.items():
        groups.setdefault(id(items), (items, []))[1].append(k)
    return list(groups.values())
