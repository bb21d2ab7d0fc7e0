"""The rows that features are asked for: who, what and when, with what is known of the request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys_cli.data.log import Log


@dataclass(frozen=True)
class Rows:
    """n times (user, item, moment), with what is known of the request; -1 for an unknown user, item or code."""

    user: np.ndarray
    """int32[n]"""
    item: np.ndarray
    """int32[n]"""
    time: np.ndarray
    """int64[n] µs"""
    surface: np.ndarray
    """int16[n]"""
    device: np.ndarray
    """int16[n]"""
    context: dict[str, np.ndarray] = field(default_factory=dict)
    """further columns of impressions → [n], as `Log.context` holds them; unknown where they are not here"""

    def __len__(self) -> int:
        return len(self.time)

    @classmethod
    def of(cls, log: Log) -> Rows:
        """One a row of the log."""
        none = np.full(len(log), -1, np.int16)
        surface, device = (none if column is None else column for column in (log.surface, log.device))
        return cls(log.user, log.item, log.time, surface, device, log.context)

    @classmethod
    def at(cls, now: int, n: int, context: dict[str, np.ndarray] | None = None, **given: np.ndarray) -> Rows:
        """n rows of one moment; what is not given (user, item, surface, device) is unknown."""
        none = np.full(n, -1, np.int32)
        user, item, surface, device = (given.get(k, none) for k in ("user", "item", "surface", "device"))
        return cls(user, item, np.full(n, now, np.int64), surface, device, context or {})

    def part(self, rows: slice) -> Rows:
        """Some of them."""
        return Rows(
            self.user[rows], self.item[rows], self.time[rows], self.surface[rows], self.device[rows],
            {name: column[rows] for name, column in self.context.items()},
        )


def as_slice(at: list[int]) -> slice | list[int]:
    """A slice where places follow one another: copying a slice is much faster than a list of places."""
    return slice(at[0], at[-1] + 1) if at and at == list(range(at[0], at[-1] + 1)) else at


def known(values: np.ndarray, at: np.ndarray, missing: float) -> np.ndarray:
    """`values[at]`, with `missing` where `at` is -1."""
    if not len(values):
        return np.full(at.shape, missing, values.dtype)
    return np.where(at >= 0, values[np.maximum(at, 0)], missing).astype(values.dtype)
