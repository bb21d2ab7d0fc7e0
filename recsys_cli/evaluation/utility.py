"""Weights of the utility that foretell a long-term target: what an action of today says of what is wanted later.

The target of an impression is regressed on the actions of that impression (or on the ranker's predictions of them),
with weights of positive actions at least 0 and of negative ones at most 0. An association, not an effect: people who
reply may return because they are people who return. Counts of the user's past stand beside the actions to take that
part away; an experiment (`ab-test`) decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli import metrics
from recsys_cli.data.schema import DAY
from recsys_cli.data.windows.split import split_again
from recsys_cli.errors import DataError, UsageError, did_you_mean
from recsys_cli.evaluation.impressions import predict_impressions, spearman
from recsys_cli.off_policy_estimates.single import importance, self_normalised_ips
from recsys_cli.pipeline.utility import weights_of
from recsys_cli.progress import Progress
from recsys_cli.replay import SMALLEST

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.engine import RecommendationEngine

LATER = {
    "next_day_return": "whether the user comes back on the next day",
    "next_day_dwell": "seconds that the user spends on the next day",
    "session_length": "impressions that follow in the session",
}
"""Targets beside the actions and `dwell`."""
MAX_ROWS = 200_000
"""Rows that weights are fitted on at most, drawn with the seed."""


@dataclass(frozen=True)
class Outcome:
    """The target of some rows of a log."""

    rows: np.ndarray
    """int64[m] rows whose target is known by the end of the window"""
    values: np.ndarray
    """float64[m]"""
    weight: np.ndarray
    """float64[m]: rows that share one outcome share a weight of 1"""


def outcome(log: Log, target: str, start: int, end: int) -> Outcome:
    """The target of each impression of `log`, from what the log tells before `end`.

    Days are of 24 hours from `start` (µs). Raises UsageError for a target that is not one, DataError where the log
    lacks what it takes.
    """
    every = np.arange(len(log))
    if target in log.actions:
        return Outcome(every, log.actions[target].astype(float), np.ones(len(log)))
    if target == "dwell" or target == "next_day_dwell":
        if log.dwell is None:
            raise DataError(f"no dwell time in this data, so no target {target}", "name an action or next_day_return")
        if target == "dwell":
            known = np.flatnonzero(np.isfinite(log.dwell))
            return Outcome(known, log.dwell[known].astype(float), np.ones(len(known)))
    if target == "session_length":
        return _left_of_session(log)
    if target not in LATER:
        known = [*log.actions, "dwell", *LATER]
        hint = did_you_mean(target, known, f"known targets: {', '.join(known)}")
        raise UsageError(f"no target {target!r}", hint)
    day = (log.time - start) // DAY
    whole = (end - start) // DAY  # days that are over
    users = int(log.user.max(initial=0)) + 1
    key = day * users + log.user
    held, place, count = np.unique(key, return_inverse=True, return_counts=True)
    amount = np.ones(len(log)) if target == "next_day_return" else np.nan_to_num(log.dwell.astype(float))
    total = np.bincount(place, amount, minlength=len(held))
    at = np.minimum(np.searchsorted(held, held + users), len(held) - 1)
    after = np.where(held[at] == held + users, total[at], 0.0)
    if target == "next_day_return":
        after = (after > 0).astype(float)
    rows = np.flatnonzero(day + 1 < whole)
    return Outcome(rows, after[place[rows]], 1 / count[place[rows]])


def _left_of_session(log: Log) -> Outcome:
    if log.session is None:
        raise DataError("no session_id in this data, so no target session_length", "name an action or next_day_return")
    order = np.lexsort((log.time, log.session))
    session, time = log.session[order], log.time[order]
    end = np.searchsorted(session, session, "right")
    # rows of the same moment do not follow one another
    moment = np.r_[True, (session[1:] != session[:-1]) | (time[1:] != time[:-1])]
    group = np.cumsum(moment) - 1
    last = np.r_[np.flatnonzero(moment)[1:], len(order)][group]
    out = np.empty(len(log))
    out[order] = end - last
    return Outcome(np.arange(len(log)), out, np.ones(len(log)))


@dataclass(frozen=True)
class Fit:
    """Weights by regression."""

    names: tuple[str, ...]
    weights: np.ndarray
    """float64[A], those of negative actions at most 0; in units of the target"""
    low: np.ndarray
    high: np.ndarray
    """interval of 95 %, by resampling users"""
    rates: np.ndarray
    """float64[A] mean of each column"""
    r2: float
    """share of the target's variance that the actions explain beyond the counts of the past"""


