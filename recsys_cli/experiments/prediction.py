"""What a model foretells of each user from before the experiment, as a covariate (CUPAC: Tang, Huang and others 2020).

CUPED takes one figure from before; CUPAC takes all of `predictors`, and the better they foretell the outcome, the more
variance goes. The model is least squares over the predictors and their logarithms, with a ridge. It is fitted on both
arms together, and each user is foretold by a model that did not see that user, so that the prediction cannot know what
the user's own variant did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.experiments.compare import FORETOLD, UNITS, covariate_of, require
from recsys_cli.experiments.metric_config import MetricConfig

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig

FOLDS = 5
_RIDGE = 1e-3
"""Part of a user's information by which coefficients are drawn to zero."""


def with_predictions(
    users: Mapping[str, np.ndarray], config: ExperimentConfig
) -> tuple[Mapping[str, np.ndarray], ExperimentConfig]:
    """The table of units with a column for every metric that names predictors, and the experiment that takes these as
    covariates. Predictors that the table lacks are done without; where it has none, the metric has no covariate."""
    if not any(metric.predictors for metric in config.metrics):
        return users, config
    users, metrics = dict(users), []
    for metric in config.metrics:
        metric, columns = foretold(metric, users)
        users |= columns
        metrics.append(metric)
    return users, config.model_copy(update={"metrics": tuple(metrics)})


def foretold(metric: MetricConfig, users: Mapping[str, np.ndarray]) -> tuple[MetricConfig, dict[str, np.ndarray]]:
    """The metric with its predictions as covariates, and these columns."""
    known = {c: values for c in metric.predictors if (values := covariate_of(users, c)) is not None}
    if not known:
        return metric, {}
    for column in metric.outcomes:
        require(users, column, f"metric {metric.name}")
    size = np.asarray(users[UNITS], float) if UNITS in users else None
    features = _features(known, size)
    y = np.asarray(users[metric.numerator], float)
    # named after the metric: two may count the same column and have other predictors
    own = f"{metric.name}{FORETOLD}"
    columns = {own: y if metric.at_least is None else (y >= metric.at_least).astype(float)}
    if metric.denominator is not None:
        columns[f"{own} (denominator)"] = np.asarray(users[metric.denominator], float)
    folds = _folds(len(y), metric.name)
    found = {name: out_of_fold(features, values, folds) for name, values in columns.items()}
    numerator, *denominator = found
    update = {"covariate": numerator, "denominator_covariate": denominator[0] if denominator else None}
    return metric.model_copy(update=update), found


def _features(known: Mapping[str, np.ndarray], size: np.ndarray | None) -> np.ndarray:
    """float64[n, F] predictors and their logarithms in standard deviations, and a constant."""
    rows = [part for values in known.values() for part in (values, np.sign(values) * np.log1p(np.abs(values)))]
    rows += [size] if size is not None else []
    table = np.stack(rows, axis=1)
    spread = table.std(axis=0)
    table = (table[:, spread > 0] - table[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    return np.column_stack([np.ones(len(table)), table])


def _folds(n: int, name: str) -> np.ndarray:
    """int[n] fold of each unit, the same for the same table."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng([seed, n]).permutation(n) % FOLDS


def out_of_fold(features: np.ndarray, outcome: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """float64[n] what the users of the other folds say about each; features: float64[n, F], the first a constant."""
    penalty = np.full(features.shape[1], _RIDGE)
    penalty[0] = 0.0
    parts = [folds == fold for fold in np.unique(folds)]
    squares = [features[part].T @ features[part] for part in parts]
    products = [features[part].T @ outcome[part] for part in parts]
    out = np.empty(len(outcome))
    for k, part in enumerate(parts):
        others = [j for j in range(len(parts)) if j != k]
        ridge = np.diag(penalty * max(len(outcome) - int(part.sum()), 1))
        square, product = sum(squares[j] for j in others), sum(products[j] for j in others)
        out[part] = features[part] @ np.linalg.lstsq(square + ridge, product, rcond=None)[0]
    return out
