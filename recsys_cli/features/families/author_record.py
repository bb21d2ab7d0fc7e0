"""Authors as publishers: how often they publish, how safe it was, and how much others make of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY
from recsys_cli.features import formulas
from recsys_cli.features.edges import Edges
from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Values
from recsys_cli.features.history import Clock, History
from recsys_cli.features.spec import Definitions, Feature, Features

DAMPING = 0.85
STEPS = 20
_PRIOR = 5.0
"""Items that the mean score of everybody's items is worth in an author's safety history."""


class AuthorRecord(FeatureFamily):
    """What the datasets' authors, dates and safety scores tell of the item's author."""

    name = "author_record"

    def define(self, facts: DatasetFacts) -> Definitions:
        def feature(name: str, meaning: str, formula: str, span: int = 0, unit: str = "") -> Feature:
            return Feature(name, "author", "item", name, meaning, formula, span=span, unit=unit)

        catalogue, days = facts.catalogue, facts.config.posting_days
        if not catalogue.n_authors:
            return
        if (catalogue.item_created > 0).any():
            yield feature(
                "author_posted", f"items the author published in the last {days:g} days", "ln(1 + items)",
                round(days * DAY),
            )
            if catalogue.item_safety:
                yield feature(
                    "author_harm", "how unsafe the author's items were so far",
                    f"mean over items published before of the worst score, {_PRIOR:g} items of everybody added",
                )
        yield feature(
            "author_credibility", "standing of the author among follows and interactions",
            "ln(PageRank × nodes), weights 1 for a follow + ln(1 + interactions), damping 0.85, at the day's start "
            "(UTC)", unit="ln times average",
        )

    def compute(self, features: Features, rows: AsOf) -> Values:
        past, author, time = rows.past, rows.author(), rows.time
        for f in features:
            if f.measure == "author_credibility":
                standing = past.once("credibility", lambda: Credibility(past.catalogue, past.log, past.follows))
                yield f.name, standing.value(author, time)
                continue
            works = past.once("authors' items", lambda: _Published(past.catalogue))
            view = works.history.view(author.astype(np.int64), time)
            if f.measure == "author_posted":
                yield f.name, formulas.size(view.window(None, f.span))
            else:
                every = works.everybody.view(np.zeros(len(author), np.int64), time)
                mean = every.sum(works.worst) / np.maximum(every.shown(), 1)
                yield f.name, formulas.mean(view.sum(works.worst), view.shown(), mean, _PRIOR)


class _Published:
    """Items by author and date of publication."""

    def __init__(self, catalogue: Catalogue):
        dated = np.flatnonzero((catalogue.item_created > 0) & (catalogue.item_author >= 0))
        order = dated[np.argsort(catalogue.item_created[dated], kind="stable")]
        clock = Clock(catalogue.item_created[order])
        self.history = History(catalogue.item_author[order].astype(np.int64), clock)
        self.everybody = History(np.zeros(len(order), np.int64), clock)
        scores = [np.nan_to_num(s) for s in catalogue.item_safety.values()]
        self.worst = np.max(scores, axis=0)[order].astype(np.float64) if scores else np.zeros(len(order))


class Credibility:
    """PageRank (Brin and Page, 1998) of authors, as of the start of a day.

    Nodes are users and authors, a user who publishes being one of them. A user passes standing on to whom they
    follow (weight 1) and to whose items they interacted with (weight ln(1 + interactions)).
    """

    def __init__(self, catalogue: Catalogue, log: Log, follows: Edges):
        self._catalogue, self._log, self._follows = catalogue, log, follows
        self._days: dict[int, np.ndarray] = {}
        self._graph: tuple[Any, ...] | None = None

    def value(self, author: np.ndarray, time: np.ndarray) -> np.ndarray:
        """float32[n] for authors (-1 unknown, 0) at moments."""
        days, which = np.unique(time // DAY, return_inverse=True)
        table = np.stack([self._of_day(int(day)) for day in days]) if len(days) else np.zeros((1, 1), np.float32)
        return np.where(author >= 0, table[which, np.maximum(author, 0)], 0).astype(np.float32)

    def _of_day(self, day: int) -> np.ndarray:
        if day not in self._days:
            self._days[day] = self._rank(day * DAY)
        return self._days[day]

    def _pairs(self) -> tuple[Any, ...]:
        """The graph of all pairs that ever occur, whose weights a day fills in."""
        if self._graph is None:
            from scipy.sparse import csr_array

            catalogue, log, width = self._catalogue, self._log, self._follows.width
            rows = np.flatnonzero(log.positive & (catalogue.item_author[log.item] >= 0))
            acted = log.user[rows].astype(np.int64) * width + catalogue.item_author[log.item[rows]]
            keys, place = np.unique(np.concatenate([acted, self._follows.key]), return_inverse=True)
            n = catalogue.n_users
            as_user = catalogue.author_user
            node = np.where(as_user >= 0, as_user, n + np.arange(catalogue.n_authors, dtype=np.int64))
            source, target = keys // width, node[keys % width]
            nodes = n + catalogue.n_authors
            # a matrix of places tells where the weight of each pair ends up
            matrix = csr_array((np.arange(1.0, len(keys) + 1), (target, source)), shape=(nodes, nodes))
            matrix.sum_duplicates()
            self._graph = (
                matrix, matrix.data.astype(np.int64) - 1, source, node, log.time[rows], place[: len(rows)],
                place[len(rows) :],
            )
        return self._graph

    def _rank(self, end: int) -> np.ndarray:
        matrix, order, source, node, acted_time, acted, followed = self._pairs()
        if not len(source):
            return np.zeros(self._catalogue.n_authors, np.float32)
        times = np.searchsorted(acted_time, end, "left")
        weight = np.log1p(np.bincount(acted[:times], minlength=len(source)).astype(np.float64))
        weight[followed[: np.searchsorted(self._follows.time, end, "left")]] += 1
        out = np.bincount(source, weights=weight, minlength=matrix.shape[0])
        share = weight / np.where(out[source] > 0, out[source], 1)
        matrix.data = share[order]
        known = self._catalogue.n_users + np.count_nonzero(self._catalogue.author_user < 0)
        start = np.zeros(matrix.shape[0])
        start[: self._catalogue.n_users] = start[node] = 1 / known
        rank, idle = start.copy(), out == 0
        for _ in range(STEPS):
            rank = DAMPING * (matrix @ rank + rank[idle].sum() * start) + (1 - DAMPING) * start
        return np.log(np.maximum(rank[node] * known, 1e-6)).astype(np.float32)
