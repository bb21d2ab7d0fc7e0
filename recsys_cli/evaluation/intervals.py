"""Means over users, and ratios and ROC-AUC, with 95 % intervals that cover: bootstrap-t over users.

The percentile bootstrap under-covers where there are few users or most of them have the same figure (zeros of rare
hits). Bootstrap-t (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12) resamples the
studentised mean instead, which follows the skew. Shares of users, whose figures are 0 or 1, have the mid-P interval of
the binomial distribution (Lancaster, JASA 1961; Berry and Armitage, The Statistician 1995), which covers at any number
of hits. Where too few users differ from the rest nothing can be learned from resampling: other figures between 0 and 1
have the mid-P interval of as many hits as would spread as much, and figures without bounds have none (NaN).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

FEWEST = 10
"""Users whose figure is another than the commonest one, below which resampling says nothing."""
KEPT = 20_000_000
"""Counts of resamples that are kept for the next figures of as many users, two bytes each, four such tables at most."""
PRIOR = 0.25
"""Of a whole hit, added to the sums from which it is told what a hit is worth."""
NEAREST = "nearest"
"""How quantiles are taken of studentised means: they may be infinite, and nothing lies between two infinities."""
REFUSED = f"no interval: fewer than {FEWEST} users have another figure than the rest"


def differing(values: np.ndarray) -> np.ndarray:
    """int64[M] users a column, float[U, M], whose figure is another than that column's commonest; NaN is nobody's."""
    ordered = np.sort(values, axis=0)
    known = np.isfinite(ordered).sum(axis=0)
    out = np.zeros(values.shape[1], np.int64)
    for column in range(values.shape[1]):
        figures = ordered[: known[column], column]
        if len(figures):
            starts = np.flatnonzero(np.concatenate([[True], figures[1:] != figures[:-1], [True]]))
            out[column] = len(figures) - np.diff(starts).max()
    return out


def bootstrap_means(
    values: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    unit: bool | np.ndarray = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column means with bootstrap-t intervals over rows.

    values: float[U, M], one row a user, NaN where a user has no figure (left out of that column). All
    columns share the resamples, so that systems measured on the same users stay comparable. unit: whether the figures
    are of [0, 1], bool or bool[M]; such columns have the mid-P interval where all figures are 0 or 1 or fewer than
    `FEWEST` users differ from the rest, where others have none. Returns mean, low and high, each float64[M].
    """
    valid = np.isfinite(values)
    counts = valid.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(valid, values, 0.0).sum(axis=0) / counts
        centred = np.where(valid, values - mean, 0.0)
        error = np.sqrt((centred**2).sum(axis=0) / (counts * (counts - 1.0)))
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    unit = np.broadcast_to(unit, mean.shape)
    enough = differing(values) >= FEWEST
    share = unit & (counts > 0) & (~enough | (~valid | (values == 0) | (values == 1)).all(axis=0))
    if share.any():
        low[share], high[share] = rare_means(np.where(valid, values, 0.0)[:, share], counts[share], confidence)
    enough &= ~share
    if enough.any():
        drawn = _studentised(centred[:, enough] / error[enough], valid[:, enough], resamples, seed)
        tail = (1 - confidence) / 2
        first, last = _quantiles(drawn, [tail, 1 - tail], NEAREST)
        # the mean of anything lies between its smallest and its largest value
        smallest, largest = np.nanmin(values[:, enough], axis=0), np.nanmax(values[:, enough], axis=0)
        low[enough] = np.maximum(mean[enough] - last * error[enough], smallest)
        high[enough] = np.minimum(mean[enough] - first * error[enough], largest)
    return mean, low, high


