"""What came of what was served, counted from the log of events: by minute, source, item and request.

An item of an answer is *shown* once an event tells of it, be it an impression or an action, and *engaged with* once a
positive action does. An event belongs to an answer by its request, user and item, as in `serving.served`; those logged
before their answer wait for it. What tells of no answer is counted as `unattributed` and goes nowhere else.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from recsys_cli.data.schema import SECOND
from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import CATALOGUE, Entry, Event
from recsys_cli.serving.memory import HIDES

EVENTS = 100_000
"""Events at the end of the log that are counted."""
REQUESTS, ITEMS, MINUTES = 20_000, 50_000, 24 * 60
"""Requests, items and minutes that are remembered, the latest."""
EARLY = 5_000
"""Requests whose events wait for their answer, the latest."""
USERS = 20
"""Latest users that each item was served to."""
NO_SOURCE = "(none)"
"""What an item without a source is counted under: a new item, say, that was put into the list."""


@dataclass
class Counts:
    """How often something was served, shown, engaged with and turned down."""

    served: int = 0
    shown: int = 0
    engaged: int = 0
    negative: int = 0


@dataclass
class Answer:
    """One answer, and what was done with it."""

    request_id: str
    user_id: str
    time: int
    """µs"""
    items: list[str]
    sources: list[str]
    run: str
    arm: str
    shown: set[str] = field(default_factory=set)
    done: dict[str, list[str]] = field(default_factory=dict)
    """item → actions, in their order"""
    engaged: set[str] = field(default_factory=set)
    negative: set[str] = field(default_factory=set)


@dataclass
class ItemTally:
    """What is known of one item."""

    counts: Counts = field(default_factory=Counts)
    sources: dict[str, Counts] = field(default_factory=dict)
    users: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=USERS))
    """(user, request) that it was served to, the latest last"""


class Tally:
    """Counts of a log from some offset on. One thread takes in, any number read."""

    def __init__(self, positive: Collection[str], offset: int = 0):
        """positive: actions that say that an item was right. offset: from which the log is read."""
        self._positive = frozenset(positive)
        self._lock = threading.Lock()
        self.offset = offset
        self.first: int | None = None
        """µs, the moment of the first event that was counted"""
        self.total, self.unattributed = Counts(), 0
        self.answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self.sources: dict[str, Counts] = {}
        self.items: OrderedDict[str, ItemTally] = OrderedDict()
        self.minutes: OrderedDict[int, Counts] = OrderedDict()
        self.arms: dict[str, Counts] = {}
        self.types: Counter[str] = Counter()
        self._early: OrderedDict[tuple[str, str], list[Event]] = OrderedDict()

    def take(self, entries: Iterable[Entry]) -> None:
        """Count the next events of the log."""
        with self._lock:
            for entry in entries:
                if entry.offset > self.offset:
                    self.offset = entry.offset
                    self._take(entry)

    def _take(self, entry: Entry) -> None:
        event = entry.event
        self.first = event.timestamp if self.first is None else min(self.first, event.timestamp)
        self.types[event.type] += 1
        if event.type == "served":
            self._served(event)
        elif event.type == "erase":
            self._forget(str(event.user_id))
        elif event.item_id is not None and event.type not in CATALOGUE and event.user_id is not None:
            self._acted(event)

    def _wait(self, event: Event) -> None:
        """Keep an event until its answer is logged."""
        if event.request_id is None:
            self.unattributed += 1
            return
        key = (event.request_id, event.user_id)
        self._early.setdefault(key, []).append(event)
        if len(self._early) > EARLY:
            self.unattributed += len(self._early.popitem(last=False)[1])

    def _served(self, event: Event) -> None:
        key, served = (event.request_id, event.user_id), event.served
        if key in self.answers:
            return
        sources = [served.sources[i] if i < len(served.sources) else "" for i in range(len(served.items))]
        answer = Answer(event.request_id, event.user_id, event.timestamp, served.items, sources, served.run, served.arm)
        self.answers[key] = answer
        if len(self.answers) > REQUESTS:
            self.answers.popitem(last=False)
        for item, source in zip(answer.items, sources, strict=True):
            for counts in self._counts(answer, item, source):
                counts.served += 1
            self.items[item].users.append((answer.user_id, answer.request_id))
        for early in self._early.pop(key, ()):
            self._acted(early)

    def _acted(self, event: Event) -> None:
        answer = self.answers.get((event.request_id, event.user_id))
        item, kind = event.item_id, event.type
        if answer is None:
            self._wait(event)
            return
        if item not in answer.items:
            self.unattributed += 1
            return
        counts = None
        source = answer.sources[answer.items.index(item)]
        if item not in answer.shown:
            answer.shown.add(item)
            counts = self._counts(answer, item, source)
            for c in counts:
                c.shown += 1
        if kind == "impression":
            return
        done = answer.done.setdefault(item, [])
        if kind not in done:
            done.append(kind)
        for kinds, held, name in ((self._positive, answer.engaged, "engaged"), (HIDES, answer.negative, "negative")):
            if kind in kinds and item not in held:
                held.add(item)
                for c in counts or self._counts(answer, item, source):
                    setattr(c, name, getattr(c, name) + 1)

    def _counts(self, answer: Answer, item: str, source: str) -> list[Counts]:
        """Everything that an item of an answer counts for."""
        names = source.split("+") if source else [NO_SOURCE]
        minute = answer.time // (60 * SECOND)
        held = self.items.get(item)
        if held is None:
            held = self.items[item] = ItemTally()
            if len(self.items) > ITEMS:
                self.items.popitem(last=False)
        self.items.move_to_end(item)
        if minute not in self.minutes:
            self.minutes[minute] = Counts()
            while len(self.minutes) > MINUTES:
                del self.minutes[min(self.minutes)]
        out = [self.total, held.counts]
        if minute in self.minutes:
            out.append(self.minutes[minute])
        out += [self.sources.setdefault(name, Counts()) for name in names]
        out += [held.sources.setdefault(name, Counts()) for name in names]
        if answer.arm:
            out.append(self.arms.setdefault(answer.arm, Counts()))
        return out

    def _forget(self, user: str) -> None:
        """Drop a person who was erased. The log holds the mark of the id, so that both are compared."""
        people = {user for _, user in self.answers} | {u for held in self.items.values() for u, _ in held.users}
        marked = {u for u in people if u == user or mark(u) == user}
        for key in [key for key in self.answers if key[1] in marked]:
            del self.answers[key]
        for held in self.items.values():
            kept = [pair for pair in held.users if pair[0] not in marked]
            if len(kept) < len(held.users):
                held.users = deque(kept, maxlen=USERS)

    def latest(self, n: int, user: str | None = None) -> list[Answer]:
        """The newest answers first; user: of one person alone."""
        with self._lock:
            held = [a for a in self.answers.values() if user is None or a.user_id == user]
        return held[: -n - 1 : -1]

    def answer(self, request_id: str) -> Answer | None:
        """The answer of a request, if it is remembered."""
        with self._lock:
            return next((a for (request, _), a in reversed(self.answers.items()) if request == request_id), None)

    def by_source(self) -> list[tuple[str, Counts]]:
        """Sources, those that brought most first."""
        with self._lock:
            return sorted(self.sources.items(), key=lambda pair: (-pair[1].served, pair[0]))

    def by_minute(self, most: int = 60) -> list[tuple[int, Counts]]:
        """(minute since 1970, counts of what was served in it), oldest first, minutes of nothing left out."""
        with self._lock:
            return sorted(self.minutes.items())[-most:]

    def best_items(self, n: int) -> list[tuple[str, ItemTally]]:
        """Items that were shown most."""
        with self._lock:
            held = list(self.items.items())
        return sorted(held, key=lambda pair: (-pair[1].counts.shown, -pair[1].counts.served, pair[0]))[:n]


