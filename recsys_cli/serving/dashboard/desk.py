"""What the pages stand on: figures that are gathered beside the requests, and work that takes too long for a page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any

from recsys_cli.serving.dashboard.access import Access
from recsys_cli.serving.dashboard.figures import EVERY, Figures
from recsys_cli.serving.dashboard.tally import EVENTS, Tally

if TYPE_CHECKING:
    from recsys_cli.serving.service import Service
    from recsys_cli.serving.site import Site

READ_AT_ONCE = 2_000
"""Events that are counted in one go."""
WATCHED = 900.0
"""Seconds after the last page for which the log is still counted."""
PATIENCE = 0.15
"""Seconds that a page waits for work before it is shown without."""
KEPT = 64
"""Results of work that are kept."""


class Desk:
    """The gathered figures of a site. `begin` and `end` on the event loop."""

    def __init__(self, site: Site):
        self.site, self.access = site, Access(site.gate)
        self.figures = Figures(site.metrics)
        self.tally: Tally | None = None
        """None until the first page is asked for: nobody pays for what nobody looks at"""
        self.behind = 0
        """events of the log that are not counted yet"""
        self._seen = 0.0
        self._tasks: set[asyncio.Task] = set()
        self._work: dict[Hashable, tuple[float, asyncio.Task]] = {}
        self._reading = asyncio.Lock()

    @property
    def service(self) -> Service:
        """What is served now."""
        return self.site.service

    def begin(self) -> None:
        """Start to look at the counters."""
        self._start(self._look_often())

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Stop all work."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            self.figures.look()
            if self.tally is not None and time.monotonic() - self._seen < WATCHED:
                await self._read()

    async def visited(self) -> None:
        """Somebody looks: count what the log holds by now, as far as a page can wait for it."""
        self._seen = time.monotonic()
        if self.tally is None:
            last = self.service.recorder.log.last_offset
            self.tally = Tally(self.service.live.engine.bundle.spec.positive, max(0, last - EVENTS))
        task = self._start(self._read())
        await asyncio.wait((task,), timeout=PATIENCE)

    async def _read(self) -> None:
        """Count what is new in the log, off the event loop."""
        if self._reading.locked():
            return
        async with self._reading:
            log, tally = self.service.recorder.log, self.tally
            while True:
                self.behind = max(0, log.last_offset - tally.offset)
                entries = await asyncio.to_thread(log.read, tally.offset, READ_AT_ONCE)
                if not entries:
                    self.behind = 0
                    return
                await asyncio.to_thread(tally.take, entries)

    async def worked_out(self, key: Hashable, work: Callable[[], Any], fresh: float = 30.0) -> Any | None:
        """The result of work off the event loop, at most `fresh` seconds old; None while it is not there yet.

        Raises what the work raised.
        """
        moment, task = self._work.get(key, (0.0, None))
        if task is None or (task.done() and time.monotonic() - moment > fresh):
            task = self._start(asyncio.to_thread(work))
            self._work[key] = time.monotonic(), task
            while len(self._work) > KEPT:
                del self._work[next(iter(self._work))]
        await asyncio.wait((task,), timeout=PATIENCE)
        return task.result() if task.done() else None
