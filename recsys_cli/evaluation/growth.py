"""Quality by how much is known of a person: the list beside its parts after 0, 1, 3, 10, 30, … interactions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.lists import Popularity, source_lists

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.progress import Progress

KNOWN = (0, 1, 3, 10, 30, 100)
"""Latest interactions of a person that are left in the log."""
SHARE, FEWEST, MOST = 0.2, 20, 500
"""Of the users of a dataset, how many lose what was known of them at once, so that counts of items hardly change; and
fewest and most of them."""


@dataclass(frozen=True)
class Growth:
    """The growth curve of a run."""

    engine: RecommendationEngine
    """as of the start of the test window"""
    log: Log
    edges: dict[str, Any]
    truth: Truth
    seed: int
    resamples: int

    def measure(self, k: int, progress: Progress) -> dict[str, Any] | None:
        """NDCG@k of the list, its sources and popularity, by known interactions; None where too few have enough.

        All levels are of the same people: those with the most interactions that at least `FEWEST` have. What they were
        shown before stays out of their lists, and whom they follow stays known.
        """
        touched = _interactions(self.log, self.engine.state.now, self.engine.state.catalogue.n_users)
        mine = touched[self.truth.users]
        levels = [n for n in KNOWN if n <= np.sort(mine)[-min(FEWEST, len(mine))]]
        if len(mine) < FEWEST or len(levels) < 2:
            return None
        able = np.flatnonzero(mine >= levels[-1])
        most = int(min(MOST, max(FEWEST, SHARE * len(touched)), len(able)))
        chosen = np.sort(np.random.default_rng(self.seed).choice(able, most, replace=False))
        part = self.truth.take(chosen)
        rows = []
        with progress.step("growth curve", total=len(levels)) as bar:
            for known in levels:
                rows += self._level(part, known, k)
                bar.advance()
        return {"k": k, "metric": "ndcg", "users": len(part.users), "known": levels, "rows": rows}

    def _level(self, part: Truth, known: int, k: int) -> list[dict[str, Any]]:
        engine = self.engine
        cut = forget(self.log, engine.state.now, part.users, known)
        past = engine.as_of(cut, engine.state.now, **self.edges)
        # what they saw must not come back because it was forgotten
        past = replace(past, state=replace(past.state, seen=engine.state.seen))
        lists = {"funnel": past.slates(part.users, max(k, past.pipeline.slate_size)).items}
        for name, source in past.bundle.retrievers.items():
            lists[name] = source_lists(source, past.state, part.users, k, repeats=past.repeats)
        lists["popularity"] = Popularity(past.state, repeats=past.repeats)(part.users, k)
        hit = {name: rm.hits(items[:, :k], part.relevant) for name, items in lists.items()}
        table = np.stack([rm.ndcg(h, part.relevant.lengths, k) for h in hit.values()], axis=1)
        figures = bootstrap_means(table, resamples=self.resamples, seed=self.seed, unit=True)
        return [
            {"system": name, "known": known, "value": float(v), "low": float(a), "high": float(b)}
            for name, v, a, b in zip(hit, *figures, strict=True)
        ]


def _interactions(log: Log, now: int, n_users: int) -> np.ndarray:
    past = log.window(end=now)
    return np.bincount(past.user[past.positive], minlength=n_users)


def forget(log: Log, now: int, users: np.ndarray, known: int) -> Log:
    """The log without what some users did before `now` (µs), but for their latest `known` interactions.

    Rows from the first of those on stay, also those without interaction; nobody else's are touched.
    """
    end = int(np.searchsorted(log.time, now))
    chosen = np.zeros(int(log.user.max(initial=-1)) + 1, bool)
    chosen[users[users < len(chosen)]] = True
    rows = np.flatnonzero(chosen[log.user[:end]] & log.positive[:end])
    order = rows[np.lexsort((-rows, log.user[rows]))]  # latest first within a user
    user = log.user[order]
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    first = np.full(len(chosen), end)  # nothing stays of those who keep no interaction
    kept = place < known
    np.minimum.at(first, user[kept], order[kept])
    keep = np.ones(len(log), bool)
    keep[:end] = ~chosen[log.user[:end]] | (np.arange(end) >= first[log.user[:end]])
    return log.take(keep)
