"""A server that is killed again and again under load, and what must be left of it."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from server_process import Server

if TYPE_CHECKING:
    from recsys_cli.serving.fold import Fold

THREADS = 4
TYPES = ("impression", "click", "like", "hide", "dwell")


class Sender:
    """Sends events from several threads until the server is gone; knows which were acknowledged."""

    def __init__(self, users: list[str], items: list[str], seed: int):
        self._users, self._items, self._random = users, items, random.Random(seed)
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.asked = 0

    def _event(self, name: str) -> dict:
        kind = self._random.choice(TYPES)
        event = {"type": kind, "user_id": self._random.choice(self._users), "item_id": self._random.choice(self._items)}
        return event | {"event_id": name} | ({"dwell_seconds": 3.5} if kind == "dwell" else {})

    def send(self, place: str, name: str) -> None:
        """Events, and a list of recommendations after each call, one after the other until nobody answers."""
        connection = http.client.HTTPConnection(place, timeout=20)
        at = 0
        try:
            while True:
                events = [self._event(f"{name}-{at}-{k}") for k in range(1 if at % 2 else 10)]
                connection.request("POST", "/v1/events", json.dumps(events))
                answer = connection.getresponse()
                body = json.loads(answer.read())
                assert answer.status != 200 or body["accepted"] == len(events), body
                if answer.status == 200:
                    with self._lock:
                        self.acknowledged.update(event["event_id"] for event in events)
                        self.asked += 1
                connection.request("GET", f"/v1/recommend/{self._random.choice(self._users)}?n=5")
                connection.getresponse().read()
                at += 1
        except (OSError, http.client.HTTPException, ValueError):
            return


def kill_again_and_again(folder: Path, rounds: int, users: list[str], items: list[str], *, under_load: float = 0.6,
                         options: tuple[str, ...] = (), told=lambda text: None) -> dict[str, int]:
    """Start, load and kill a server so many times, every third time while it stops in order; then hold its log and its
    state against what was acknowledged.

    Raises AssertionError where an acknowledged event is missing or there twice, or where the state is not the replay.
    """
    sender, rng = Sender(users, items, rounds), random.Random(rounds)
    for number in range(rounds):
        server = Server.start(folder, *options)
        place = urlsplit(server.url).netloc
        with ThreadPoolExecutor(THREADS) as threads:
            sending = [threads.submit(sender.send, place, f"{number}-{k}") for k in range(THREADS)]
            time.sleep(under_load * rng.uniform(0.5, 1.5))
            if number % 3 == 2:
                server.process.send_signal(signal.SIGTERM)
                time.sleep(rng.uniform(0, 0.3))
            server.kill()
            for future in sending:
                future.result(60)
        told(f"kill {number + 1} of {rounds}: {len(sender.acknowledged):,} events acknowledged")
    server = Server.start(folder, *options)
    assert server.stop() == 0, server.errors
    return held_against(folder, sender.acknowledged) | {"requests": sender.asked}


def held_against(folder: Path, acknowledged: set[str]) -> dict[str, int]:
    """Hold the log and the state of a stopped server against the events that were acknowledged."""
    from recsys_cli.serving.event_log import read_log
    from recsys_cli.serving.fold import Fold
    from recsys_cli.serving.memory import MemoryStore
    from recsys_cli.serving.state_file import StateFile

    events = folder / "artifacts" / "events"
    entries = list(read_log(events))
    names = [entry.event.event_id for entry in entries if entry.event.event_id is not None]
    assert len(names) == len(set(names)), "an event is there twice"
    assert acknowledged <= set(names), f"{len(acknowledged - set(names))} acknowledged events are lost"
    assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
    fold, memories = StateFile(events / "state.db").read()
    replay, remembered = Fold(fold.actions, fold.start), MemoryStore()
    for entry in entries:
        replay.take([entry])
        remembered.take([entry])
    same_folds(fold, replay)
    people = {entry.event.user_id for entry in entries if entry.event.user_id is not None}
    assert all(memories.of(user) == remembered.of(user) for user in people), "a memory is not what a replay gives"
    return {"acknowledged": len(acknowledged), "in the log": len(entries), "people": len(people)}


def same_folds(one: Fold, other: Fold) -> None:
    """AssertionError where two folds tell different things."""
    assert one.offset == other.offset and one.latest == other.latest
    mine, theirs = one.arrays(), other.arrays()
    # rows that are settled are forgotten by whoever looks for earlier ones, sooner or later
    for name in mine.keys() - {"before"}:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=f"the state is not what a replay gives: {name}")
    for part in ("edges", "users", "items", "deleted", "erased", "described", "_answers"):
        assert getattr(one, part) == getattr(other, part), f"the state is not what a replay gives: {part}"
    assert {k: n.listed for k, n in one.names.items()} == {k: n.listed for k, n in other.names.items()}
