"""Sampled metrics, where each item to find is ranked among a few items drawn at random, and their correction.

Sampled metrics say another thing than full ones and may order systems in another way. From the rank in a sample one can
estimate what the whole catalogue would have given (Krichene and Rendle, "On Sampled Metrics for Item Recommendation",
KDD 2020). As there, each item to find is ranked alone: other relevant items of the user are neither above nor below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from recsys_cli.data.ragged import Ragged

OF_RANK = ("recall", "ndcg", "mrr")
"""Metrics of one rank, which is all that there is where each item is ranked alone."""
KINDS = ("alone", "sampled", "corrected", "em")
"""Prefixes of their names: by the rank among all items, by that among the sample, and two estimates of the first from
the second: `correction`, and by the distribution of ranks that `rank_distribution` finds."""
STEPS = 300
"""Steps of the EM algorithm; further ones fit the draw rather than the ranks."""
VARIANCE = 0.01
"""Weight of the variance of an estimate beside its squared bias (γ of the paper)."""


def of_rank(metric: str, rank: np.ndarray, k: int) -> np.ndarray:
    """float64 of ranks from 1: 1 within the first k (recall), 1/log2(rank + 1) (ndcg) or 1/rank (mrr) there, else 0."""
    rank = np.asarray(rank, float)
    gain = {"recall": np.ones_like(rank), "ndcg": 1 / np.log2(rank + 1), "mrr": 1 / rank}[metric]
    return np.where(rank <= k, gain, 0.0)


def full_ranks(hit: np.ndarray, items: np.ndarray, relevant: Ragged, n_items: int, seed: int) -> np.ndarray:
    """int64 beside `relevant.values`: the rank of each among all items that are not relevant to its user.

    hit: bool[U, K] beside items, int32[U, K], -1 in empty slots. What a list does not hold stands behind it in an
    order drawn with the seed.
    """
    counts = relevant.lengths
    row = relevant.rows
    listed, found = (items >= 0).sum(axis=1), hit.sum(axis=1)
    first = (listed - found)[row] + 1
    last = np.maximum(n_items - counts, 0)[row] + 1
    rank = np.random.default_rng(seed).integers(first, np.maximum(last, first) + 1)
    rows, slots = np.nonzero(hit)
    wrong_above = (np.cumsum(~hit & (items >= 0), axis=1))[rows, slots]
    width = np.int64(max(int(relevant.values.max(initial=0)), int(items.max(initial=0)))) + 1
    at = np.searchsorted(row * width + relevant.values, rows * width + items[rows, slots])
    rank[at] = wrong_above + 1
    return rank


def drawn_ranks(rank: np.ndarray, wrong: np.ndarray, negatives: int, seed: int) -> np.ndarray:
    """int64: the rank of each item among `negatives` drawn, none twice, from the `wrong` items that are not relevant.

    rank: int64 among all of these. Fewer are drawn where there are fewer.
    """
    above = rank - 1
    drawn = np.minimum(negatives, wrong)
    return 1 + np.random.default_rng(seed).hypergeometric(above, np.maximum(wrong - above, 0), drawn)


def ranks_within(hit: np.ndarray, items: np.ndarray, relevant: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Of lists that are themselves rankings of samples: int64 rank of each relevant item, and how many were drawn.

    Both beside `relevant.values`; an item that its list does not hold stands behind everything drawn.
    """
    drawn = ((items >= 0) & ~hit).sum(axis=1)[relevant.rows]
    # without any other item, what is not listed has the one place behind
    rank = full_ranks(hit, items, relevant, 0, 0)
    held = np.zeros(len(rank), bool)
    rows, slots = np.nonzero(hit)
    width = np.int64(max(int(relevant.values.max(initial=0)), int(items.max(initial=0)))) + 1
    held[np.searchsorted(relevant.rows * width + relevant.values, rows * width + items[rows, slots])] = True
    return np.where(held, rank, drawn + 1), drawn


@lru_cache(maxsize=256)
def correction(metric: str, k: int, wrong: int, drawn: int, variance: float = VARIANCE) -> np.ndarray:
    """float64[drawn + 1]: what a rank in the sample, from 1, stands for, so that its mean is near the full metric.

    The estimator that trades bias for variance (Krichene and Rendle, section 5): the least of the squared bias plus
    `variance` times the variance, over ranks among the `wrong` items that are all thought equally likely. Values may be
    below 0 or above 1: they are estimates.
    """
    ranks = _grid(wrong)
    chance = _chances(wrong, drawn)
    # every rank weighs as 1/rank does: what is to be found stands nearer the front than chance would have it
    ends = np.append(ranks, wrong + 2)
    weight = np.log(ends[1:] / ends[:-1])
    weight /= weight.sum()
    scaled = chance * weight[:, None]
    square = (1 - variance) * (chance.T @ scaled) + variance * np.diag(scaled.sum(axis=0))
    return np.linalg.lstsq(square, scaled.T @ of_rank(metric, ranks, k), rcond=None)[0]


