"""Metrics of predicted probabilities: pure functions on arrays, used in training and in evaluation.

`labels` are bool[n] or 0/1 numbers, `scores` any real numbers [n] (higher = more likely) and `probabilities`
numbers in [0, 1]. A metric that is not defined for the data given (no rows, or one class alone where it needs
both) is NaN; the caller decides whether that is an error. Arrays of unequal length, labels other than 0 and 1
and scores that are not finite raise DataError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.ragged import Ragged

from recsys_cli.errors import DataError

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""


def _pair(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] labels and scores, checked."""
    y, s = np.asarray(labels), np.asarray(scores, np.float64)
    if y.shape != s.shape or y.ndim != 1:
        raise DataError(f"labels {y.shape} and scores {s.shape} do not pair", "give two equally long lists")
    if y.dtype != bool:
        odd = ~np.isin(y, (0, 1))
        if odd.any():
            raise DataError(f"{int(odd.sum())} labels are neither 0 nor 1, the first at row {int(odd.argmax())}")
    bad = ~np.isfinite(s)
    if bad.any():
        raise DataError(f"{int(bad.sum())} scores are not finite, the first at row {int(bad.argmax())}")
    return y.astype(np.float64), s


def roc_auc(labels, scores) -> float:
    """Chance that a random positive outranks a random negative, ties counting half (Mann–Whitney U)."""
    y, s = _pair(labels, scores)
    positives = y.sum()
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, count = np.unique(s, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # mean 1-based rank of each group of ties
    return float((middle[place] @ y - positives * (positives + 1) / 2) / (positives * negatives))


def _thresholds(y: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at every distinct score, highest score first."""
    order = np.argsort(-s, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
    hits = np.cumsum(y[order])[last_of_tie]
    return hits / (last_of_tie + 1), hits / y.sum()


def average_precision(labels, scores) -> float:
    """Area under the precision–recall curve as the step sum Σ (R_i − R_{i−1})·P_i, without interpolation."""
    y, s = _pair(labels, scores)
    if y.sum() == 0:
        return float("nan")
    precision, recall = _thresholds(y, s)
    return float(np.diff(recall, prepend=0.0) @ precision)


def precision_at_recall(labels, scores, recall: float = 0.9) -> float:
    """Best precision among the thresholds that reach at least `recall` of the positives."""
    y, s = _pair(labels, scores)
    if y.sum() == 0:
        return float("nan")
    precision, reached = _thresholds(y, s)
    return float(precision[reached >= recall - 1e-12].max())


def log_loss(labels, probabilities) -> float:
    """Mean cross-entropy in nats: −mean(y·ln p + (1−y)·ln(1−p))."""
    y, p = _pair(labels, probabilities)
    if len(y) == 0:
        return float("nan")
    p = np.clip(p, EPSILON, 1 - EPSILON)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def brier(labels, probabilities) -> float:
    """Mean squared error of probabilities: mean((p − y)²) (Brier, Monthly Weather Review 1950)."""
    y, p = _pair(labels, probabilities)
    return float(np.mean((p - y) ** 2)) if len(y) else float("nan")


def grouped_auc(labels, scores, groups) -> tuple[float, int]:
    """Mean ROC-AUC within groups (users), weighted by the rows of each, and how many groups have both classes.

    Groups with one class alone tell nothing and are left out (GAUC: Zhu et al., KDD 2017). NaN where none is left.
    """
    y, s = _pair(labels, scores)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n = int(group.max(initial=-1)) + 1
    order = np.lexsort((s, group))
    y, s, group = y[order], s[order], group[order]
    # mean rank within the group, ties sharing theirs
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    first = np.repeat(starts, np.diff(np.append(starts, len(group))))
    new = np.ones(len(s), bool)
    new[1:] = (s[1:] != s[:-1]) | (group[1:] != group[:-1])
    tie = np.cumsum(new) - 1
    at = np.flatnonzero(new)
    size = np.diff(np.append(at, len(s)))
    rank = at[tie] - first + (size[tie] + 1) / 2 if len(s) else np.zeros(0)
    positives, rows = np.bincount(group, weights=y, minlength=n), np.bincount(group, minlength=n)
    negatives = rows - positives
    ranks = np.bincount(group, weights=rank * y, minlength=n)
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return float("nan"), 0
    auc = (ranks[both] - positives[both] * (positives[both] + 1) / 2) / (positives[both] * negatives[both])
    return float(np.average(auc, weights=rows[both])), int(both.sum())


def relative_cross_entropy(labels, probabilities) -> float:
    """RCE: by how many percent the log loss is below that of always saying the base rate of these labels.

    0 is no better than the base rate, 100 is perfect, below 0 is worse (Belli et al., "Privacy-Aware
    Recommender Systems Challenge on Twitter's Home Timeline", RecSys Challenge 2020).
    """
    y, p = _pair(labels, probabilities)
    if len(y) == 0 or y.min() == y.max():
        return float("nan")
    constant = log_loss(y, np.full(len(y), y.mean()))
    return float(100 * (1 - log_loss(y, p) / constant))


def expected_calibration_error(labels, probabilities, bins: int = 15, binning: str = "mass") -> float:
    """ECE: mean over bins of |mean prediction − share of positives|, weighted by the rows of each bin.

    `binning` "mass" cuts the sorted predictions into bins of equal count (Nguyen & O'Connor, EMNLP 2015),
    "width" cuts [0, 1] into bins of equal width (Guo et al., ICML 2017). With equal mass, rows of one
    predicted value stay in one bin, so that the result does not depend on the order of the rows.
    """
    if binning not in ("mass", "width"):
        raise ValueError(f"binning is 'mass' or 'width', not {binning!r}")
    y, p = _pair(labels, probabilities)
    if len(y) == 0:
        return float("nan")
    bin_of = calibration_bins(p, bins, binning)
    gap = np.bincount(bin_of, weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def calibration_bins(probabilities, bins: int = 15, binning: str = "mass") -> np.ndarray:
    """int64[n] bin of each prediction, in [0, bins); see `expected_calibration_error`."""
    p = np.asarray(probabilities, np.float64)
    if binning == "width":
        return np.clip((p * bins).astype(np.int64), 0, bins - 1)
    ordered = np.sort(p)
    return np.searchsorted(ordered, p, side="left") * bins // max(len(p), 1)


def reliability(labels, probabilities, bins: int = 15, binning: str = "mass", groups=None) -> dict[str, list]:
    """Points of the reliability diagram: per filled bin its `count`, mean `predicted` and `observed` share, with the
    share's 95 % interval `low` to `high`.

    groups: int[n] whose rows belong together (users); None takes rows for independent. Rows that go together say less
    than as many others: each bin counts as so many rows as independent ones would tell as much, by the variance of the
    share over groups (design effect: Kish, "Survey Sampling", 1965), never as more than it has.
    """
    y, p = _pair(labels, probabilities)
    bin_of = calibration_bins(p, bins, binning)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    n = count[filled]
    observed = np.bincount(bin_of, weights=y, minlength=bins)[filled] / n
    said = n if groups is None else n / _design_effect(y, bin_of, np.asarray(groups), observed, filled)
    middle, half = _wilson(observed, said)
    return {
        "count": n.tolist(),
        "predicted": (np.bincount(bin_of, weights=p, minlength=bins)[filled] / n).tolist(),
        "observed": observed.tolist(),
        "low": np.maximum(middle - half, 0).tolist(),
        "high": np.minimum(middle + half, 1).tolist(),
    }


def _design_effect(
    y: np.ndarray, bin_of: np.ndarray, groups: np.ndarray, observed: np.ndarray, filled: np.ndarray
) -> np.ndarray:
    """float64[filled bins], at least 1: variance of each bin's share over groups ÷ that of independent rows."""
    place = np.cumsum(filled) - 1
    residual = y - observed[place[bin_of]]
    key = place[bin_of] * (int(groups.max(initial=0)) + 1) + groups
    pairs, which = np.unique(key, return_inverse=True)
    at = pairs // (int(groups.max(initial=0)) + 1)
    sums = np.bincount(which, weights=residual)
    clustered = np.bincount(at, weights=sums**2, minlength=len(observed))
    count = np.bincount(at, minlength=len(observed))
    clustered *= count / np.maximum(count - 1, 1)
    alone = np.bincount(place[bin_of], weights=residual**2, minlength=len(observed))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum(np.where(alone > 0, clustered / alone, 1.0), 1.0)


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half of the 95 % interval of shares of n rows (Wilson, JASA 1927)."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    return middle, z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


def summarise(labels, probabilities) -> dict[str, float]:
    """All of them for one action: rows, positives, roc_auc, pr_auc, log_loss, rce, ece."""
    y = np.asarray(labels)
    return {
        "rows": len(y), "positives": int(np.sum(y)),
        "roc_auc": roc_auc(labels, probabilities), "pr_auc": average_precision(labels, probabilities),
        "log_loss": log_loss(labels, probabilities), "rce": relative_cross_entropy(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
    }


def list_ndcg(items: np.ndarray, wanted: Ragged, k: int = 10) -> np.ndarray:
    """float64[U] NDCG of the first k of each list against the items that its user wants, all of the same gain.

    items: int32[U, K], best first, -1 in empty slots. wanted: items ascending by user; where a user wants nothing the
    figure is 0. The ideal list holds min(k, wanted) of them (Järvelin and Kekäläinen, TOIS 2002).
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    top = items[:, :k]
    hit = wanted.contains(np.arange(len(top)), top)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(wanted.lengths, k)]
    return (hit * discount[: top.shape[1]]).sum(axis=1) / np.maximum(ideal, discount[-1])
