"""Metrics of ranked lists, for a batch of users at once: pure functions on arrays.

Lists are `recommended` int32[B, K], best first, -1 in empty slots, no item twice in a row. What was right
is `relevant`, a Ragged of B rows with ascending values. A user with nothing relevant has no figure: NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_cli.data.ragged import Ragged


def hits(recommended: np.ndarray, relevant: Ragged) -> np.ndarray:
    """bool[B, K]: whether the item in each slot is relevant to its user."""
    return relevant.contains(np.arange(len(recommended)), recommended)


def recall(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """Share of a user's relevant items found among the first k, float64[B].

    The denominator is the number of relevant items, also where it exceeds k (as LightGCN and the BARS
    leaderboard count; a perfect list of k may then stay below 1).
    """
    return _ratio(hit[:, :k].sum(axis=1), relevant_count)


def precision(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k slots that are relevant, float64[B]; an empty slot counts as wrong."""
    return _defined(hit[:, :k].sum(axis=1) / k, relevant_count)


def hit_rate(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """1 where any of the first k is relevant, else 0, float64[B]."""
    return _defined(hit[:, :k].any(axis=1).astype(float), relevant_count)


def ndcg(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with gains 0 and 1, float64[B].

    Discount 1/log2(rank + 1), ideal list of min(k, relevant) items in front (Järvelin and Kekäläinen,
    TOIS 2002).
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    width = min(k, hit.shape[1])
    gain = hit[:, :width] @ discount[:width]
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant_count, k)]
    return _ratio(gain, ideal)


def graded_ndcg(gain: np.ndarray, ideal: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with graded gains, float64[B] (Järvelin and Kekäläinen, TOIS 2002).

    gain: float[B, K] of the item in each place, at least 0, 0 for an empty place. ideal: float[B, J] the highest gains
    there are, descending, at least k of them where there are so many. Gains count as they are (not 2^gain − 1),
    discount 1/log2(rank + 1). NaN where nothing has any gain.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    above, below = (np.einsum("bk,k->b", g[:, :k], discount[: g.shape[1]], dtype=float) for g in (gain, ideal))
    return _ratio(above, below)


def average_precision(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """Average precision of the first k, float64[B]; its mean over users is MAP@k.

    Precision at each relevant rank, summed and divided by min(k, relevant), so that a perfect list
    gives 1 (as in the Million Song Dataset Challenge, McFee et al. 2012).
    """
    top = hit[:, :k]
    at_rank = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return _ratio((at_rank * top).sum(axis=1), np.minimum(relevant_count, k))


def reciprocal_rank(hit: np.ndarray, relevant_count: np.ndarray, k: int | None = None) -> np.ndarray:
    """1 / rank of the first relevant item among the first k (all by default), 0 without one, float64[B]."""
    top = hit if k is None else hit[:, :k]
    if not top.shape[1]:
        return _defined(np.zeros(len(top)), relevant_count)
    return _defined(np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1), 0.0), relevant_count)


ACCURACY = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
}
"""Name in reports → function of (hit, relevant_count, k)."""


