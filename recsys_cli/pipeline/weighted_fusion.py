"""How much each source counts when standardised scores are added up: weights learned from rows of requests.

The weights are found by greedy selection with replacement (Caruana et al., Ensemble Selection from Libraries of Models,
ICML 2004): starting from nothing, the source that lifts NDCG the most is added again and again, on two halves of the
requests apart; the mean of the two is less bound to chance than either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.pipeline.request_features import STANDARD, WEIGHTED_SCORE
from recsys_cli.pipeline.request_rows import TAKEN, RequestRows

K = 10
"""Places of the list that count."""
STEPS = 12
"""Times that a source is added."""
MOST_REQUESTS = 1_200
"""Requests that weights are learned from at most."""
FEWEST_REQUESTS = 50
"""Requests in which something was taken, with fewer of which every source counts alike."""
PADDING = np.float32(-1e6)


@dataclass(frozen=True)
class _Requests:
    """Rows of requests side by side: [requests, width], short ones filled up with what never ranks."""

    scores: np.ndarray
    """float32[S, Q, W] standardised scores of each source"""
    taken: np.ndarray
    """bool[Q, W]"""
    weight: np.ndarray
    """float32[Q, W] how many candidates each row stands for"""
    ideal: np.ndarray
    """float64[Q]"""

    def half(self, which: int) -> _Requests:
        part = slice(which, None, 2)
        return _Requests(self.scores[:, part], self.taken[part], self.weight[part], self.ideal[part])

    def ndcg(self, scores: np.ndarray) -> float:
        """Mean NDCG@K of an order, float32[Q, W]; a drawn row pushes down what is below it by all it stands for."""
        width = min(K, scores.shape[1])
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable"), 1)
        stands = np.take_along_axis(self.weight, top, 1)
        place = np.cumsum(stands, axis=1) - stands  # candidates above, from 0
        gain = np.where(place < K, 1 / np.log2(place + 2), 0) * np.take_along_axis(self.taken, top, 1)
        return float(np.mean(gain.sum(axis=1) / self.ideal))


def learn_fusion(rows: RequestRows, sources: tuple[str, ...]) -> dict[str, float]:
    """Source → its weight, summing to one, those of none left out; {} where the rows are too few to tell."""
    names = [name for name in sources if STANDARD + name in rows.table.names]
    requests = _side_by_side(rows, names)
    if requests is None or not names:
        return {}
    halves = [_greedy(requests.half(which)) for which in (0, 1)]
    weight = np.mean([half / half.sum() for half in halves], axis=0)
    return {name: float(w) for name, w in zip(names, weight, strict=True) if w > 0}


def _greedy(requests: _Requests) -> np.ndarray:
    """float64[S] how often each source was added when the sum was best."""
    count = np.zeros(len(requests.scores))
    total = np.zeros(requests.taken.shape, np.float32)
    best, found = -1.0, count
    for _ in range(STEPS):
        figures = [requests.ndcg(total + score) for score in requests.scores]
        added = int(np.argmax(figures))
        total = total + requests.scores[added]
        count[added] += 1
        if figures[added] > best + 1e-9:
            best, found = figures[added], count.copy()
    return found


def _side_by_side(rows: RequestRows, names: list[str]) -> _Requests | None:
    """Requests in which something was taken, MOST_REQUESTS of them at most; None where they are too few."""
    taken = rows.table.labels[TAKEN]
    some = np.unique(rows.request[taken])
    if len(some) < FEWEST_REQUESTS:
        return None
    if len(some) > MOST_REQUESTS:
        some = some[np.linspace(0, len(some) - 1, MOST_REQUESTS).astype(np.int64)]
    mine = np.flatnonzero(np.isin(rows.request, some))
    mine = mine[np.argsort(rows.request[mine], kind="stable")]
    place = np.searchsorted(some, rows.request[mine])
    count = np.bincount(place, minlength=len(some))
    column = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
    shape = (len(some), int(count.max()))
    scores = np.full((len(names), *shape), PADDING, np.float32)
    hit, weight = np.zeros(shape, bool), np.ones(shape, np.float32)
    for s, name in enumerate(names):
        scores[s, place, column] = rows.table.values[mine, rows.table.names.index(STANDARD + name)]
    hit[place, column] = taken[mine]
    assert rows.table.weight is not None  # rows of requests always have weights
    weight[place, column] = rows.table.weight[mine]
    discount = np.cumsum(1 / np.log2(np.arange(K) + 2))
    return _Requests(scores, hit, weight, discount[np.minimum(hit.sum(axis=1), K) - 1])


def with_fusion(rows: RequestRows, weights: dict[str, float]) -> RequestRows:
    """The rows, in whose table the weighted sum of the standardised scores is filled in."""
    table = rows.table
    table.values[:, table.names.index(WEIGHTED_SCORE)] = weighted(
        {name: table.values[:, table.names.index(STANDARD + name)] for name in weights}, weights, len(table)
    )
    return rows


def weighted(standard: dict[str, np.ndarray], weights: dict[str, float], shape: int | tuple[int, ...]) -> np.ndarray:
    """float32 of that shape: the sum of the sources' standardised scores times their weights; a source that stepped
    aside after the weights were learned leaves its part out."""
    total = np.zeros(shape, np.float32)
    for name, weight in weights.items():
        if name in standard:
            total += np.float32(weight) * standard[name]
    return total
