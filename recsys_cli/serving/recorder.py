"""What the server writes to the log: events that wait for the disk, and what was served, which does not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from recsys_cli.errors import RecsysError
from recsys_cli.serving.events import EDGES, Event, EventRules, Receipt, Rejected, StorageFull
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.metrics import Metrics
from recsys_cli.serving.user_limit import UserLimit
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from recsys_cli.serving.online_state import OnlineState
    from recsys_cli.slate_engine import SlateEngine

PAUSE = 0.05
"""Seconds that served records are gathered before they are written together."""
MOST_WAITING = 50_000
"""Served records that may wait for the disk; what comes beyond is not logged, and told."""
SAVE_SECONDS, SAVE_EVENTS = 300.0, 50_000
"""The state is kept so often, if so many events have come: they need not be read again after a crash."""


def rules_of(engine: SlateEngine) -> EventRules:
    """What is accepted as an event of a run."""
    bundle = engine.bundle
    return EventRules(
        actions=(*bundle.spec.positive, *bundle.spec.negative), integer_users=not bundle.user_ids.is_text,
        integer_items=not bundle.item_ids.is_text,
    )


def _strong(positive: Collection[str]) -> frozenset[str]:
    """Types that ask for other candidates."""
    return frozenset((*positive, *EDGES, *EDGES.values()))


class Recorder:
    """Writes events, and has the state take them in before whoever sent them is answered."""

    def __init__(
        self, online: OnlineState, metrics: Metrics, positive: Collection[str], trace: TraceLog = SILENT,
        user_events: int | None = None,
    ):
        """positive: actions that ask for more of the kind. user_events: that a person may bring a day."""
        self._limit = UserLimit(user_events)
        self.online, self.log, self.metrics, self.trace = online, online.log, metrics, trace
        self._strong = _strong(positive)
        self._waiting: list[Event] = []
        self._task: asyncio.Task | None = None
        self._saved = online.offset
        self.full = False
        """whether the disk took nothing the last time"""
        self.changed: Callable[[dict[str, bool]], None] = lambda changed: None
        """is told who did something, and whether other candidates are asked for"""
        self.items_changed: Callable[[], None] = lambda: None
        """is told that items were described or taken out"""

    def follow(self, engine: SlateEngine) -> None:
        """Take events as another run has them: its actions, its ids, its positive actions."""
        self.online.follow(engine)
        self.log.rules = rules_of(engine)
        self._strong = _strong(engine.bundle.spec.positive)

    async def append(self, events: list[Event]) -> Receipt:
        """Write events; returns once they are on the disk and count in the next answer. What a person brings beyond
        their limit is rejected, where all of it is by Refused. Raises StorageFull."""
        sifted = self._limit.sift(events)
        if not sifted.over:
            return await self._append(events)
        for at in sifted.named:
            await self._name(events[at])
        self.metrics.events.labels("rejected").inc(len(sifted.over))
        over = [Rejected(at, self._limit.reason(events[at])) for at in sifted.over]
        if not sifted.taken:
            raise Refused(429, "too_many_events", over[0].reason, None, {"retry-after": "3600"})
        receipt = await self._append([events[at] for at in sifted.taken])
        refused = [Rejected(sifted.taken[r.index], r.reason) for r in receipt.rejected]
        receipt.rejected = sorted([*refused, *over], key=lambda r: r.index)
        return receipt

    async def _name(self, event: Event) -> None:
        """Tell of a person who brings too many events: among the alerts, and among the refused events."""
        reason = self._limit.reason(event)
        self.metrics.alerts.labels("user_events").inc()
        self.trace.event("user_events", user=str(event.user_id)[:80], reason=reason)
        with contextlib.suppress(RecsysError):  # a full disk is told of by whoever writes events
            await asyncio.to_thread(self.log.append, [], unreadable=[(reason, msgspec.json.encode(event))])

    async def _append(self, events: list[Event]) -> Receipt:
        served = asyncio.ensure_future(self._write_waiting()) if self._waiting else None
        try:
            # an answer stands before what people do with it, so that it is known by then: both are tasks, which begin
            # in this order; awaited as it is, the second would begin at once
            mine = self.log.append_async(events)
            receipt = await (mine if served is None else asyncio.ensure_future(mine))
        except StorageFull:
            self._alert()
            raise
        finally:
            if served is not None:
                await served
        self.full = False
        counts = self.metrics.events
        for outcome, n in (
            ("accepted", receipt.accepted), ("duplicate", receipt.duplicates), ("rejected", len(receipt.rejected)),
        ):
            if n:
                counts.labels(outcome).inc(n)
        if receipt.accepted:
            self._take_in(receipt.offset)
            self._tell(events)
        return receipt

    def _take_in(self, offset: int) -> None:
        """Whoever waits together for the disk is taken in together."""
        if offset > self.online.offset:
            self.online.catch_up()

    def _tell(self, events: list[Event]) -> None:
        changed: dict[str, bool] = {}
        for event in events:
            if event.user_id is not None:
                user = str(event.user_id)
                changed[user] = changed.get(user, False) or event.type in self._strong
        self.changed(changed)
        if any(event.type in ("item", "delete_item") for event in events):
            self.items_changed()

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
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        events, self._waiting = self._waiting, []
        try:
            receipt = await self.log.append_async(events)
        except StorageFull:
            self._alert()
            self.metrics.alerts.labels("served_not_logged").inc(len(events))
            return
        self.full = False
        self._take_in(receipt.offset)
        if receipt.rejected:
            self.metrics.alerts.labels("served_not_logged").inc(len(receipt.rejected))

    def drop_waiting(self, user_id: str) -> None:
        """Do not write what was served to somebody and waits for the disk."""
        self._waiting = [event for event in self._waiting if event.user_id != user_id]

    async def erase(self, user_id: str) -> int:
        """Erase a person from the log and the state; how many events there were."""
        return await asyncio.to_thread(self.online.erase, user_id)

    async def save_often(self) -> None:
        """Keep the state for the next start whenever much has come, and seal what is settled as segments; runs until it
        is cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            if self.online.offset - self._saved >= SAVE_EVENTS:
                self._saved = self.online.offset
                await self._keep()

    async def _keep(self) -> None:
        for step in (self.online.save, self.online.seal):
            try:
                await asyncio.to_thread(step)
            except (OSError, RecsysError) as error:  # the log holds everything: it is tried again
                self.metrics.alerts.labels("state_not_kept").inc()
                self.trace.event("state_not_kept", error=str(error))

    def _alert(self) -> None:
        if not self.full:
            self.trace.event("disk_full", folder=str(self.log.folder))
        self.full = True
        self.metrics.alerts.labels("disk_full").inc()

    async def close(self) -> None:
        """Write what waits, keep the state and close the log."""
        if self._task is not None:
            await self._task
        self.online.catch_up()
        await self._keep()
        await asyncio.to_thread(self.log.close)
