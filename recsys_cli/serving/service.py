"""The server's answers, apart from HTTP: recommendations, pages that follow, rankings and sessions."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.errors import RecsysError, UnknownIdError, UsageError
from recsys_cli.pipeline.since import Since
from recsys_cli.serving.answers import PENDING, items_of, request_id
from recsys_cli.serving.arms import NONE, Arms, Experiments, require_way
from recsys_cli.serving.chooser import propensities, shown
from recsys_cli.serving.events import EDGES, Event, Served
from recsys_cli.serving.keys import Refused
from recsys_cli.serving.lately import Answered, Lately
from recsys_cli.serving.mixing import Chosen, mixed
from recsys_cli.serving.newcomers import frozen
from recsys_cli.serving.people import Known, People
from recsys_cli.serving.pooling import Choice, Pool
from recsys_cli.serving.recall import Remembered, Requests
from recsys_cli.serving.structs import Ask, Id, SessionAsk, Slate, Switched
from recsys_cli.serving.topics import other_topics
from recsys_cli.serving.workers import Job
from recsys_cli.slate_engine import UNKNOWN_USER

if TYPE_CHECKING:
    from recsys_cli.serving.feeding import Feeds
    from recsys_cli.serving.live import Live
    from recsys_cli.serving.recorder import Recorder
    from recsys_cli.serving.way import Way
    from recsys_cli.settings import Settings

REFRESHED = 200_000
"""People whose pools are built again as they act; those who asked longest ago go first."""
CONTEXTS = 16
"""Contexts of one person whose pools are built again as they act."""
GATHERED = 0.2
"""Seconds for which new items are gathered before they are taken in together."""
LEARN_SECONDS = 0.5
"""How often exploration learns from what came in."""
LEARN_REST = 20
"""Times as long as that took, at least, until the next time: all answers wait for it."""
_numbers = itertools.count()


class Service:
    """What a server answers with. `live` may be exchanged between two requests."""

    def __init__(self, settings: Settings, live: Live, recorder: Recorder):
        config = settings.serving
        self.settings, self.config, self.live = settings, config, live
        self.recorder, self.people = recorder, People(recorder.online, shared=config.redis is not None)
        self.metrics = recorder.metrics
        self.requests = Requests(config.remembered_requests)
        self.lately = Lately()
        self.ready = False
        self.switching = asyncio.Lock()
        self.feeds: Feeds | None = None
        """what events come from and go to beside HTTP"""
        self.switcher: Callable[[str], Awaitable[Switched]] | None = None
        """opens, warms and exchanges a run"""
        self._before: list[str] = []
        self.experiments = Experiments(settings.paths.artifacts)
        self._ways: OrderedDict[str, set[tuple[str | None, str, tuple]]] = OrderedDict()
        """(run, overrides, context) of the pools that somebody asked for"""
        recorder.changed = self._people_changed
        recorder.items_changed = self._items_changed
        self._growing: asyncio.Task | None = None
        self._changing = asyncio.Lock()
        self._items_told = 0

    def _people_changed(self, changed: dict[str, bool]) -> None:
        """Whoever did something that asks for other candidates gets them; the present pool serves meanwhile."""
        self.people.changed(changed)
        self.experiments.changed(changed)
        for user, strong in changed.items():
            if strong:
                for run, *way in self._ways.get(user, ()):
                    if (live := self.live_of(run)) is not None:
                        live.pools.refresh((user, *way), self._job(live, user, *way))

    @property
    def lives(self) -> list[Live]:
        """The run that is served, and those of variants."""
        return [self.live, *self.experiments.runs]

    def live_of(self, run: str | None) -> Live | None:
        """A run by its id; None for the one that is served, or where it is not open."""
        return self.live if run in (None, self.live.run) else self.experiments.runs.get(run)

    def _items_changed(self) -> None:
        """New items stand in lists soon, however many come at once."""
        self._items_told += 1
        if self._growing is None or self._growing.done():
            self._growing = asyncio.create_task(self._grow())

    async def _grow(self) -> None:
        told = -1
        while told != self._items_told:
            await asyncio.sleep(GATHERED)
            told = self._items_told
            for live in self.lives:
                await self.grow(live)

    async def grow(self, live: Live) -> None:
        """Have a run know the items that events told of."""
        fold = self.recorder.online.fold
        if fold.items or fold.deleted:
            async with self._changing:
                await asyncio.to_thread(live.grow, frozen(fold))

    async def learn(self) -> None:
        """Have exploration know what came of what was served, as soon as it comes; runs until it is cancelled."""
        told, took = None, 0.0
        while True:
            await asyncio.sleep(max(LEARN_SECONDS, took * LEARN_REST))
            fold, exploring = self.recorder.online.fold, [live for live in self.lives if live.learns]
            if exploring and (exploring, fold.offset) != told:
                told, began = (exploring, fold.offset), time.perf_counter()
                for live in exploring:
                    live.learn(fold)
                took = time.perf_counter() - began

    async def refresh(self, live: Live) -> None:
        """Have a run answer as of now; raises RefreshError and OSError."""
        refreshed = await asyncio.wrap_future(live.refresher.submit())
        async with self._changing:
            swap = await asyncio.to_thread(live.refresh, refreshed, frozen(self.recorder.online.fold))
            swap()
        self.metrics.refreshes.inc()

    def _job(self, live: Live, user: str, overrides: str, context: tuple) -> Callable[[], Job]:
        """What to build for somebody, once the time has come."""

        def job() -> Job:
            return Job(live.user(user), context, self._since(live, user), overrides=overrides)

        return job

    def name_author(self, event: Event) -> None:
        """A follow, block or mute of an item's author names the author."""
        if event.type in EDGES and event.author_id is None and event.item_id is not None:
            position = self.live.items([event.item_id])
            if len(position):
                bundle, catalogue = self.live.engine.bundle, self.live.engine.state.catalogue
                event.author_id = bundle.author_ids.external([catalogue.item_author[position[0]]])[0]

    def exchange(self, live: Live) -> None:
        """Answer from another run from now on."""
        old, self.live = self.live, live

        def change(items: np.ndarray) -> np.ndarray:
            return live.engine.bundle.item_ids.positions(old.engine.bundle.item_ids.external(items))

        live.served = old.served
        live.served.translate(change)
        if old.run is not None and old.run != live.run:
            self._before.append(old.run)

    async def switch(self, run: str | None) -> Switched:
        """Serve another run, and make it the one in use; None goes back to the one before."""
        store = RunStore(self.settings.paths.artifacts)
        back = run is None
        if back:
            ids = store.ids()
            earlier = self._before or [i for i in ids if self.live.run is not None and i < self.live.run]
            if not earlier:
                raise Refused(409, "no_run", "there is no run before this one")
            run = earlier[-1]
        if run not in store.ids():
            raise UnknownIdError(f"there is no run {run[:80]!r}")
        if run == self.live.run:
            return Switched(run, run)
        try:
            switched = await self.switcher(run)
            await asyncio.to_thread(store.use, run)
        except RecsysError as error:
            self.recorder.trace.event("run_refused", run=run, error=str(error))
            raise Refused(409, "run_refused", f"run {run} cannot be served; the trace log says why") from None
        if back:
            self._before = [r for r in self._before[:-1] if r != run][: len(self._before)]
            self._before = [r for r in self._before if r != switched.before]
        return switched

    def take_in_everything(self) -> None:
        """Somebody else wrote to the log."""
        self.recorder.online.catch_up()
        self.people.forget_all()
        self._items_changed()

    async def erase(self, user_id: str) -> dict[str, int]:
        """Forget a person: what is remembered here, and what the log holds."""
        requests = self.requests.forget(user_id)
        self.lately.forget(user_id)
        for live in self.lives:
            live.served.forget(user_id)
        for run, *way in self._ways.pop(user_id, ()):
            if (live := self.live_of(run)) is not None:
                live.pools.cache.drop((user_id, *way))
        self.recorder.drop_waiting(user_id)
        events = await self.recorder.erase(user_id)
        self.people.changed([user_id])
        return {"events": events, "requests": requests}

    async def recommend(self, user_id: Id, ask: Ask, *, remember: bool = True) -> Slate:
        """Recommendations for somebody, known or not.

        remember: whether what was served lately is left out, and this counts as served.
        """
        live, user = self.live, str(user_id)
        arms = self.arms(live, user)
        if ask.variants or ask.pipeline:
            arms = self.experiments.forced(ask.variants, ask.pipeline)
            await asyncio.to_thread(require_way, self.live_of(arms.run) or live, arms.overrides)
        live, arms = self.answering(arms)
        context = live.context(ask.surface, ask.device, ask.context)
        key = (user, arms.overrides, context)
        remembered = Remembered(user, key, live.run, ask, served=remember, arms=arms)
        return await self._page(live, remembered, self._size(ask.n))

    def arms(self, live: Live, user: str) -> Arms:
        """The variants of somebody."""

        def attributes(user_id: str, columns: set[str]) -> dict[str, object]:
            told = self.recorder.online.fold.users.get(user_id, {})
            return live.attributes(user_id, columns) | {c: told[c] for c in columns if c in told}

        return self.experiments.of(user, attributes)

    def answering(self, arms: Arms) -> tuple[Live, Arms]:
        """The run that answers somebody with these variants; of none of them where their run was closed just now."""
        live = self.live_of(arms.run)
        return (self.live, NONE) if live is None else (live, arms)

    async def next(self, request: str, n: int | None) -> Slate:
        """The items that follow those of an earlier request and of its pages so far."""
        remembered = self.requests.get(request)
        if remembered is None:
            raise Refused(404, "unknown_request", f"request {request[:80]!r} is not known, or was long ago",
                          "ask /v1/recommend again")
        live = self.live_of(remembered.run)
        if live is None or remembered.run != live.run:  # its items are positions of another run
            raise Refused(409, "other_run", "the run was switched since that request", "ask /v1/recommend again")
        asked = n if n is not None else remembered.ask.n
        return await self._page(live, remembered, self._size(asked), request)

    async def session(self, ask: SessionAsk) -> Slate:
        """Recommendations for somebody without an id, from what they engaged with just now."""
        live = self.live
        context = live.context(ask.surface, ask.device, ask.context)
        items = live.items(ask.items)
        history = tuple(items[items < live.trained.bundle.catalogue.n_items].tolist())
        return await self._page(live, Remembered(None, ("", history, context), live.run, ask), self._size(ask.n))

    async def preview(self, user_id: str, n: int, since: Since | None = None) -> Slate:
        """What somebody would be answered now, with predictions and reasons; it is not recorded and counts nowhere.

        since: what they did since the run was trained, in the place of what the log tells.
        """
        live = self.live
        live, arms = self.answering(self.arms(live, user_id))
        position = live.user(user_id)
        person = self.people.known(live, user_id)
        asked = Remembered(user_id, (user_id, arms.overrides, ()), live.run, Ask(explain=True), arms=arms)
        way = live.way(asked.arms.overrides)
        if since is not None:
            pool = await asyncio.to_thread(live.build_now, Job(position, (), since))
            pool, fallback = (pool, pool.fallback) if len(pool) else (way.everybody(()), PENDING)
        else:
            pool, fallback = await self._pool(live, way, asked, position, person)
        batch, row = await way.chooser.choose(self._choice(live, asked, pool, position, person, self._size(n)))
        listed = await asyncio.to_thread(items_of, live.words, batch, row, explain=True)
        return Slate("", live.run, listed, user_id, fallback)

    def _size(self, n: int | None) -> int:
        most = self.config.largest_slate
        n = self.live.engine.pipeline.slate_size if n is None else n
        if not 1 <= n <= most:
            raise UsageError(f"n is {n}", f"ask for 1 to {most:,} items")
        return n

    async def _page(self, live: Live, asked: Remembered, n: int, before: str | None = None) -> Slate:
        """One page of a request, recorded and remembered."""
        moment, started = time.time(), time.perf_counter()
        user = asked.user_id
        person = None if user is None else self.people.known(live, user)
        position = -1 if user is None else live.user(user)
        ways = asked.arms.mixed or (asked.arms.overrides,)
        if asked.arms.mixed:
            parts = await asyncio.gather(*(self._chosen(live, asked, way, position, person, n) for way in ways))
            chosen = await asyncio.to_thread(mixed, parts, n, asked.arms.method)
        else:
            chosen = await self._chosen(live, asked, ways[0], position, person, n)
        number = before or request_id()
        if before is not None:
            asked.pages += 1
            number = f"{before}.{asked.pages}"
        asked.shown.append(chosen.items)
        self.requests.put(number, asked)
        if user is not None and asked.served:
            live.served.add(user, chosen.items)
        self.note(chosen.fallback)
        self._record(live, number, asked, chosen)
        self.lately.add(Answered(
            number, user, moment, time.perf_counter() - started, chosen.fallback, chosen.candidates, chosen.barred,
            len(chosen.listed),
        ))
        more = f"/v1/recommend/{number}/next" if len(chosen.items) else None
        return Slate(number, live.run, chosen.listed, user, chosen.fallback, more, asked.arms.names, chosen.notes)

    async def _chosen(
        self, live: Live, asked: Remembered, overrides: str, position: int, person: Known | None, n: int
    ) -> Chosen:
        """What one way shows, filled up with what it shows everybody where there is too little."""
        way, explain = live.way(overrides), asked.ask.explain
        if overrides != asked.arms.overrides:  # the pool of each way is its own
            asked = replace(asked, key=(asked.key[0], overrides, asked.key[-1]))
        pool, fallback = await self._pool(live, way, asked, position, person)
        choice = self._choice(live, asked, pool, position, person, n)
        batch, row = await way.chooser.choose(choice)
        items = shown(batch, row)
        chances = propensities(batch, row, len(items))
        listed = items_of(live.words, batch, row, explain=explain)
        everybody = way.everybody(asked.key[-1])
        if len(items) < n and pool is not everybody:
            barred = np.concatenate([choice.items, items])
            more = replace(choice, pool=everybody, size=n - len(items), items=barred, new=None)
            batch, row = await way.chooser.choose(more)
            added = shown(batch, row)
            if len(added):
                listed += items_of(live.words, batch, row, explain=explain, first=len(listed) + 1)
                items, fallback = np.concatenate([items, added]), fallback or "too few candidates"
                chances += propensities(batch, row, len(added))
        return Chosen(items, listed, chances, fallback, len(pool), len(choice.items), list(pool.failures))

    async def _pool(
        self, live: Live, way: Way, asked: Remembered, position: int, person: Known | None
    ) -> tuple[Pool, str | None]:
        """The pool of a request, and why it is not the person's own."""
        context = asked.key[-1]
        if asked.user_id is None:
            history = asked.key[1]
            if not history:
                return way.everybody(context), UNKNOWN_USER
            since = Since(history)
            pool = await live.pools.get(asked.key, lambda: Job(-1, context, since), live.wait)
        elif position < 0 and (person is None or person.since is None):
            return way.everybody(context), UNKNOWN_USER
        else:
            ways = self._ways.setdefault(asked.user_id, set())
            if len(ways) >= CONTEXTS:
                ways.clear()
            ways.add((asked.arms.run, *asked.key[1:]))
            self._ways.move_to_end(asked.user_id)
            if len(self._ways) > REFRESHED:
                self._ways.popitem(last=False)
            pool = await live.pools.get(asked.key, self._job(live, *asked.key), live.wait)
        if pool is None or not len(pool):
            return way.everybody(context), PENDING
        if self.config.session_boost and asked.user_id is not None:
            pool = live.of_session(pool, self.people.memory(asked.user_id))
        return pool, pool.fallback

    def _since(self, live: Live, user: str) -> Since | None:
        """What somebody did since the run, as whoever builds their pool takes it."""
        known = self.people.known(live, user)
        return None if known is None else known.since

    @property
    def troubles(self) -> list[str]:
        """What is not as it should be, in words."""
        out = []
        if self.recorder.full:
            out.append("the disk is full: events are refused")
        out += self.feeds.troubles if self.feeds is not None else []
        out += self.experiments.troubles
        if any(live.pools.failure is not None for live in self.lives):
            out.append("pools cannot be built: answers are what is popular with everybody")
        return out

    def _choice(
        self, live: Live, asked: Remembered, pool: Pool, position: int, person: Known | None, n: int
    ) -> Choice:
        ask = asked.ask
        barred = [live.items(ask.exclude), *asked.shown]
        authors = None
        if asked.user_id is not None:
            barred += live.served.of(asked.user_id) if asked.served else []
        elif not live.engine.repeats:
            barred.append(np.array(asked.key[1], np.int32))
        if person is not None:
            barred.append(person.items)
            authors = person.authors
        if ask.topics:
            barred.append(other_topics(live, pool, ask.topics))
        out, new, every = np.concatenate(barred), None, self.config.new_item_every
        if live.newcomers is not None and 0 < every <= n:
            new = live.newcomers.best(pool, out, authors)
        return Choice(position, pool, n, next(_numbers), out, authors, ask.explain, new, every)

    def note(self, fallback: str | None) -> None:
        """Count a list that was not the person's own."""
        if fallback is not None:
            self.metrics.fallbacks.labels(fallback).inc()

    def _record(self, live: Live, number: str, asked: Remembered, chosen: Chosen) -> None:
        """What was served goes to the log, behind the answer."""
        ask, listed, chances = asked.ask, chosen.listed, chosen.chances
        if asked.user_id is None:
            return
        served = Served(
            items=[str(item.item_id) for item in listed], run=live.run or "", arm=asked.arms.told,
            propensities=chances if len(chances) == len(listed) else [],
            sources=["+".join(item.sources) for item in listed], surface=ask.surface, device=ask.device,
            utilities=[item.score for item in listed] if live.way(asked.arms.overrides).explores else [],
            credits=chosen.credits,
        )
        if any(item.creative is not None for item in listed):
            told = [item.creative for item in listed]
            served.creatives = [0 if creative is None else creative.number for creative in told]
            served.creative_propensities = [0.0 if creative is None else creative.propensity for creative in told]
        now = time.time_ns() // 1000  # not the moment at which it is written: what people do may be there before
        self.recorder.later(Event(
            "served", user_id=asked.user_id, request_id=number, served=served, timestamp=now,
        ))
        self.experiments.answered(asked.arms)
