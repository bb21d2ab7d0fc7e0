"""The training table: one row an impression, features as they stood then, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys_cli.data.behaviour import Behaviour, Entities


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
    position: np.ndarray | None = None
    """int16[n] place in the slate, 0 the top, -1 unknown"""
    request: np.ndarray | None = None
    """int64[n], equal for the rows of one request"""
    propensity: np.ndarray | None = None
    """float32[n], probability with which the logging policy showed the item, NaN unknown"""
    behaviour: Behaviour | None = None
    """what every user did, for networks that read histories and ids"""

    @property
    def entities(self) -> Entities | None:
        """Who and what the rows are about; None where the table does not tell."""
        return None if self.behaviour is None else Entities(self.behaviour, self.user, self.item, self.time)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: slice | np.ndarray) -> FeatureTable:
        """The given rows (a slice, index array or mask)."""

        def part(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[rows]

        return replace(
            self,
            values=self.values[rows],
            labels={name: label[rows] for name, label in self.labels.items()},
            user=self.user[rows],
            item=self.item[rows],
            time=self.time[rows],
            dwell=part(self.dwell),
            weight=part(self.weight),
            position=part(self.position),
            request=part(self.request),
            propensity=part(self.propensity),
        )