def accuracy(recommended: np.ndarray, relevant: Ragged, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Every metric of `ACCURACY` at every k: "recall@10" → float64[B]."""
    hit, count = hits(recommended, relevant), relevant.lengths
    return {f"{name}@{k}": metric(hit, count, k) for name, metric in ACCURACY.items() for k in ks}


def coverage(recommended: np.ndarray, k: int, n_available: int) -> tuple[float, float, float]:
    """Share of the available items that somebody is shown in the first k, with a 95 % interval over users.

    The interval comes from the jackknife (Efron and Stein, Annals of Statistics 1981): resampling users
    with replacement would itself lower the number of distinct items.
    """
    items = recommended[:, :k]
    user, slot = np.nonzero(items >= 0)
    values = items[user, slot]
    if not n_available:
        return float("nan"), float("nan"), float("nan")
    distinct, first, count = np.unique(values, return_index=True, return_counts=True)
    alone = np.bincount(user[first[count == 1]], minlength=len(items))
    n = len(items)
    spread = float(np.sqrt((n - 1) / n * ((alone - alone.mean()) ** 2).sum())) if n > 1 else float("nan")
    share, error = len(distinct) / n_available, 1.959964 * spread / n_available
    return share, max(share - error, 0.0), min(share + error, 1.0)


def novelty(recommended: np.ndarray, k: int, audience: np.ndarray, n_users: int) -> np.ndarray:
    """Mean self-information of the first k items in bits, float64[B] (Zhou et al., PNAS 2010).

    −log2 of the share of users who interacted with the item, one pseudo-count for an item nobody touched.
    audience: [n_items] interactions. NaN for an empty list.
    """
    information = -np.log2(np.clip(np.maximum(audience, 1) / max(n_users, 1), None, 1.0))
    return _mean_of_slots(recommended[:, :k], information)


def popularity_percentile(recommended: np.ndarray, k: int, popularity: np.ndarray) -> np.ndarray:
    """Mean place of the first k items among all items by popularity, 1 for the most popular, float64[B].

    The mean over users is the average recommendation popularity of Yin et al. (VLDB 2012) on the scale of
    ranks; 0.5 is what uniform choice gives. Ties share their mean place. NaN for an empty list.
    """
    ordered = np.sort(popularity)
    low, high = np.searchsorted(ordered, popularity, "left"), np.searchsorted(ordered, popularity, "right")
    return _mean_of_slots(recommended[:, :k], (low + high) / 2 / max(len(popularity), 1))


def intra_list_diversity(recommended: np.ndarray, k: int, topics: Ragged) -> np.ndarray:
    """1 − mean pairwise cosine of the topic sets of the first k items, float64[B].

    After Ziegler et al. (WWW 2005), who sum similarities where this takes the mean distance. Items
    without topics are left out; NaN for fewer than two items with topics. topics: Ragged by item.
    """
    items = recommended[:, :k]
    user, slot = np.nonzero(items >= 0)
    chosen = items[user, slot]
    size = topics.lengths[chosen]
    place, topic = topics.take(chosen)
    # Σ of pairwise cosines is (‖Σ unit vectors‖² − n) / 2: no pair needs to be formed
    key = user[place].astype(np.int64) * (int(topic.max(initial=0)) + 1) + topic
    unique, inverse = np.unique(key, return_inverse=True)
    sums = np.bincount(inverse, weights=1.0 / np.sqrt(size[place]), minlength=len(unique))
    owner = unique // (int(topic.max(initial=0)) + 1)
    square = np.bincount(owner, weights=sums**2, minlength=len(items))
    n = np.bincount(user[size > 0], minlength=len(items))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 1, 1.0 - (square - n) / (n * (n - 1.0)), np.nan)


def gini(counts: np.ndarray) -> float:
    """Inequality of exposure over items: 0 when all are shown equally often, near 1 when one gets all."""
    ordered = np.sort(counts).astype(float)
    total = ordered.sum()
    if not total:
        return float("nan")
    n = len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))


def distinct_per_list(recommended: np.ndarray, k: int, labels: np.ndarray) -> np.ndarray:
    """How many different labels (authors, …) stand in the first k, divided by the filled slots, float64[B].

    labels: int[n_items], -1 unknown and left out. NaN for a list without any label.
    """
    items = recommended[:, :k]
    user, slot = np.nonzero(items >= 0)
    label = labels[items[user, slot]]
    user, label = user[label >= 0], label[label >= 0].astype(np.int64)
    width = int(label.max(initial=0)) + 1
    owner = np.unique(user * width + label) // width
    return _ratio(np.bincount(owner, minlength=len(items)), np.bincount(user, minlength=len(items)))


def bootstrap_means(
    values: np.ndarray, *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column means with percentile bootstrap intervals over rows (Efron 1979).

    values: float[U, M], one row a user, NaN where a user has no figure (left out of that column). All
    columns share the resamples, so that systems measured on the same users stay comparable. Returns mean,
    low and high, each float64[M]; the interval is NaN with fewer than two users.
    """
    valid = np.isfinite(values)
    filled = np.where(valid, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / valid.sum(axis=0)
        users = len(values)
        if users < 2:
            return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        # columns that every user has a figure for need no count of their own: it is the number of users
        partial = ~valid.all(axis=0)
        stacked = np.concatenate([filled, valid[:, partial]], axis=1, dtype=np.float32)
        chunk = max(1, 4_000_000 // users)
        means = []
        for weights in _resample_counts(users, resamples, chunk, seed):
            sums = (weights.astype(np.float32) @ stacked).astype(float)
            counts = np.full((len(weights), values.shape[1]), float(users))
            counts[:, partial] = sums[:, values.shape[1] :]
            means.append(sums[:, : values.shape[1]] / counts)
    tail = (1 - confidence) / 2
    low, high = _quantiles(np.concatenate(means), [tail, 1 - tail])
    few = valid.sum(axis=0) < 2
    return mean, np.where(few, np.nan, low), np.where(few, np.nan, high)


def bootstrap_ratios(
    above: np.ndarray,
    below: np.ndarray,
    pairs: Sequence[tuple[int, int]] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratios of column sums, and differences between them, with percentile bootstrap intervals over rows.

    above, below: float[U, S], one row a user. pairs: columns (a, b) whose ratio a − ratio b is wanted. The resamples
    are those of `bootstrap_means` with the same seed. Returns value, low and high, each float64[S + pairs]; NaN where a
    column's `below` sums to nothing.
    """
    columns = above.shape[1]
    sums = np.concatenate([above, below], axis=1)

    def ratios(totals: np.ndarray) -> np.ndarray:
        found = _ratio(totals[..., :columns], totals[..., columns:])
        return np.concatenate([found, *(found[..., [a]] - found[..., [b]] for a, b in pairs)], axis=-1)

    value = ratios(sums.sum(axis=0))
    if len(above) < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    drawn = _resample_counts(len(above), resamples, max(1, 4_000_000 // len(above)), seed)
    tail = (1 - confidence) / 2
    low, high = _quantiles(np.concatenate([ratios(weights @ sums) for weights in drawn]), [tail, 1 - tail])
    unknown = np.isnan(value)
    return value, np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _resample_counts(n: int, resamples: int, chunk: int, seed: int):
    """Yield float64[≤ chunk, n]: how often each of n units stands in each resample."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def bootstrap_auc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ROC-AUC, resampling whole groups (users), not rows.

    labels: bool[n]. scores: float[n], ties count half. groups: int[n], any integers. NaN where either
    class comes from fewer than two groups, for then the interval would say nothing.
    """
    if len(np.unique(groups[labels])) < 2 or len(np.unique(groups[~labels])) < 2:
        return float("nan"), float("nan")
    _, group = np.unique(groups, return_inverse=True)
    negatives = np.flatnonzero(~labels)[np.argsort(scores[~labels], kind="stable")]
    # how many negatives lie below each positive does not change from resample to resample, only what they weigh
    left, right = (np.searchsorted(scores[negatives], scores[labels], side) for side in ("left", "right"))
    of_positive, of_negative = group[labels], group[negatives]
    n_groups = int(group.max()) + 1
    below = np.zeros(len(negatives) + 1)
    out = []
    for weights in _resample_counts(n_groups, resamples, max(1, 1_000_000 // n_groups), seed):
        for weight in weights:
            np.cumsum(weight[of_negative], out=below[1:])
            positive = weight[of_positive]
            total = positive.sum() * below[-1]
            out.append(positive @ (below[left] + below[right]) / 2 / total if total else np.nan)
    tail = (1 - confidence) / 2
    low, high = _quantiles(np.array(out)[:, None], [tail, 1 - tail])
    return float(low[0]), float(high[0])


def _quantiles(samples: np.ndarray, at: list[float]) -> np.ndarray:
    """Quantiles of each column, NaN for a column without any finite sample."""
    out = np.full((len(at), samples.shape[1]), np.nan)
    usable = np.isfinite(samples).any(axis=0)
    if usable.any():
        out[:, usable] = np.nanquantile(samples[:, usable], at, axis=0)
    return out


def _mean_of_slots(items: np.ndarray, figure: np.ndarray) -> np.ndarray:
    filled = items >= 0
    if not len(figure):
        return np.full(len(items), np.nan)
    total = np.where(filled, figure[np.maximum(items, 0)], 0.0).sum(axis=1)
    return _ratio(total, filled.sum(axis=1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _defined(figure: np.ndarray, relevant_count: np.ndarray) -> np.ndarray:
    return np.where(relevant_count > 0, figure, np.nan)
