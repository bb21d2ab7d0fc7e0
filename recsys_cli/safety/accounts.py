"""Safety of accounts: a classifier of what an account does, or else a smoothed mean over its items' scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError
from recsys_cli.safety.graphs import write_linear_graph
from recsys_cli.safety.served import GRAPH_FILE

if TYPE_CHECKING:
    from recsys_cli.safety.models import SafetyModels

PRIOR_ITEMS = 5.0
"""Items' worth of the mean of all authors that an author's own mean is drawn towards."""
PRIOR_IMPRESSIONS = 50.0
"""Impressions' worth of the rate of all authors, likewise for rates."""
FLAGGED = 0.5
"""A score above this counts as a flagged item."""
FOLDS = 4


def author_scores(
    catalogue: Catalogue,
    log: Log,
    now: int,
    models: SafetyModels,
    follows: dict[str, np.ndarray] | None = None,
    blocks: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Task → float32[n_authors] in [0, 1] as of `now` (µs), NaN where nothing is known of an author.

    By the classifier of accounts where there is one for the task, else (Σ scores + m·mean) / (n + m) over the n
    items published before `now` whose score is known, m = PRIOR_ITEMS and the mean that of all such items.
    """
    out = {}
    past = (catalogue.item_created < now) & (catalogue.item_author >= 0)
    for task, scores in catalogue.item_safety.items():
        total, count = _sums(catalogue, scores, past & ~np.isnan(scores))
        mean = total.sum() / max(count.sum(), 1)
        shrunk = (total + PRIOR_ITEMS * mean) / (count + PRIOR_ITEMS)
        out[task] = np.where(count > 0, shrunk, np.nan).astype(np.float32)
    if models.accounts:
        features = account_features(catalogue, log, now, follows, blocks)
        for task, model in models.accounts.items():
            names = model.manifest["features"]
            empty = np.full(catalogue.n_authors, np.nan, np.float32)
            table = np.stack([features.get(name, empty) for name in names], axis=1)
            known = features["items"] > 0
            out[task] = np.where(known, model.probabilities(table), np.nan).astype(np.float32)
    return out


def account_features(
    catalogue: Catalogue,
    log: Log,
    now: int,
    follows: dict[str, np.ndarray] | None = None,
    blocks: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What an account did and what came back, as of `now`: name → float32[n_authors], NaN where unknown.

    Counts as ln(1 + n); rates of every action per impression received, drawn towards everybody's; the mean and the
    flagged share of its items' scores, drawn towards everybody's.
    """
    n, log = catalogue.n_authors, log.window(end=now)
    past = (catalogue.item_created < now) & (catalogue.item_author >= 0)
    items = np.bincount(catalogue.item_author[past], minlength=n)
    user = catalogue.author_user if len(catalogue.author_user) else np.full(n, -1, np.int32)
    joined = np.where(user >= 0, catalogue.user_created[user], 0) if len(catalogue.user_created) else np.zeros(n)
    first = np.full(n, now, np.int64)
    dated = past & (catalogue.item_created > 0)
    np.minimum.at(first, catalogue.item_author[dated], catalogue.item_created[dated])
    active = np.maximum((now - first) / DAY, 1.0)
    author = catalogue.item_author[log.item]
    received = np.bincount(author[author >= 0], minlength=n)
    out = {
        "items": np.log1p(items),
        "items_per_day": np.log1p(items / active),
        "age_days": np.where(joined > 0, np.log1p(np.maximum(now - joined, 0) / DAY), np.nan),
        "impressions": np.log1p(received),
        "followers": np.log1p(_edges(follows, "to", now, n)),
        "blocks_per_impression": _rate(_edges(blocks, "to", now, n), received),
    }
    mine = _edges(follows, "from", now, catalogue.n_users)
    out["following"] = np.where(user >= 0, np.log1p(mine[user]), np.nan) if len(mine) else np.full(n, np.nan)
    for action in (*log.positive_actions, *log.negative_actions):
        rows = log.actions[action] & (author >= 0)
        out[f"rate_{action}"] = _rate(np.bincount(author[rows], minlength=n), received)
    for task, scores in catalogue.item_safety.items():
        known = past & ~np.isnan(scores)
        for name, values in ((f"mean_{task}", scores), (f"flagged_{task}", scores > FLAGGED)):
            total, count = _sums(catalogue, values, known)
            mean = total.sum() / max(count.sum(), 1)
            out[name] = np.where(count > 0, (total + PRIOR_ITEMS * mean) / (count + PRIOR_ITEMS), np.nan)
    return {name: values.astype(np.float32) for name, values in out.items()}


def _sums(catalogue: Catalogue, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    author = catalogue.item_author[rows]
    total = np.bincount(author, values[rows].astype(np.float64), minlength=catalogue.n_authors)
    return total, np.bincount(author, minlength=catalogue.n_authors)


def _edges(table: dict[str, np.ndarray] | None, side: str, now: int, n: int) -> np.ndarray:
    return np.zeros(n) if table is None else np.bincount(table[side][table["time"] < now], minlength=n)


def _rate(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    everybody = hits.sum() / max(of.sum(), 1)
    return (hits + PRIOR_IMPRESSIONS * everybody) / (of + PRIOR_IMPRESSIONS)


class AccountClassifier:
    """Logistic regression on standardised features of accounts; a missing one counts as the mean."""

    def __init__(self, names: list[str], mean: np.ndarray, spread: np.ndarray, weights: np.ndarray, bias: float):
        self.names, self.mean, self.spread, self.weights, self.bias = names, mean, spread, weights, bias

    def probabilities(self, table: np.ndarray) -> np.ndarray:
        """float64[n] from float32[n, F]."""
        scaled = np.nan_to_num((table - self.mean) / self.spread)
        return 1 / (1 + np.exp(-np.clip(scaled @ self.weights + self.bias, -60, 60)))

    def export(self, folder: Path) -> None:
        write_linear_graph(folder / GRAPH_FILE, self.mean, self.spread, self.weights, self.bias)


def fit_account_classifier(
    features: dict[str, np.ndarray], rows: np.ndarray, labels: np.ndarray, *, seed: int = 0
) -> tuple[AccountClassifier, np.ndarray]:
    """Fit on the authors `rows` with Boolean labels; returns the classifier and its out-of-fold probabilities.

    Raises DataError where a class has fewer accounts than the cross-validation needs.
    """
    from sklearn.model_selection import StratifiedKFold

    if min(int(labels.sum()), int((~labels).sum())) < 2 * FOLDS:
        raise DataError(
            f"{int(labels.sum()):,} positive and {int((~labels).sum()):,} negative accounts that have items",
            f"each class needs at least {2 * FOLDS}",
        )
    table = np.stack(list(features.values()), axis=1)[rows]
    held_out = np.zeros(len(rows))
    for fit, rest in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(table, labels):
        held_out[rest] = _fit(list(features), table[fit], labels[fit]).probabilities(table[rest])
    return _fit(list(features), table, labels), held_out


def _fit(names: list[str], table: np.ndarray, labels: np.ndarray) -> AccountClassifier:
    from sklearn.linear_model import LogisticRegression

    known = ~np.isnan(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count)
    spread = np.where(spread > 1e-9, spread, 1.0)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(np.nan_to_num((table - mean) / spread), labels)
    return AccountClassifier(names, mean, spread, model.coef_.ravel(), float(model.intercept_[0]))
