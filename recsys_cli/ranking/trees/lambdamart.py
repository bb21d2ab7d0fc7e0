"""LambdaMART: one ensemble that orders what a user was shown at one moment by what it was worth.

Only rows of one moment (a request) are compared. Over a longer time the features of a later row know how an earlier
one ended: within a user's day the row that was clicked has the lower click rate of the user, because the click raised
it for the rows behind, and an order learned from that is turned round for everybody else.
"""

from __future__ import annotations

import numpy as np

from recsys_cli.data.schema import NEGATIVE_ACTIONS
from recsys_cli.errors import DataError
from recsys_cli.features.table import FeatureTable
from recsys_cli.ranking.logistic import fit_logistic
from recsys_cli.ranking.training_inputs import TrainingInputs
from recsys_cli.ranking.trees.boosting import Binned, Rows, boost, member_seeds, tree_settings
from recsys_cli.ranking.trees.config import LambdaMartConfig
from recsys_cli.ranking.trees.ranker import SCORE, TreeRanker, fit_action, fit_models

LEVELS = 31
"""Grades of worth that LightGBM tells apart."""
GROUP_ROWS = 10_000
"""Rows of a group at most, by LightGBM's own limit."""
LINE_ROWS = 200_000
"""Rows on which the logistic of each action is fitted at most."""


def fit_lambdamart(config: LambdaMartConfig, inputs: TrainingInputs) -> TreeRanker:
    """One ensemble for all actions, a logistic of its score for each, and trees of dwell time beside.

    Raises DataError where no group has anything to order.
    """

    def fit(entry: str, before: list[str]) -> tuple[list[str], int]:
        if entry == SCORE:
            return fit_order(config, inputs, before)
        return fit_action(config, inputs, entry, before, Binned())

    ranker = fit_models(config, inputs, (SCORE,), fit, dict.fromkeys(inputs.tasks, (1.0, 0.0)))
    last = inputs.train.take(slice(max(len(inputs.train) - LINE_ROWS, 0), None))
    ranker.lines = score_lines(ranker.logits(last.values)[0][:, 0].astype(float), last, inputs.tasks)
    return ranker


def fit_order(config: LambdaMartConfig, inputs: TrainingInputs, before: list[str]) -> tuple[list[str], int]:
    """LightGBM's text of each member, and the rounds kept."""
    train, valid, tasks = inputs.train, inputs.valid, inputs.tasks
    worth = worth_of(config, train, tasks)
    grades = np.unique(worth)
    if len(grades) > LEVELS:  # the commonest worth, nothing, stays a grade of its own
        grades = np.unique(np.r_[grades[0], np.quantile(worth[worth > 0], np.linspace(0, 1, LEVELS - 1))])
    rows = _grouped(train, worth, grades)
    if rows is None:
        raise DataError(
            "no two rows of one user and moment differ in what they were worth: nothing can be ordered",
            "this data does not say what was shown together; take another kind of ranker",
        )
    held = _grouped(valid, worth_of(config, valid, tasks), grades) if len(valid) else None
    settings = tree_settings(config, inputs.threads) | {
        "objective": "lambdarank", "metric": "ndcg", "eval_at": [config.truncation],
        "lambdarank_truncation_level": config.truncation, "label_gain": grades.tolist(),
    }
    return boost(config, settings, rows, held, member_seeds(config, inputs.seed), before)


def worth_of(config: LambdaMartConfig, table: FeatureTable, tasks: tuple[str, ...]) -> np.ndarray:
    """float64[n]: what each row's actions were worth together, at least 0."""
    out = np.zeros(len(table))
    for task in tasks:
        gain = config.gains.get(task, 0.0)
        out += (-gain if task in NEGATIVE_ACTIONS else gain) * table.labels[task]
    return np.maximum(out, 0)


def _grouped(table: FeatureTable, worth: np.ndarray, grades: np.ndarray) -> Rows | None:
    """Rows of groups with something to order, group by group; None where there is no such group."""
    order, group = _groups(table)
    starts = np.searchsorted(group, np.arange(group.max(initial=-1) + 1))
    place = np.arange(len(order)) - starts[group]
    low, high = np.full(len(starts), np.inf), np.full(len(starts), -np.inf)
    np.minimum.at(low, group, worth[order])
    np.maximum.at(high, group, worth[order])
    keep = (high > low)[group] & (place < GROUP_ROWS)
    if not keep.any():
        return None
    rows = order[keep]
    sizes = np.unique(group[keep], return_counts=True)[1]
    grade = np.clip(np.searchsorted(grades, worth[rows], "right") - 1, 0, None).astype(np.float32)
    return table.values[rows], grade, None if table.weight is None else table.weight[rows], sizes


def _groups(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] rows in the order of their groups, and the number of each one's group, ascending."""
    order = np.lexsort((table.time, table.user))
    user, moment = table.user[order], table.time[order]
    new = np.r_[False, (user[1:] != user[:-1]) | (moment[1:] != moment[:-1])][: len(order)]
    return order, np.cumsum(new)


def score_lines(score: np.ndarray, table: FeatureTable, tasks: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Action → slope and shift of the logistic of the action on the score float64[n] of the rows.

    The slope is that within groups: scores were learned to compare rows of a group, and what sets users apart could
    turn it round. The shift makes the mean right over all rows.
    """
    order, group = _groups(table)
    mean = np.bincount(group, score[order]) / np.bincount(group)
    within, one = score.copy(), np.ones((len(score), 1))
    within[order] -= mean[group]
    lines = {}
    for task in tasks:
        labels = table.labels[task]
        slope = float(fit_logistic(np.column_stack([within, one]), labels, penalty=np.array([1e-3, 1e-6]))[0])
        shift = float(fit_logistic(one, labels, penalty=np.array([1e-6]), offset=slope * score)[0])
        lines[task] = (slope, shift)
    return lines
