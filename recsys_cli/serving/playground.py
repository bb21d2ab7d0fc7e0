"""Simulated people who use a server through its API: they ask, look at what they get, act on it, and come again.

They are the people of the generated world behind the data, who behave by its truth (`world.simulator`). A process of
its own plays their days one after the other, faster than they are; what is published on a day is told to the server
when the day begins.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from recsys_cli.errors import ConfigError
from recsys_cli.serving.client import Client, ServerError, Slate
from recsys_cli.serving.config import secret_of

if TYPE_CHECKING:
    from recsys_cli.data.vocabulary import Vocabulary
    from recsys_cli.serving.config import Role
    from recsys_cli.settings import Settings
    from recsys_cli.world.simulator import World

RATE = 5.0
"""Requests a second of all people together."""
SHOWN = 10
"""Items that each request asks for."""
NEWS = 20
"""Items published a day that the server is told of at most."""
FAILURES = 50
"""Requests in a row that may fail before nobody comes any more."""


@dataclass(frozen=True)
class Place:
    """What the process of simulated people is told."""

    url: str
    data: str
    rate: float
    read_key: str | None = None
    write_key: str | None = None


class Playground:
    """The process of simulated people. `begin` once the server is ready; ends with the `with` block.

    Raises DataError where the data have no world behind them, ConfigError where there are keys and none may read or
    write.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None], rate: float = RATE):
        from recsys_cli.world.simulator import World

        self._settings, self._say, self._rate = settings, say, rate
        World.open(settings.paths.data)  # there is nobody to simulate in data of one's own: told before anything runs
        self._keys = [_key(settings, role) for role in ("read", "write")]
        self.process: multiprocessing.process.BaseProcess | None = None

    def begin(self, url: str) -> None:
        """Let people come to the server at an address."""
        place = Place(url, str(Path(self._settings.paths.data).resolve()), self._rate, *self._keys)
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=play, args=(place, os.getpid()), daemon=True, name="recsys-playground")
        self.process.start()
        self._say(f"simulated people come, {self._rate:g} requests a second; watch {url}/dashboard")

    def close(self) -> None:
        """Send everybody home."""
        if self.process is not None:
            self.process.terminate()
            self.process.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(settings: Settings, role: Role) -> str | None:
    keys = settings.serving.keys
    if not keys:
        return None
    for key in keys:
        if role in key.roles:
            return secret_of(key.key)
    raise ConfigError(f"serving.keys: none has the role {role!r}, which simulated people need",
                      "add one, or serve without keys on 127.0.0.1")


def play(place: Place, parent: int) -> None:
    """What the process does until the server ends: day after day, request after request. parent: id of the server's
    process, without which nobody comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)  # whoever is real goes first
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.world.simulator import World

    world, dataset = World.open(place.data), Dataset.open(place.data)
    with Client(place.url, place.read_key) as reader, Client(place.url, place.write_key) as writer:
        people = People(world, dataset.user_ids, dataset.item_ids, reader, writer)
        pace = Pace(place.rate)
        for day in range(10**9):
            people.wake(day)
            for visit in range(people.visits_today):
                if os.getppid() != parent:
                    return
                pace.wait()
                if not people.come(visit):
                    return


class Pace:
    """So many moments a second, evenly; what was late is not caught up."""

    def __init__(self, rate: float):
        self._step, self._next = 1 / rate, time.monotonic()

    def wait(self) -> None:
        """Until the next moment."""
        now = time.monotonic()
        self._next = max(self._next + self._step, now)
        time.sleep(self._next - now)


class People:
    """The people of a world, who use a server one after the other."""

    def __init__(self, world: World, user_ids: Vocabulary, item_ids: Vocabulary, reader: Client, writer: Client):
        self.world, self._user_ids, self._item_ids = world, user_ids, item_ids
        self._reader, self._writer = reader, writer
        self._day, self._failed = 0, 0
        self._new: dict[str, int] = {}
        self._follows = world.follows()

    @property
    def visits_today(self) -> int:
        """Requests of the day that goes on."""
        return len(self._visits)

    def wake(self, day: int) -> None:
        """Begin a day: what is published is told to the server, and it is settled who comes when."""
        self._day = day
        self._visits = self.world.visits(day)
        self._order = np.argsort(self._visits.time, kind="stable")
        if day < self.world.horizon_days:
            self._publish(day)

    def _publish(self, day: int) -> None:
        table, positions = self.world.future_items(day), self.world.future_positions(day)
        for row, position in zip(table.slice(0, NEWS).to_pylist(), positions, strict=False):
            item = row.pop("item_id")
            row.pop("created_at", None)
            told = {name: value for name, value in row.items() if value is not None}
            try:
                self._writer.put_item(item, told)
            except ServerError:
                continue  # the server says why in its log; the others may be taken
            self._new[str(item)] = position

    def come(self, visit: int) -> bool:
        """One visit of the day, in the order of their moments; False once the server seems to be gone."""
        row = int(self._order[visit])
        user = int(self._visits.user[row])
        try:
            slate = self._reader.recommend(
                self._user_ids.external([user])[0], SHOWN,
                {"surface": self.world.surfaces[self._visits.surface[row]],
                 "device": self.world.devices[self._visits.device[row]]},
            )
            events = self._reaction(row, user, slate)
            if events:
                self._writer.events(events)
            self._failed = 0
        except ServerError:
            self._failed += 1
        return self._failed < FAILURES

    def _position(self, item_id: object) -> int:
        """Of an item in the world, -1 for one that it does not have."""
        known = self._item_ids.position(item_id)
        return known if known >= 0 else self._new.get(str(item_id), -1)

    def _reaction(self, row: int, user: int, slate: Slate) -> list[dict]:
        """What the user does with what was answered: events as the API takes them."""
        visits = self._visits
        held = [(item, at) for item in slate if (at := self._position(item.item_id)) >= 0]
        if not held:
            return []
        items = np.array([[at for _, at in held]])
        told = self.world.respond(
            np.array([user]), items, visits.time[row : row + 1], visits.surface[row : row + 1],
            visits.device[row : row + 1], visits.depth[row : row + 1], follows=self._follows, salt=self._day,
        )
        dwell = told.pop("dwell")[0]
        events: list[dict] = []
        common = {"user_id": slate.user_id, "request_id": slate.request_id, "session_id": str(visits.session[row])}
        for place, (item, at) in enumerate(held):
            named = common | {"item_id": item.item_id}
            events.append(named | {"type": "impression", "position": item.rank - 1})
            events += [named | {"type": name} for name, done in told.items() if done[0, place]]
            if np.isfinite(dwell[place]):
                events.append(named | {"type": "dwell", "dwell_seconds": float(min(dwell[place], 3_600.0))})
            if told["follow"][0, place]:
                self.world.add_follows(self._follows, np.array([user]), np.array([at]))
        return events