def _grid(wrong: int, most: int = 2000) -> np.ndarray:
    """int64 ranks from 1 to wrong + 1: all of them, or from some point on ever fewer, each for those up to the next."""
    if wrong < most:
        return np.arange(1, wrong + 2)
    far = np.geomspace(most // 2, wrong + 1, most // 2).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, most // 2), far]))


@lru_cache(maxsize=8)
def _chances(wrong: int, drawn: int) -> np.ndarray:
    """float64[ranks, drawn + 1]: the chance of each rank in the sample given each rank among all (hypergeometric)."""
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, wrong + 1)))])

    def chosen(n: np.ndarray, m: np.ndarray) -> np.ndarray:
        possible = (m >= 0) & (m <= n)
        n, m = np.broadcast_arrays(n, np.where(possible, m, 0))
        return np.where(possible, factorial[n] - factorial[m] - factorial[n - m], -np.inf)

    above, wins = (_grid(wrong) - 1)[:, None], np.arange(drawn + 1)[None]
    return np.exp(chosen(above, wins) + chosen(wrong - above, drawn - wins) - chosen(np.array(wrong), np.array(drawn)))


def rank_distribution(drawn_rank: np.ndarray, drawn: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """float64[G]: how often items to find stand at each rank of `_grid` among all items, from their ranks in samples.

    Maximum likelihood by EM (Dempster, Laird and Rubin, 1977), as Li et al. estimate metrics under sampling (KDD 2020,
    AAAI 2021): the rank in the sample is drawn from that among all. drawn_rank, drawn, wrong: int64[n] of each item to
    find; where `wrong` differs, the commonest stands for all.
    """
    of = int(np.bincount(wrong).argmax())
    ranks = _grid(of)
    ends = np.append(ranks, of + 2)
    share = np.log(ends[1:] / ends[:-1])
    share /= share.sum()
    groups = []
    for m in np.unique(drawn).tolist():
        mine = drawn_rank[drawn == m]
        groups.append((_chances(of, min(m, of)), np.bincount(np.minimum(mine, m + 1) - 1, minlength=m + 1)[: m + 1]))
    for _ in range(STEPS):
        total = np.zeros(len(share))
        for chance, count in groups:
            seen = share @ chance
            total += share * (chance @ np.divide(count, seen, out=np.zeros(len(seen)), where=seen > 0))
        share = total / total.sum()
    return share


def posterior_figures(metric: str, k: int, share: np.ndarray, wrong: int, drawn: int) -> np.ndarray:
    """float64[drawn + 1]: the mean figure of an item by its rank in the sample, from 1, as ranks are distributed.

    The mean over all items is that of the distribution.
    """
    chance = _chances(wrong, drawn)
    seen = share @ chance
    total = (share * of_rank(metric, _grid(wrong), k)) @ chance
    return np.divide(total, seen, out=np.zeros(len(seen)), where=seen > 0)


def by_user(
    rank: np.ndarray, drawn_rank: np.ndarray, drawn: np.ndarray, wrong: np.ndarray, relevant: Ragged,
    ks: Sequence[int], full: bool,
) -> Mapping[str, np.ndarray]:
    """`sampled_ndcg@10` and the like → float64[U], the mean over each user's items to find.

    rank: int64 among all items (`full`: whether it is known), drawn_rank among `drawn` of the `wrong` ones that are not
    relevant; all beside `relevant.values`.
    """
    sizes, which = np.unique(np.stack([wrong, drawn]), axis=1, return_inverse=True)
    share, of_all = rank_distribution(drawn_rank, drawn, wrong), int(np.bincount(wrong).argmax())
    out = {}
    for metric in OF_RANK:
        for k in ks:
            figures = {"sampled": of_rank(metric, drawn_rank, k)}
            if full:
                figures = {"alone": of_rank(metric, rank, k), **figures}
            estimate = np.zeros(len(rank))
            for at, (of, m) in enumerate(sizes.T.tolist()):
                mine = which.ravel() == at
                estimate[mine] = correction(metric, k, of, m)[drawn_rank[mine] - 1]
            figures["corrected"] = estimate
            figures["em"] = np.zeros(len(rank))
            for m in np.unique(drawn).tolist():
                mine = drawn == m
                by_rank = posterior_figures(metric, k, share, of_all, min(m, of_all))
                figures["em"][mine] = by_rank[np.minimum(drawn_rank[mine] - 1, len(by_rank) - 1)]
            for kind, values in figures.items():
                total = np.bincount(relevant.rows, weights=values, minlength=len(relevant))
                out[f"{kind}_{metric}@{k}"] = total / np.maximum(relevant.lengths, 1)
    return out