def fit_weights(
    columns: dict[str, np.ndarray], negative: tuple[str, ...], controls: np.ndarray, target: np.ndarray,
    weight: np.ndarray, users: np.ndarray, *, resamples: int = 200, seed: int = 0,
) -> Fit:
    """Weighted least squares of target [n] on columns [n] and controls [n, C], bounded in sign by the polarity.

    users: int[n], whose rows are drawn together.
    """
    from scipy.optimize import lsq_linear

    names = tuple(columns)
    x = np.column_stack([*columns.values(), np.ones(len(target)), controls]).astype(float)
    scale = np.maximum(np.sqrt(np.average(x**2, axis=0, weights=weight)), 1e-12)
    x = x / scale
    low = np.full(x.shape[1], -np.inf)
    high = np.full(x.shape[1], np.inf)
    for a, name in enumerate(names):
        (high if name in negative else low)[a] = 0.0

    def solve(w: np.ndarray, *, actions: bool = True) -> tuple[np.ndarray, float]:
        """Coefficients, and the sum of squared errors."""
        mine = slice(None) if actions else slice(len(names), None)
        z = x[:, mine]
        gram = (z * w[:, None]).T @ z
        gram[np.diag_indices(len(gram))] += 1e-9 * np.trace(gram) / len(gram)
        root = np.linalg.cholesky(gram)
        right = np.linalg.solve(root, z.T @ (w * target))
        beta = lsq_linear(root.T, right, (low[mine], high[mine]), method="bvls").x
        return beta, float(w @ (target - z @ beta) ** 2)

    beta, error = solve(weight)
    _, without = solve(weight, actions=False)
    _, place = np.unique(users, return_inverse=True)
    rng = np.random.default_rng(seed)
    n = int(place.max(initial=0)) + 1
    drawn = np.empty((resamples, len(names)))
    for r in range(resamples):
        count = np.bincount(rng.integers(0, n, n), minlength=n)
        drawn[r] = solve(weight * count[place])[0][: len(names)]
    bounds = np.quantile(drawn, [0.025, 0.975], axis=0) / scale[: len(names)]
    rates = np.array([np.average(c, weights=weight) for c in columns.values()])
    return Fit(names, beta[: len(names)] / scale[: len(names)], *bounds, rates, 1 - error / max(without, 1e-12))


