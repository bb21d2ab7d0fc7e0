"""What a server stands on: it opens what it serves, warms up, follows the run in use, and ends in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.engine import EVENTS
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.serving.added import Added
from recsys_cli.serving.arms import follow
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import LogInUse
from recsys_cli.serving.feeding import Feeds
from recsys_cli.serving.garbage import collect_often, rare_collections
from recsys_cli.serving.keys import Gate
from recsys_cli.serving.live import Live
from recsys_cli.serving.metrics import Metrics
from recsys_cli.serving.online_state import OnlineState
from recsys_cli.serving.recorder import Recorder, rules_of
from recsys_cli.serving.refresher import RefreshError
from recsys_cli.serving.service import Service
from recsys_cli.serving.structs import Switched
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from recsys_cli.settings import Settings

FOLLOW_SECONDS = 1.0
"""How often the pointer to the run in use is read."""


class Site:
    """What the application stands on: service, gate, metrics. Begins and ends on the event loop."""

    def __init__(
        self, settings: Settings, run: str | None = None, trace: TraceLog = SILENT, added: Added | None = None
    ):
        """run: the one to serve; None follows the one in use. added: what it does beside its own."""
        self.added = added or Added()
        self.settings, self.config, self.trace = settings, settings.serving, trace
        self.gate, self.metrics = Gate.of(settings.serving), Metrics()
        self.service: Service | None = None
        self._follow, self._run = run is None, run
        self._live = Live.load(settings, run, trace)
        self._tasks: set[asyncio.Task] = set()
        self._garbage = ExitStack()
        self.failure: Exception | None = None
        """why it could not begin"""
        self.on_ready: Callable[[float], None] = lambda seconds: None
        """is told how long it took until requests are served"""
        self.listening: asyncio.Event | None = None
        """set once the port takes connections; None where nothing listens"""

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self.service is not None and self.service.ready

    @property
    def run(self) -> str | None:
        """Id of the run that is served, or will be."""
        return self._live.run if self.service is None else self.service.live.run

    def open_log(self) -> None:
        """Open the log of events; raises ArtifactError where another server has it."""
        rules = rules_of(self._live.engine)
        folder = Path(self.settings.paths.artifacts) / EVENTS
        try:
            self.log = EventLog.open(folder, rules)
        except LogInUse as error:
            raise ArtifactError(str(error.args[0]), "stop that server, or take another --artifacts-dir") from None

    async def begin(self) -> None:
        """Begin to serve: open the state and start to warm up. What it raises is kept as `failure`, for whoever called
        the event loop."""
        try:
            await self._begin()
        except Exception as error:
            self.failure = error
            raise

    async def _begin(self) -> None:
        started = time.perf_counter()
        engine = self._live.engine
        self._live.begin(self.metrics, self.log.folder)
        feeds = Feeds(self.config, self.log, self.metrics, self.trace)
        memories = await asyncio.to_thread(feeds.memories)
        online = await asyncio.to_thread(OnlineState.open, self.log.folder, engine, self.log, memories=memories)
        recorder = Recorder(
            online, self.metrics, engine.bundle.spec.positive, self.trace, self.config.user_events_per_day
        )
        self.service = Service(self.settings, self._live, recorder)
        self.service.switcher, self.service.feeds = self.switch, feeds
        self._start(self._warm_up(started))

    def _start(self, work) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm_up(self, started: float) -> None:
        service = self.service
        try:
            await service.grow(service.live)
            await asyncio.to_thread(service.experiments.look, service.live)
            left = max(self.config.warm_up_seconds - (time.perf_counter() - started), 0.0)
            await warm_live(service, service.live, self.config.warm_up, left)
        except Exception as error:  # what is not warm is slow the first time, and no reason not to serve
            self.metrics.alerts.labels("warm_up").inc()
            self.trace.event("warm_up_failed", error=f"{type(error).__name__}: {error}")
        self._garbage.enter_context(rare_collections())
        if self.listening is not None:
            await self.listening.wait()
        service.ready = True
        self.on_ready(time.perf_counter() - started)
        self._start(service.recorder.save_often())
        self._start(collect_often())
        self._start(service.learn())
        self._start(follow(
            service.experiments, lambda: service.live, self._experiment_told, self._open,
            lambda live: self._start(self._retire(live)),
        ))
        for work in (*service.feeds.work(service.take_in_everything), *(made(self) for made in self.added.work)):
            self._start(work)
        # what reads the attributes of new items takes a while to load
        self._start(asyncio.to_thread(import_module, "recsys_cli.data.encode"))
        if self._follow:
            self._start(self._follow_current())
        if self.config.refresh_seconds is not None:
            self._start(self._refresh_often())

    async def _refresh_often(self) -> None:
        """Bring the state forward to the clock; runs until it is cancelled."""
        while True:
            await asyncio.sleep(self.config.refresh_seconds)
            for live in self.service.lives:
                if live.stale or self.service.switching.locked():
                    continue
                try:
                    await self.service.refresh(live)
                except (RefreshError, OSError) as error:
                    if live in self.service.lives:  # a run that was switched away from is of no interest
                        self.metrics.alerts.labels("refresh").inc()
                        self.trace.event("refresh", error=str(error))

    def _experiment_told(self, trouble: str) -> None:
        self.metrics.alerts.labels("experiment").inc()
        self.trace.event("experiment", trouble=trouble)

    async def _follow_current(self) -> None:
        """Serve what `recsys train` and `recsys runs use` make the run in use."""
        store, seen = RunStore(self.settings.paths.artifacts), self.service.live.run
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            current = await asyncio.to_thread(store.current)
            if current is None or current == seen:
                continue
            seen = current
            if current == self.service.live.run:
                continue
            try:
                await self.switch(current)
            except RecsysError as error:
                self.metrics.alerts.labels("run").inc()
                self.trace.event("run_refused", run=current, error=str(error))

    async def switch(self, run: str) -> Switched:
        """Serve another run: it is opened and warmed beside the present one, which answers until then."""
        service = self.service
        async with service.switching:
            before = service.live
            live = await self._open(run, beside=False)
            await asyncio.to_thread(service.experiments.look, live)
            service.exchange(live)
            await asyncio.to_thread(service.recorder.follow, live.trained)
            self.trace.event("run", run=live.run, before=before.run)
            self._start(self._retire(before))
            return Switched(live.run, before.run)

    async def _open(self, run: str, *, beside: bool = True) -> Live:
        """Open a run and warm it; beside: whether another stays the one that is served."""
        live = await asyncio.to_thread(Live.load, self.settings, run, self.trace)
        live.begin(self.metrics, self.log.folder, beside=beside)
        await self.service.grow(live)
        await warm_live(self.service, live, self.config.warm_up)
        return live

    async def _retire(self, live: Live) -> None:
        await asyncio.sleep(self.config.pool.build_seconds + 1)  # what was asked of it is answered by then
        await live.close()

    async def end(self) -> None:
        """Write what waits, and end the processes."""
        for task in list(self._tasks):
            task.cancel()
        self.service.ready = False
        await asyncio.to_thread(self.service.feeds.close)
        await asyncio.gather(*(live.close() for live in self.service.lives))
        await self.service.recorder.close()
        self._garbage.close()
        self.trace.close()


async def warm_live(service: Service, live: Live, users: int, seconds: float | None = None) -> None:
    """Build the pools of those who were active last, within so many seconds (None: all of them), and choose from some
    of them once."""
    from recsys_cli.serving.answers import items_of
    from recsys_cli.serving.pooling import Choice

    ids = live.engine.bundle.user_ids.external(live.lately_active(users))
    keys = [(str(user), service.arms(live, str(user)).overrides, ()) for user in ids]
    await live.pools.warm({key: service._job(live, *key) for key in keys}, seconds)
    way = live.way()
    held = [found[0] for key in keys[:8] if (found := live.pools.cache.get(key)) is not None]
    for pool in (*held, way.everybody(())):
        batch, row = await way.chooser.choose(Choice(-1, pool, live.engine.pipeline.slate_size, explain=True))
        items_of(live.words, batch, row, explain=True)