def _studentised(scaled: np.ndarray, valid: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64[resamples, M] means of resampled rows over their standard errors.

    scaled: float[U, M], of mean 0 where `valid`, else 0. Units do not matter.
    """
    users = len(scaled)
    partial = ~valid.all(axis=0)
    size = scaled.shape[1]
    scaled = scaled.astype(np.float32)
    stacked = np.concatenate([scaled, scaled**2, valid[:, partial]], axis=1, dtype=np.float32)
    out = []
    for weights in resample_counts(users, resamples, max(1, 4_000_000 // users), seed):
        sums = (weights.astype(np.float32) @ stacked).astype(float)
        n = np.full((len(weights), size), float(users))
        # columns that every user has a figure for need no count of their own
        n[:, partial] = sums[:, 2 * size :]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums[:, :size] / n
            spread = np.sqrt(np.maximum(sums[:, size : 2 * size] / n - means**2, 0.0) / (n - 1))
            out.append(np.where(spread > 0, means / spread, np.sign(means) * np.inf))
    return np.concatenate(out)


def rare_means(values: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of means of figures in [0, 1], few of which are another than the rest.

    values: float[U, M], 0 where a user has none; n: users of each column. Figures worth r each on the average, as
    Σ v² ÷ Σ v has it, spread as the hits of n ÷ r users would (a quarter of a whole hit is added to both sums, for what
    few figures say of r is little). With figures of 0 and 1 alone it is the mid-P interval itself.
    """
    total, square = values.sum(axis=0), (values**2).sum(axis=0)
    worth = (square + PRIOR) / (total + PRIOR)
    return mid_p(total / worth, n / worth, confidence)


def mid_p(total: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mid-P interval of a share: the rates at which half the chance of the hits found, and all of that of more (or of
    fewer), is the tail.

    total: float[M] hits among n users each, 0 to n; neither need be whole.
    """
    from scipy.special import betainc

    x, n = np.asarray(total, float), np.asarray(n, float)
    tail = (1 - confidence) / 2

    def beyond(rate: np.ndarray) -> np.ndarray:
        """half the chance of x hits, and that of more"""
        at_least = np.where(x > 0, betainc(np.maximum(x, 1e-3), np.maximum(n - x, 0) + 1, rate), 1.0)
        more = np.where(x < n, betainc(x + 1, np.maximum(n - x, 1e-3), rate), 0.0)
        return (at_least + more) / 2

    def where(wanted: float) -> np.ndarray:
        below, above = np.zeros_like(x), np.ones_like(x)
        for _ in range(52):
            middle = (below + above) / 2
            less = beyond(middle) < wanted
            below, above = np.where(less, middle, below), np.where(less, above, middle)
        return (below + above) / 2

    return np.where(x > 0, where(tail), 0.0), np.where(x < n, where(1 - tail), 1.0)


def bootstrap_ratios(
    above: np.ndarray,
    below: np.ndarray,
    pairs: Sequence[tuple[int, int]] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratios of column sums, and differences between them, with bootstrap-t intervals over rows.

    above, below: float[U, S], one row a user. pairs: columns (a, b) whose ratio a − ratio b is wanted. The error of a
    ratio is that of its linearisation (above − ratio · below) ÷ Σ below. Returns value, low and high, each
    float64[S + pairs]; NaN where a column's `below` sums to nothing, and no interval where fewer than `FEWEST` users
    count.
    """
    totals = _RatioSums(above, below, tuple(pairs))
    columns = totals.columns
    value, error = totals.of(columns.sum(axis=0))
    if len(above) < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    drawn = []
    for weights in resample_counts(len(above), resamples, max(1, 4_000_000 // len(above)), seed):
        again, spread = totals.of(weights @ columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(np.where(spread > 0, (again - value) / spread, np.sign(again - value) * np.inf))
    tail = (1 - confidence) / 2
    first, last = _quantiles(np.concatenate(drawn), [tail, 1 - tail], NEAREST)
    low, high = value - last * error, value - first * error
    unknown = np.isnan(value) | (error == 0) | (totals.counted < FEWEST) | ~np.isfinite(first) | ~np.isfinite(last)
    return value, np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


class _RatioSums:
    """What ratios, their differences and the errors of both are made of, as sums over users."""

    def __init__(self, above: np.ndarray, below: np.ndarray, pairs: tuple[tuple[int, int], ...]):
        self.n, self.pairs = above.shape[1], pairs
        # the scale of each column does not matter, and large weights squared would
        largest = np.abs(below).max(axis=0, initial=0.0)
        scale = np.where(largest > 0, largest, 1.0)
        a, b = above / scale, below / scale
        crossed = [x[:, i] * y[:, j] for i, j in pairs for x in (a, b) for y in (a, b)]
        self.columns = np.concatenate([a, b, a * a, a * b, b * b, *(c[:, None] for c in crossed)], axis=1)
        counted = (below > 0).sum(axis=0)
        self.counted = np.array([*counted, *(min(counted[i], counted[j]) for i, j in pairs)])

    def of(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ratios and differences, and the standard error of each; sums: float[…, columns]."""
        n = self.n
        a, b, aa, ab, bb = (sums[..., i * n : (i + 1) * n] for i in range(5))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(b > 0, a / b, np.nan)
            square = np.maximum(aa - 2 * ratio * ab + ratio**2 * bb, 0.0) / b**2
            out, errors = [ratio], [square]
            for p, (i, j) in enumerate(self.pairs):
                x_aa, x_ab, x_ba, x_bb = (sums[..., 5 * n + 4 * p + c] for c in range(4))
                r, s = ratio[..., i], ratio[..., j]
                both = (x_aa - s * x_ab - r * x_ba + r * s * x_bb) / (b[..., i] * b[..., j])
                out.append((r - s)[..., None])
                errors.append(np.maximum(square[..., i] + square[..., j] - 2 * both, 0.0)[..., None])
        return np.concatenate(out, axis=-1), np.sqrt(np.concatenate(errors, axis=-1))


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
    for weights in resample_counts(n_groups, resamples, max(1, 1_000_000 // n_groups), seed):
        for weight in weights:
            np.cumsum(weight[of_negative], out=below[1:])
            positive = weight[of_positive]
            total = positive.sum() * below[-1]
            out.append(positive @ (below[left] + below[right]) / 2 / total if total else np.nan)
    tail = (1 - confidence) / 2
    low, high = _quantiles(np.array(out)[:, None], [tail, 1 - tail])
    return float(low[0]), float(high[0])


def resample_counts(n: int, resamples: int, chunk: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float64[≤ chunk, n]: how often each of n units stands in each resample."""
    if resamples * n <= KEPT:
        counts = _kept_counts(n, resamples, seed)
        for start in range(0, resamples, chunk):
            yield counts[start : start + chunk].astype(float)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        yield _drawn_counts(rng, n, min(chunk, resamples - start)).astype(float)


def _drawn_counts(rng: np.random.Generator, n: int, rows: int) -> np.ndarray:
    drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


@functools.lru_cache(maxsize=4)
def _kept_counts(n: int, resamples: int, seed: int) -> np.ndarray:
    """uint16[resamples, n]; all figures of a report share the resamples, which are then drawn once."""
    rng, chunk = np.random.default_rng(seed), max(1, 4_000_000 // n)
    parts = [_drawn_counts(rng, n, min(chunk, resamples - at)).astype(np.uint16) for at in range(0, resamples, chunk)]
    return np.concatenate(parts)


def _quantiles(samples: np.ndarray, at: list[float], method: str = "linear") -> np.ndarray:
    """Quantiles of each column, NaN for a column without any finite sample."""
    out = np.full((len(at), samples.shape[1]), np.nan)
    usable = np.isfinite(samples).any(axis=0)
    if usable.any():
        out[:, usable] = np.nanquantile(samples[:, usable], at, axis=0, method=method)
    return out
