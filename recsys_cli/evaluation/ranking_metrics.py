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


def r_precision(hit: np.ndarray, relevant_count: np.ndarray, k: int) -> np.ndarray:
    """Share of the first min(k, R) slots that are relevant, R the number of relevant items, float64[B].

    With k of at least R it is R-precision (Buckley and Voorhees, SIGIR 2000).
    """
    places = np.minimum(relevant_count, k)
    counted = hit[:, :k] & (np.arange(min(k, hit.shape[1])) < places[:, None])
    return _ratio(counted.sum(axis=1), places)


def auc(hit: np.ndarray, relevant_count: np.ndarray, listed: np.ndarray, n_items: int) -> np.ndarray:
    """Chance that a relevant item stands above one that is not, over all items, float64[B].

    hit: bool[B, K], filled from the left. listed: int[B] filled slots. n_items: all that a list could hold; what a
    list does not hold shares the last place, where ties count half. NaN where everything is relevant, or nothing.
    """
    found = hit.sum(axis=1)
    wrong = n_items - relevant_count
    above = ((np.arange(hit.shape[1]) - (np.cumsum(hit, axis=1) - 1)) * hit).sum(axis=1)
    of_listed = found * wrong - above
    of_others = (relevant_count - found) * 0.5 * (wrong - (listed - found))
    return _ratio(of_listed + of_others, relevant_count * wrong)


def serendipity(
    hit: np.ndarray, recommended: np.ndarray, expected: np.ndarray, relevant_count: np.ndarray, k: int
) -> np.ndarray:
    """Share of the first k slots that are relevant and that nobody needed to be told of, float64[B].

    expected: int32[≤ k] what a list for everybody would hold: the most popular items (Ge et al., RecSys 2010).
    """
    unexpected = hit[:, :k] & ~np.isin(recommended[:, :k], expected)
    return _defined(unexpected.sum(axis=1) / k, relevant_count)


def vector_diversity(recommended: np.ndarray, k: int, vectors: np.ndarray) -> np.ndarray:
    """1 − mean pairwise cosine of the vectors of the first k items, float64[B], as `intra_list_diversity`.

    vectors: float32[n_items, D], rows of NaN or zeros unknown and left out. NaN for fewer than two known items.
    """
    length = np.linalg.norm(vectors, axis=1)
    known = np.isfinite(length) & (length > 0)
    units = np.where(known[:, None], vectors / np.where(known, length, 1)[:, None], 0)
    out = np.empty(len(recommended))
    for start in range(0, len(recommended), 4096):
        items = recommended[start : start + 4096, :k]
        filled = (items >= 0) & known[np.maximum(items, 0)]
        total = np.einsum("bkd,bk->bd", units[np.maximum(items, 0)], filled)
        n = filled.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            out[start : start + 4096] = np.where(n > 1, 1 - ((total**2).sum(axis=1) - n) / (n * (n - 1.0)), np.nan)
    return out


def mean_of_items(recommended: np.ndarray, k: int, figure: np.ndarray) -> np.ndarray:
    """Mean of a figure of the first k items, float64[B]; figure: float[n_items], NaN left out. NaN without any."""
    return _mean_of_slots(recommended[:, :k], np.asarray(figure, float))


ACCURACY = {
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
    "r_precision": r_precision,
}
"""Name in reports → function of (hit, relevant_count, k)."""


WITHIN_UNIT = (
    *ACCURACY, "graded_ndcg", "auc", "serendipity", "diversity", "popularity", "authors", "true_ndcg", "unsafe",
)
"""Metrics whose figure of a user lies between 0 and 1."""


def of_unit(name: str) -> bool:
    """Whether a metric by its name in reports, `recall@10`, lies between 0 and 1 for every user."""
    return name.partition("@")[0] in WITHIN_UNIT


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
    ranks; 0.5 is what uniform choice gives. Ties share their mean place. popularity: float[n_items], NaN for items
    that nobody could be given, which have no place and count in no list. NaN for an empty list.
    """
    ordered = np.sort(popularity[np.isfinite(popularity)])
    low, high = np.searchsorted(ordered, popularity, "left"), np.searchsorted(ordered, popularity, "right")
    place = np.where(np.isfinite(popularity), (low + high) / 2 / max(len(ordered), 1), np.nan)
    return _mean_of_slots(recommended[:, :k], place)


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
    if not items.shape[1] or not len(labels):
        return np.full(len(items), np.nan)
    label = np.sort(np.where(items >= 0, labels[items], -1), axis=1)
    known = label >= 0
    distinct = known[:, 0] + (known[:, 1:] & (label[:, 1:] != label[:, :-1])).sum(axis=1)
    return _ratio(distinct, known.sum(axis=1))


def _mean_of_slots(items: np.ndarray, figure: np.ndarray) -> np.ndarray:
    if not len(figure):
        return np.full(len(items), np.nan)
    found = figure[np.maximum(items, 0)]
    filled = (items >= 0) & np.isfinite(found)
    total = np.where(filled, found, 0.0).sum(axis=1)
    return _ratio(total, filled.sum(axis=1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _defined(figure: np.ndarray, relevant_count: np.ndarray) -> np.ndarray:
    return np.where(relevant_count > 0, figure, np.nan)
