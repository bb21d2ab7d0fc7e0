"""A policy learned from logged rows.

Maximises the estimated value less `caution` times the divergence from the policy that wrote the log, KL(π ‖ μ). For a
table of cells and actions the maximum is known: π(a | cell) ∝ μ(a) exp(value(cell, a) / caution). The value is
inverse-propensity or doubly robust (Dudík et al., ICML 2011), less its standard error times `pessimism`
(counterfactual risk minimisation, Swaminathan and Joachims, ICML 2015).
"""

from __future__ import annotations

import numpy as np

from recsys_cli.off_policy_estimates.reward_model import fit_rewards
from recsys_cli.off_policy_estimates.rows import LoggedRows


def action_values(
    rows: LoggedRows, n_cells: int, n_actions: int, position: np.ndarray, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """(float64[cells, n_actions] estimated reward, its standard error). position: int16[cells]. method: "ips" or "dr".
    """
    positions = int(position.max(initial=0)) + 1
    q = np.zeros((n_cells, n_actions))
    residual = rows.reward
    if method == "dr":
        model = fit_rewards(rows, n_actions, positions, n_cells > positions)
        cell, action = np.divmod(np.arange(n_cells * n_actions), n_actions)
        q = model.predict(action, position[cell], cell).reshape(n_cells, n_actions)
        residual = rows.reward - q[rows.cell, rows.action]
    key = rows.cell.astype(np.int64) * n_actions + rows.action
    size = n_cells * n_actions

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(key, weights, minlength=size).reshape(n_cells, n_actions)

    of_cell = np.maximum(np.bincount(rows.cell, minlength=n_cells), 1)[:, None]
    correction = residual / rows.propensity
    value = q + total(correction) / of_cell
    # the variance of one reward stands in for a pair that was hardly seen, so that it is not thought certain
    share = np.maximum(total(np.ones(len(rows))), 1) / of_cell
    error = np.sqrt(total(correction**2) + float(rows.reward.var()) / share) / of_cell
    return value, error


def learned_policy(
    value: np.ndarray, error: np.ndarray, prior: np.ndarray, caution: float, pessimism: float
) -> np.ndarray:
    """float64[cells, n_actions] the policy. prior: float64[cells, n_actions] that of the log; caution: in units of the
    reward."""
    worth = value - pessimism * error
    with np.errstate(divide="ignore"):
        logit = np.where(prior > 0, np.log(prior), -np.inf) + worth / caution
    logit -= logit.max(axis=1, keepdims=True)
    p = np.exp(logit)
    return p / p.sum(axis=1, keepdims=True)
