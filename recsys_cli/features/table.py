"""The training table: one row an impression, features as they stood then, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RELEVANCE = "relevance"
"""Label that tells interactions from candidates which were never shown and from all else."""


@dataclass(frozen=True)
class FeatureTable:
    """n rows of F features with their labels.

    Column j of `values` is feature `names[j]`. Categorical features hold non-negative codes (0 is unknown)
    as floats; `categories` tells how many codes each has.
    """

    values: np.ndarray
    """float32[n, F]; NaN never (missing numbers are 0 with a companion column where it matters)"""
    names: tuple[str, ...]
    categories: dict[str, int]
    """categorical feature → number of codes"""
    labels: dict[str, np.ndarray]
    """action → bool[n]"""
    dwell: np.ndarray | None
    """float32[n] seconds, NaN unknown"""
    user: np.ndarray
    """int32[n]"""
    item: np.ndarray
    """int32[n]"""
    time: np.ndarray
    """int64[n] µs"""
    weight: np.ndarray | None = None
    """float32[n] sample weights, None for all one"""
    candidate: np.ndarray | None = None
    """bool[n], True for candidates that were never shown: nothing is known of their actions; None for no such row"""

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows) -> FeatureTable:
        """The given rows (a slice, index array or mask)."""

        def part(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return replace(
            self,
            values=self.values[rows],
            labels={name: label[rows] for name, label in self.labels.items()},
            **{n: part(getattr(self, n)) for n in ("dwell", "user", "item", "time", "weight", "candidate")},
        )

    def logged(self) -> FeatureTable:
        """The rows that were shown, with the labels of their actions alone."""
        return self if self.candidate is None else self.take(~self.candidate).all_known()

    def all_known(self) -> FeatureTable:
        """The same rows taken as if all had been shown: a candidate counts as seen without any action."""
        labels = {name: label for name, label in self.labels.items() if name != RELEVANCE}
        return replace(self, labels=labels, candidate=None)

    def known(self, task: str) -> np.ndarray | slice:
        """Rows whose label of the task is known: all for RELEVANCE, those that were shown for an action."""
        return slice(None) if self.candidate is None or task == RELEVANCE else ~self.candidate


def with_relevance(logged: FeatureTable, drawn: FeatureTable, positive_actions: tuple[str, ...]) -> FeatureTable:
    """Impressions and candidates that were never shown, ordered by time, with the label RELEVANCE.

    It is true of impressions with any of the positive actions. Both tables have the same columns.
    """
    relevant = np.zeros(len(logged), bool)
    for action in positive_actions:
        relevant |= logged.labels[action]
    labels = {name: np.concatenate([label, drawn.labels[name]]) for name, label in logged.labels.items()}
    labels[RELEVANCE] = np.concatenate([relevant, np.zeros(len(drawn), bool)])
    both = replace(
        logged,
        values=np.concatenate([logged.values, drawn.values]),
        labels=labels,
        dwell=None if logged.dwell is None else np.concatenate([logged.dwell, drawn.dwell]),
        user=np.concatenate([logged.user, drawn.user]),
        item=np.concatenate([logged.item, drawn.item]),
        time=np.concatenate([logged.time, drawn.time]),
        candidate=np.repeat([False, True], [len(logged), len(drawn)]),
    )
    return both.take(np.lexsort((both.user, both.time)))
