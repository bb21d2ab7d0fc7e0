"""A policy learned from one half of a log, to be judged on the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.off_policy.config import LearnedPolicy, OffPolicyConfig
from recsys_cli.off_policy.policies import Cells
from recsys_cli.off_policy_estimates.learn import action_values, learned_policy
from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable, spread
from recsys_cli.off_policy_estimates.single import importance, self_normalised_ips

if TYPE_CHECKING:
    import polars as pl

TOO_MANY = 20_000_000
"""Pairs of cell and item that a learned table may hold."""
CAUTIONS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of the divergence that are tried, in standard deviations of the actions' values."""
PRIOR = 5.0
"""Rows that a position's shares count for in the logging policy of a cell."""


def learn(
    config: OffPolicyConfig, rows: LoggedRows, cells: Cells, items: pl.Series, seed: int
) -> tuple[LoggedRows, PolicyTable, pl.DataFrame]:
    """(rows to judge by, the policy, the policy as a table with the log's names of columns)."""
    wanted: LearnedPolicy = config.policy
    n_cells, m = len(cells.position), len(items)
    if n_cells * m > TOO_MANY:
        raise DataError(f"{n_cells:,} contexts and positions of {m:,} items are too many for a table",
                        "name fewer columns in log.contexts")
    half = spread(rows.unit + seed * 1_000_003, 4)
    first, judging = rows.take(half < 2), rows.take(half >= 2)
    if not len(first) or not len(judging):
        raise DataError("the log has too few units to learn from one half and judge by the other")
    caution = wanted.caution
    if caution is None:
        taught, tried = rows.take(half == 0), rows.take(half == 1)
        caution = _best_caution(wanted, taught, tried, cells, m) if len(taught) and len(tried) else CAUTIONS[-1]
    chance = _policy(wanted, first, cells, m, caution)
    policy = PolicyTable.dense(chance, cells.position)
    # numbers of units and slates stay dense
    unit = np.unique(judging.unit, return_inverse=True)[1]
    slate = None if judging.slate is None else np.unique(judging.slate, return_inverse=True)[1]
    judging = replace(judging, unit=unit, slate=slate)
    return judging, policy, _frame(config, policy, cells, items)


def _policy(wanted: LearnedPolicy, rows: LoggedRows, cells: Cells, m: int, caution: float) -> np.ndarray:
    value, error = action_values(rows, len(cells.position), m, cells.position, wanted.method)
    return learned_policy(value, error, _logging(rows, cells, m), caution, wanted.pessimism)


def _logging(rows: LoggedRows, cells: Cells, m: int) -> np.ndarray:
    """float64[cells, m] what the log shows in each cell."""
    places = int(cells.position.max()) + 1
    at_place = np.bincount(rows.position.astype(np.int64) * m + rows.action, minlength=places * m).reshape(places, m)
    share = at_place / np.maximum(at_place.sum(axis=1, keepdims=True), 1)
    if not at_place.sum(axis=1).all():
        share = np.where(at_place.sum(axis=1, keepdims=True) > 0, share, 1 / m)
    n_cells = len(cells.position)
    own = np.bincount(rows.cell.astype(np.int64) * m + rows.action, minlength=n_cells * m).reshape(n_cells, m)
    return (own + PRIOR * share[cells.position]) / (own.sum(axis=1, keepdims=True) + PRIOR)


def _best_caution(wanted: LearnedPolicy, taught: LoggedRows, tried: LoggedRows, cells: Cells, m: int) -> float:
    """What earns most on units that were not learned from, by the self-normalised estimate less its error."""
    value, _ = action_values(taught, len(cells.position), m, cells.position, wanted.method)
    prior = _logging(taught, cells, m)
    scale = max(float(np.sqrt(np.average((value - (prior * value).sum(1, keepdims=True)) ** 2, weights=prior))), 1e-12)
    best, most = CAUTIONS[-1] * scale, -np.inf
    for factor in CAUTIONS:
        chance = _policy(wanted, taught, cells, m, factor * scale)
        w = importance(chance[tried.cell, tried.action], tried.propensity)
        parts = self_normalised_ips(w, tried.reward)
        residual = w * (tried.reward - parts.estimate)
        worth = parts.estimate - float(np.sqrt(residual @ residual)) / max(w.sum(), 1e-12)
        if worth > most:
            best, most = factor * scale, worth
    return best


def _frame(config: OffPolicyConfig, policy: PolicyTable, cells: Cells, items: pl.Series) -> pl.DataFrame:
    import polars as pl

    columns = {"position": config.log.position}
    frame = cells.frame.rename({k: n for k, n in columns.items() if n is not None})
    frame = frame.with_row_index("cell")
    listed = pl.DataFrame({
        "cell": pl.Series(policy.cell).cast(pl.UInt32), config.log.item: items.gather(policy.action),
        "probability": policy.probability,
    })
    return listed.join(frame, on="cell", maintain_order="left").drop("cell")
