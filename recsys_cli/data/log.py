"""The impression log in memory: one array a column, ordered by time."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np


@dataclass(frozen=True)
class Log:
    """n impressions ordered by time (ties by user, then as they came).

    Positions refer to the dataset's vocabularies. Optional columns are None where the dataset has none.
    """

    user: np.ndarray
    """int32[n]"""
    item: np.ndarray
    """int32[n]"""
    time: np.ndarray
    """int64[n], µs since 1970 UTC"""
    actions: dict[str, np.ndarray]
    """action → bool[n]"""
    positive_actions: tuple[str, ...]
    negative_actions: tuple[str, ...]
    dwell: np.ndarray | None = None
    """float32[n] seconds, NaN where unknown"""
    surface: np.ndarray | None = None
    """int16[n] codes into `Dataset.categories["surface"]`, -1 where unknown"""
    device: np.ndarray | None = None
    """int16[n] codes, likewise"""
    position: np.ndarray | None = None
    """int16[n], 0 is the top, -1 unknown"""
    request: np.ndarray | None = None
    """int64[n], equal for the rows of one request"""
    session: np.ndarray | None = None
    """int64[n], equal for the rows of one session"""
    propensity: np.ndarray | None = None
    """float32[n], probability with which the logging policy showed the item, NaN unknown"""
    part: np.ndarray | None = None
    """int8[n], the published part (place in `schema.PARTS`) that a row belongs to, -1 none"""
    context: dict[str, np.ndarray] = field(default_factory=dict)
    """further column that was known before the outcome → int32[n] codes (-1 unknown) or float32[n] (NaN unknown)"""
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def positive(self) -> np.ndarray:
        """bool[n]: an interaction, that is an impression with at least one positive action."""
        return self._any("positive", self.positive_actions)

    @property
    def negative(self) -> np.ndarray:
        """bool[n]: at least one negative action."""
        return self._any("negative", self.negative_actions)

    @property
    def action_bits(self) -> np.ndarray:
        """uint32[n]: bit a is set where the user took the a-th of `positive_actions`."""
        out = np.zeros(len(self), np.uint32)
        for a, name in enumerate(self.positive_actions):
            out |= self.actions[name].astype(np.uint32) << np.uint32(a)
        return out

    def _any(self, key: str, names: tuple[str, ...]) -> np.ndarray:
        if key not in self._cache:
            out = np.zeros(len(self), bool)
            for name in names:
                out |= self.actions[name]
            self._cache[key] = out
        return self._cache[key]

    def take(self, rows) -> Log:
        """The given rows (a slice, index array or mask)."""
        changed: dict = {"_cache": {}}
        for name in ("actions", "context"):
            changed[name] = {k: v[rows] for k, v in getattr(self, name).items()}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                changed[f.name] = value[rows]
        return replace(self, **changed)

    def at_times(self, rows: np.ndarray, times: np.ndarray) -> Log:
        """The given rows at other moments (int64 µs, ascending)."""
        return replace(self.take(rows), time=times)

    def window(self, start: int | None = None, end: int | None = None) -> Log:
        """Rows with start ≤ time < end (µs); views, nothing is copied."""
        low = 0 if start is None else int(np.searchsorted(self.time, start, "left"))
        high = len(self) if end is None else int(np.searchsorted(self.time, end, "left"))
        return self.take(slice(low, high))

    @classmethod
    def concat(cls, first: Log, second: Log) -> Log:
        """Two logs of one dataset as one, ordered by time again where they overlap.

        A column that only one of them has is dropped.
        """
        changed: dict = {
            "actions": {k: np.concatenate([v, second.actions[k]]) for k, v in first.actions.items()},
            "context": {
                k: np.concatenate([v, second.context[k]]) for k, v in first.context.items() if k in second.context
            },
            "_cache": {},
        }
        for f in fields(first):
            a, b = getattr(first, f.name), getattr(second, f.name)
            if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
                changed[f.name] = None if a is None or b is None else np.concatenate([a, b])
        joined = replace(first, **changed)
        if len(first) and len(second) and second.time[0] < first.time[-1]:
            joined = joined.take(np.lexsort((joined.user, joined.time)))
        return joined