def tune_utility(
    engine: RecommendationEngine, dataset: Dataset, target: str, *, predicted: dict[str, np.ndarray] | None = None,
    predicted_log: Log | None = None, resamples: int = 200, seed: int = 0, progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit weights to a target before the test window, and measure them on it.

    predicted, predicted_log: what the ranker foretells on the rows of a window before the test window; without them
    the actions that were observed between the history window and the test window are taken. Raises DataError where
    no row has a known target, or all have the same.
    """
    progress = progress or Progress()
    split = split_again(engine.manifest.windows, dataset)
    windows, whole, dataset = split.windows, split.log, dataset.with_log(split.log)
    on = "observed" if predicted is None else "predicted"
    log = whole.window(windows.history_end, windows.test_start) if predicted is None else predicted_log
    found = outcome(log, target, int(log.time[0]), windows.test_start)
    rows = found.rows
    if not len(rows) or np.ptp(found.values) == 0:
        raise DataError(
            f"target {target}: {len(rows):,} rows before the test window have one, and it is the same for all",
            "name another target, or make the window longer",
        )
    pick = np.arange(len(rows))
    if len(rows) > MAX_ROWS:
        pick = np.sort(np.random.default_rng(seed).choice(len(rows), MAX_ROWS, replace=False))
    rows = rows[pick]
    columns = _observed(log, target) if predicted is None else _usable(predicted, log)
    columns = {name: c[rows].astype(float) for name, c in columns.items()}
    columns = {name: c for name, c in columns.items() if np.ptp(c) > 0}
    with progress.step("fit weights"):
        fit = fit_weights(
            columns, log.negative_actions, _past(whole, log)[rows], found.values[pick], found.weight[pick],
            log.user[rows], resamples=resamples, seed=seed,
        )
    if not fit.weights.any():
        raise DataError(f"target {target}: no action foretells it with the sign it should have", "name another target")
    current = weights_of(engine.pipeline.utility, engine.bundle.proposed_weights)
    signs = {a: -1.0 if a in log.negative_actions else 1.0 for a in fit.names}
    # utilities keep their size, which safety factors and people's eyes are used to
    size = sum(abs(current.get(a, 0.0)) * r for a, r in zip(fit.names, fit.rates, strict=True))
    factor = size / float(np.abs(fit.weights) @ fit.rates) if size else 1.0
    fitted = {a: signs[a] * factor * w + 0.0 for a, w in zip(fit.names, fit.weights, strict=True)}  # no minus zero
    with progress.step("effect on the test window"):
        effect = _effect(engine, dataset, target, current, fitted, seed)
    return {
        "run": engine.manifest.id, "target": target, "on": on, "rows": len(rows),
        "users": len(np.unique(log.user[rows])),
        "target_mean": float(np.average(found.values[pick], weights=found.weight[pick])), "explained": fit.r2,
        "weights": [
            {
                "action": a, "polarity": "negative" if signs[a] < 0 else "positive", "rate": float(rate),
                "now": current.get(a, 0.0), "fitted": fitted[a],
                "low": factor * min(signs[a] * lo, signs[a] * hi), "high": factor * max(signs[a] * lo, signs[a] * hi),
                "share": abs(fitted[a]) * rate / size if size else float("nan"),
            }
            for a, rate, lo, hi in zip(fit.names, fit.rates, fit.low, fit.high, strict=True)
        ],
        "settings": _settings(fitted),
        "effect": effect,
    }


def _settings(fitted: dict[str, float]) -> dict[str, Any]:
    """The weights as the YAML file takes them."""
    return {"pipeline": {"utility": {
        "preset": "own",
        "weights": {a: float(f"{w:.4g}") for a, w in fitted.items() if a != "dwell"},
        "dwell": float(f"{fitted.get('dwell', 0.0):.4g}"),
    }}}


def _observed(log: Log, target: str) -> dict[str, np.ndarray]:
    """Action (and dwell) → what was observed, without the target itself."""
    out = {a: c.astype(float) for a, c in log.actions.items()}
    if log.dwell is not None:
        out["dwell"] = np.nan_to_num(log.dwell.astype(float))
    return {name: c for name, c in out.items() if name != target}


def _usable(predicted: dict[str, np.ndarray], log: Log) -> dict[str, np.ndarray]:
    return {name: c for name, c in predicted.items() if name in log.actions or name == "dwell"}


def _past(whole: Log, log: Log) -> np.ndarray:
    """float64[n, 2]: ln(1 + impressions) and share of interactions of each row's user before the rows begin."""
    before = whole.window(end=int(log.time[0]))
    n = int(whole.user.max(initial=0)) + 1
    shown = np.bincount(before.user, minlength=n).astype(float)
    positive = np.bincount(before.user, before.positive, minlength=n)
    rate = (positive + before.positive.mean() * 10 if len(before) else positive) / (shown + 10)
    return np.column_stack([np.log1p(shown), rate])[log.user]


def _effect(
    engine: RecommendationEngine, dataset: Dataset, target: str, current: dict, fitted: dict, seed: int
) -> dict[str, Any] | None:
    """How both utilities order the logged impressions of the test window; None without a heavy ranker or rows."""
    windows = engine.manifest.windows
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = engine.as_of(dataset.log, windows.test_start, **edges)
    predicted, test = predict_impressions(past, dataset, edges)
    if predicted is None:
        return None
    scores = {
        name: sum(
            (-w if a in test.negative_actions else w) * predicted[a].astype(float)
            for a, w in weights.items() if a in predicted
        )
        for name, weights in (("now", current), ("fitted", fitted))
    }
    found = outcome(test, target, windows.test_start, windows.end)
    binary = set(np.unique(found.values)) <= {0.0, 1.0}
    out: dict[str, Any] = {"rows": len(test), "target_rows": len(found.rows), "auc": {}}
    for name, score in scores.items():
        if np.ndim(score) == 0:
            score = np.full(len(test), float(score))
        mine = score[found.rows]
        agreement = metrics.roc_auc(found.values, mine) if binary else spearman(found.values, mine)
        out["auc"][name] = {a: metrics.roc_auc(test.actions[a], score) for a in test.actions if test.actions[a].any()}
        out[name] = {("roc_auc" if binary else "spearman"): agreement}
        out[name]["replay"] = _replay(test, score)
    return out


def _replay(test: Log, score: np.ndarray) -> dict[str, float] | None:
    """Share of impressions with an interaction among each user's better half by the score, by inverse propensity.

    Without propensities every row counts once. Users with fewer than four rows are left out.
    """
    order = np.lexsort((-score, test.user))
    user = test.user[order]
    _, start, count = np.unique(user, return_index=True, return_counts=True)
    rank = np.arange(len(user)) - np.repeat(start, count)
    half = order[(rank < np.repeat(count, count) // 2) & (np.repeat(count, count) >= 4)]
    if not len(half):
        return None
    weight = np.ones(len(test))
    if test.propensity is not None:
        weight = importance(weight, np.nan_to_num(test.propensity, nan=1), SMALLEST)
    out = {"interactions": self_normalised_ips(weight[half], test.positive[half]).estimate}
    if test.dwell is not None:
        out["dwell"] = self_normalised_ips(weight[half], np.nan_to_num(test.dwell[half])).estimate
    return out
