"""What estimates are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable


@dataclass(frozen=True)
class Judged:
    """What an estimate is made from."""

    rows: LoggedRows
    policy: PolicyTable | None
    """None where only the probability of what was shown is known"""
    ratio: np.ndarray
    """float64[n] the judged policy's probability over the logging policy's"""
