"""Runs that variants of experiments are served by, beside the run in use: opened while they are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from recsys_cli.errors import RecsysError
from recsys_cli.serving.arms import Experiments
from recsys_cli.serving.live import Live

LOOK_SECONDS = 0.5
"""How often it is looked for what is wanted."""


def moved(items: np.ndarray, source: Live, target: Live) -> np.ndarray:
    """int32 positions of one run in those of another, without what that does not know."""
    if source is target or not len(items):
        return items
    return target.items(source.engine.bundle.item_ids.external(items))


async def follow_runs(
    experiments: Experiments, live: Callable[[], Live], opened: Callable[[str], Awaitable[Live]],
    retire: Callable[[Live], Awaitable[None]],
) -> None:
    """Open the runs that running experiments name, and let go of those that none names any more; runs until it is
    cancelled. live: the run that is served. opened: makes one ready. retire: ends one once what was asked of it is
    answered."""
    failed: dict[str, str] = {}
    while True:
        wanted = experiments.wanted - {live().run}
        for run in wanted - set(experiments.others) - set(failed):
            try:
                experiments.others[run] = await opened(run)
            except RecsysError as error:
                failed[run] = error.message
                experiments.unopened = dict(failed)
        for run in set(experiments.others) - wanted:
            gone = experiments.others.pop(run)
            await asyncio.to_thread(experiments.look, live())
            await retire(gone)
        if set(failed) - wanted:
            failed = {run: told for run, told in failed.items() if run in wanted}
            experiments.unopened = dict(failed)
        await asyncio.sleep(LOOK_SECONDS)
