"""Slots for the long tail of the catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.data.state import State
from recsys_cli.pipeline.allocation import Guaranteed
from recsys_cli.pipeline.stage import StageConfig


class LongTailConfig(StageConfig):
    """At least a share of a slate, rounded down, goes to the long tail: the items that are not among the most popular
    ones which have most of the interactions."""

    kind: Literal["long_tail"] = "long_tail"
    share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the slate."""
    head: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of all interactions that the head has together."""


class LongTail(Guaranteed):
    """Lifts the best of the tail where a slate would have fewer."""

    config_type = LongTailConfig
    config: LongTailConfig
    favoured = "the long tail"

    def __init__(self, config: LongTailConfig):
        super().__init__(config, config.share, lambda state: tail(state, config.head))


def tail(state: State, head: float) -> np.ndarray:
    """bool[n_items]: all but the fewest items that have `head` of the interactions together."""
    order = np.argsort(-state.interactions, kind="stable")
    before = np.cumsum(state.interactions[order], dtype=np.float64) - state.interactions[order]
    out = np.empty(len(order), bool)
    out[order] = before >= head * max(float(state.interactions.sum()), 1e-12)
    return out
