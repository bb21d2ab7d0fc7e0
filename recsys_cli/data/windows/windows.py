"""The windows in time, and a log that is cut by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys_cli.data.windows.config import Kind, WindowsConfig

if TYPE_CHECKING:
    from recsys_cli.data.log import Log


class Windows(BaseModel):
    """The three windows in µs: [start, history_end), [history_end, test_start), [test_start, end)."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    start: int
    history_end: int
    """Sources for the ranker's training are fitted on what is before."""
    validation_start: int
    """The ranker trains up to here and is validated on the rest of its window."""
    test_start: int
    """Nothing that is measured was fitted on anything from here on."""
    end: int
    kind: Kind = "time"
    made_by: WindowsConfig | None = None
    """The settings that make the split again, where the log is put in another order or cut; None where it is not."""
    seed: int = 0
    final: bool = False
    cut: int = 0
    """rolling: which of the cuts, 0 the first."""
    places: bool = False
    """Whether moments are only an order, so that reports speak of places."""


@dataclass(frozen=True)
class Split:
    """A log and the windows that cut it in time.

    For every kind but time (and rolling, and given parts that follow one another in time) the rows have an order of
    their own: all history rows, then the ranker's, then validation, then test, the order within a user kept.
    """

    kind: Kind
    log: Log
    windows: Windows
    held_out: np.ndarray | None = None
    """bool[n_users]: people whose rows no source may be fitted on though the state knows their first ones (users)"""
    messages: tuple[str, ...] = ()
    """which split and why in one line, then what is worth knowing of it"""
    order: np.ndarray | None = None
    """int64[n] the row of the dataset's log at each place, None where the log is its own or its first rows"""

    @property
    def places(self) -> bool:
        """Whether moments are only an order, so that reports speak of places."""
        return self.windows.places

    def fitting(self, log: Log) -> Log:
        """The rows of a part of `log` that a source may be fitted on."""
        return log if self.held_out is None else log.take(~self.held_out[log.user])
