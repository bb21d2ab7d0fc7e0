"""What requests bring along beside their user: the moment, the surface, the device and further columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Context:
    """What a batch of B requests brings along."""

    now: int
    """µs"""
    surface: np.ndarray | None = None
    """int16[B] codes, -1 unknown; None stands for the commonest of the log"""
    device: np.ndarray | None = None
    """int16[B] codes, likewise"""
    more: dict[str, np.ndarray] = field(default_factory=dict)
    """further column of impressions → [B] codes or numbers, -1 or NaN unknown; those that are not here stand on the
    commonest code or the mean of the log"""

    def rows(self, rows: slice | np.ndarray) -> Context:
        """Of some of the requests (a slice, index array or mask)."""
        return Context(
            self.now,
            None if self.surface is None else self.surface[rows],
            None if self.device is None else self.device[rows],
            {name: values[rows] for name, values in self.more.items()},
        )
