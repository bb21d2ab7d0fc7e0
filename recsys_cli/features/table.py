"""The training table: one row an impression, features as they stood then, and what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def __len__(self) -> int:
        return len(self.values)
