"""What each stage of a pipeline leaves of the candidates of users, with what they did since the run was trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.since import Since, with_since

if TYPE_CHECKING:
    from recsys_cli.pipeline.runner import StageRecord
    from recsys_cli.slate_engine import SlateEngine


def funnel_of(engine: SlateEngine, user: int, since: Since | None) -> list[StageRecord]:
    """Stages of one user in their order. user: position, -1 for a stranger; since: what they did since."""
    state, snapshot, users = with_since(engine.state, engine.snapshot, np.array([user], np.int32), [since])
    here = engine if state is engine.state else replace(engine, state=state, snapshot=snapshot)
    return here.slates(users).funnel


def mean_funnel(engine: SlateEngine, users: list[int]) -> list[StageRecord]:
    """Stages of some users together, means over them. users: positions."""
    return engine.slates(np.array(users, np.int32)).funnel
