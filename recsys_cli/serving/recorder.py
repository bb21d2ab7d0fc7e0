"""What the server writes to the log: events that wait for the disk, and what was served, which does not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, Receipt, StorageFull
from recsys_cli.serving.metrics import Metrics
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from recsys_cli.serving.activity import Activity

PAUSE = 0.05
"""Seconds that served records are gathered before they are written together."""
MOST_WAITING = 50_000
"""Served records that may wait for the disk; what comes beyond is not logged, and told."""
READ_AT_ONCE = 5_000
"""Events read back together."""


class Recorder:
    """Writes events and folds them into `activity` as the log gives them back."""

    def __init__(self, log: EventLog, activity: Activity, metrics: Metrics, trace: TraceLog = SILENT):
        self.log, self.activity, self.metrics, self.trace = log, activity, metrics, trace
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._waiting: list[Event] = []
        self._catching = asyncio.Lock()
        self._task: asyncio.Task | None = None
        self.full = False
        """whether the disk took nothing the last time"""
        self.changed: Callable[[dict[str, bool]], None] = lambda changed: None
        """is told who changed"""

    async def append(self, events: list[Event]) -> Receipt:
        """Write events; returns once they are on the disk and count in the next answer. Raises StorageFull."""
        try:
            receipt = await self.log.append_async(events)
        except StorageFull:
            self._alert()
            raise
        self.full = False
        counts = self.metrics.events
        for outcome, n in (
            ("accepted", receipt.accepted), ("duplicate", receipt.duplicates), ("rejected", len(receipt.rejected)),
        ):
            if n:
                counts.labels(outcome).inc(n)
        if receipt.accepted:
            await self.catch_up(receipt.offset)
        return receipt

    async def catch_up(self, offset: int | None = None) -> None:
        """Fold what the log holds up to an offset, by default all of it."""
        offset = self.log.last_offset if offset is None else offset
        loop = asyncio.get_running_loop()
        while self.activity.offset < offset:
            async with self._catching:
                if self.activity.offset >= offset:
                    return
                last = self.log.last_offset
                after = self.activity.offset
                entries = await loop.run_in_executor(self._reader, self.log.read, after, READ_AT_ONCE)
                changed = self.activity.take(entries)
                if len(entries) < READ_AT_ONCE:  # what is erased is not given back
                    self.activity.offset = max(self.activity.offset, last)
                self.changed(changed)

    def later(self, event: Event) -> None:
        """Write what was served, soon; the answer does not wait for it."""
        if len(self._waiting) >= MOST_WAITING:
            self.metrics.alerts.labels("served_not_logged").inc()
            return
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(PAUSE)
        while self._waiting:
            events, self._waiting = self._waiting, []
            try:
                receipt = await self.log.append_async(events)
            except StorageFull:
                self._alert()
                self.metrics.alerts.labels("served_not_logged").inc(len(events))
                return
            self.full = False
            if receipt.rejected:
                self.metrics.alerts.labels("served_not_logged").inc(len(receipt.rejected))

    def drop_waiting(self, user_id: str) -> None:
        """Do not write what was served to somebody and waits for the disk."""
        self._waiting = [event for event in self._waiting if event.user_id != user_id]

    async def erase(self, user_id: str) -> int:
        """Erase a person from the log; how many events there were."""
        erased = await asyncio.to_thread(self.log.erase, user_id)
        self.activity.forget(user_id)
        return erased

    def _alert(self) -> None:
        if not self.full:
            self.trace.event("disk_full", folder=str(self.log.folder))
        self.full = True
        self.metrics.alerts.labels("disk_full").inc()

    async def close(self) -> None:
        """Write what waits and close the log."""
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self.log.close)
        self._reader.shutdown()
