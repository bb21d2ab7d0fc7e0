"""When cyclic garbage is collected: a full collection looks at every object there is, and all answers wait for it.

What a server has opened by the time it is ready stays, so that it is taken out of all later collections. Young objects
are collected as before, in portions of about a millisecond; full collections come only when they are asked for.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG, MIDDLE, FULL = 10_000, 5, 1_000_000_000
"""Objects more than before, and collections of the generation below, that bring about a collection; a full one never
comes by itself."""
EVERY_SECONDS = 60.0
"""Between full collections."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """As long as this is entered, what is there now is looked at no more, and full collections come by
    `collect_often`."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def collect_often() -> None:
    """Look at what has come since every now and then: states and runs that were left behind hold each other. Runs until
    it is cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        gc.collect()
