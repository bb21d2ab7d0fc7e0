"""The value of whole slates under another policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.off_policy.config import OffPolicyConfig
from recsys_cli.off_policy.judged import Judged
from recsys_cli.off_policy_estimates import slates
from recsys_cli.off_policy_estimates.intervals import grouped
from recsys_cli.off_policy_estimates.reward_model import cross_fitted
from recsys_cli.off_policy_estimates.single import Contributions

SOLVED_CELLS = 50_000_000
"""Numbers that the pseudo-inverse of slates without repeats may hold."""


def slate_estimates(
    config: OffPolicyConfig, judged: Judged, seed: int, describe: Callable[..., dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None, dict[str, str]]:
    """(estimates, the log's own value of a slate, estimator → why it is left out)."""
    wanted = [name for name in slates.EVERY if config.estimators is None or name in config.estimators]
    rows = judged.rows
    if not wanted:
        return [], None, {}
    if rows.slate is None or int(rows.slate.max()) + 1 == len(rows):
        why = "the log does not tell what was shown together (log.request)"
        why = why if rows.slate is None else "every request has one row"
        return [], None, dict.fromkeys(wanted, why) if config.estimators is not None else {"slates": why}
    at, shape = _places(judged)
    unit = np.zeros(shape[0], np.int64)
    unit[at[0]] = rows.unit
    group, n = grouped(unit)

    def matrix(values: np.ndarray, empty: float) -> np.ndarray:
        out = np.full(shape, empty, values.dtype)
        out[at] = values
        return out

    ratio, reward = matrix(judged.ratio, 1.0), matrix(rows.reward, 0.0)
    value = describe(Contributions(reward.sum(axis=1), np.ones(shape[0])), group, n, config, seed)
    made: dict[str, Contributions] = {}
    left_out: dict[str, str] = {}
    for name in wanted:
        if name == "slate_standard_ips":
            made[name] = slates.standard_ips(ratio, reward)
        elif name == "slate_independent_ips":
            made[name] = slates.independent_ips(ratio, reward)
        elif name == "slate_reward_interaction_ips":
            made[name] = slates.reward_interaction_ips(ratio, reward)
        elif name == "slate_pseudo_inverse":
            weight, why = _pseudo_inverse(config, judged, matrix, len(rows) == shape[0] * shape[1])
            if why is None:
                made[name] = slates.pseudo_inverse(ratio, reward, weight)
            else:
                left_out[name] = why
        elif judged.policy is None:
            left_out[name] = "needs the policy's whole distribution, not one probability a row"
        else:
            to_go = np.cumsum(reward[:, ::-1], axis=1)[:, ::-1]
            model = cross_fitted(rows, judged.policy, config.folds, np.ascontiguousarray(to_go[at]))
            made[name] = slates.cascade_doubly_robust(
                ratio, reward, matrix(model.logged, 0.0), matrix(model.of_policy, 0.0)
            )
    out = [{"estimator": name, **describe(parts, group, n, config, seed)} for name, parts in made.items()]
    return out, value, left_out


def _places(judged: Judged) -> tuple[tuple[np.ndarray, np.ndarray], tuple[int, int]]:
    """((slate, place) of each row, (slates, places)): places count what a slate shows, in the order of positions."""
    rows = judged.rows
    order = np.lexsort((rows.position, rows.slate))
    slate, position = rows.slate[order], rows.position[order]
    new = np.append(True, slate[1:] != slate[:-1])
    if (~new[1:] & (position[1:] == position[:-1])).any():
        raise DataError("two rows of one request stand at the same position",
                        "name the columns in log.request and log.position, or set log.request: null")
    start = np.flatnonzero(new)
    rank = np.arange(len(slate)) - np.repeat(start, np.diff(np.append(start, len(slate))))
    place = np.empty(len(slate), np.int64)
    place[order] = rank
    return (rows.slate, place), (int(rows.slate.max()) + 1, int(rank.max()) + 1)


def _pseudo_inverse(
    config: OffPolicyConfig, judged: Judged, matrix: Callable, whole: bool
) -> tuple[np.ndarray | None, str | None]:
    """(float64[S] weights, None for those of policies that draw place by place; why there are none)."""
    if config.slate_logging == "by_place":
        return None, None
    policy = judged.policy
    if policy is None:
        return None, "needs the policy's whole distribution, not one probability a row"
    if not whole:
        return None, "slates without repeats must be of one length"
    cell, items = matrix(judged.rows.cell, 0), matrix(judged.rows.action, 0)
    places, m = items.shape[1], policy.n_actions
    if policy.n_cells * places * m > SOLVED_CELLS or places * m > 2000:
        return None, f"{policy.n_cells:,} cells of {m:,} items are too many for slates without repeats"
    chance = np.zeros((policy.n_cells, m))
    chance[policy.cell, policy.action] = policy.probability
    gamma = slates.uniform_without_repeats(places, m)
    return slates.pseudo_inverse_weights(gamma, chance, policy.position, cell, items), None
