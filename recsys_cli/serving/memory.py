"""What the server remembers of a person between two trainings: what was seen, served, hidden and blocked, the session.

A memory is small and bounded, is changed by one event at a time and answers within microseconds, so that a hide, a
block or a click counts in the very next answer. `MemoryStore` keeps memories in the process; `redis_state.RedisMemory`
keeps the same ones where several servers share them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from recsys_cli.data.schema import NEGATIVE_ACTIONS, SECOND
from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import CATALOGUE, EDGES, Entry, Event

SEEN_KEPT, HIDDEN_KEPT, SERVED_KEPT, SESSION_KEPT, RECENT_KEPT, EDGES_KEPT = 2000, 2000, 500, 50, 200, 5000
"""Entries of a memory, the latest ones."""
SERVED_FOR = 10 * 60 * SECOND
"""µs for which what was answered is not answered again, seen or not."""
SESSION_GAP = 30 * 60 * SECOND
"""µs without an event after which a session has ended."""
HIDES = frozenset(("see_less", *NEGATIVE_ACTIONS))
_PASSIVE = frozenset(("impression", "served", *CATALOGUE))
_UNDO = {back: edge for edge, back in EDGES.items()}


class Memory(msgspec.Struct, omit_defaults=True, gc=False):
    """What is remembered of one person. Ids are texts, moments µs; every dictionary is in the order of its moments."""

    seen: dict[str, int] = {}
    """item → when it was last shown, or acted upon"""
    served: dict[str, int] = {}
    """item → when it was last answered"""
    hidden: dict[str, int] = {}
    """item → when the person turned it down (hide, report, see_less, …)"""
    recent: dict[str, int] = {}
    """item → when the person last interacted with it, positively"""
    session: list[tuple[str, str, int]] = []
    """(item, type, moment) of the session that goes on, oldest first, impressions left out"""
    edges: dict[str, dict[str, int]] = {}
    """follow, block, mute → author → since when; only of what events told"""
    undone: dict[str, dict[str, int]] = {}
    """follow, block, mute → author → when it was taken back"""
    latest: int = 0
    """µs, the largest moment of an event of theirs"""

    def note(self, event: Event) -> None:
        """Take in one event of this person."""
        time, item, kind = event.timestamp, event.item_id, event.type
        if kind == "served":
            for shown in event.served.items:
                _put(self.served, shown, time, SERVED_KEPT)
            return
        if kind in CATALOGUE:
            return
        if time - self.latest > SESSION_GAP:
            self.session = []
        self.latest = max(self.latest, time)
        edge = kind if kind in EDGES else _UNDO.get(kind)
        if edge is not None and event.author_id is not None:
            put, drop = (self.edges, self.undone) if kind in EDGES else (self.undone, self.edges)
            _put(put.setdefault(edge, {}), event.author_id, time, EDGES_KEPT)
            drop.get(edge, {}).pop(event.author_id, None)
        if item is None or kind in _UNDO:
            return
        _put(self.seen, item, time, SEEN_KEPT)
        if kind in HIDES:
            _put(self.hidden, item, time, HIDDEN_KEPT)
            self.recent.pop(item, None)
        elif kind not in ("impression", "dwell", "rating"):
            _put(self.recent, item, time, RECENT_KEPT)
        if kind not in _PASSIVE:
            self.session = [*self.session[-(SESSION_KEPT - 1) :], (item, kind, time)]

    def served_since(self, now: int) -> set[str]:
        """Items that were answered within SERVED_FOR before `now` (µs)."""
        return {item for item, time in self.served.items() if now - time < SERVED_FOR}

    def current_session(self, now: int) -> list[tuple[str, str, int]]:
        """(item, type, moment) of the session that goes on at `now` (µs); [] where none does."""
        return self.session if now - self.latest <= SESSION_GAP else []


def _put(held: dict[str, int], key: str, time: int, most: int) -> None:
    """The latest moment of a key, at the end; the oldest goes where there are too many."""
    time = max(time, held.pop(key, 0))
    held[key] = time
    if len(held) > most:
        del held[next(iter(held))]


class Memories(Protocol):
    """Memories of all people, in this process or elsewhere. `offset` and memories change together."""

    def offset(self) -> int:
        """How far the log has been taken in."""

    def take(self, entries: Sequence[Entry]) -> None:
        """Take in the next entries of the log; those up to `offset` do nothing."""

    def of(self, user_id: str) -> Memory:
        """What is remembered of a person; an empty memory of a stranger. It is not to be changed."""

    def forget(self, user_id: str) -> None:
        """Forget a person."""


class MemoryStore:
    """Memories in this process, of the `most` people who were last heard of."""

    def __init__(self, most: int = 200_000, offset: int = 0, held: Iterable[tuple[str, Memory]] = ()):
        """offset, held: as they were kept, whoever was last heard of at the end."""
        self.most = most
        self._offset = offset
        self._held: OrderedDict[str, Memory] = OrderedDict(held)
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def offset(self) -> int:
        """See `Memories`; so the other methods."""
        return self._offset

    def take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.offset <= self._offset:
                continue
            self._offset = entry.offset
            user = entry.event.user_id
            if user is None:
                continue
            if entry.event.type == "erase":
                for name in [name for name in self._held if mark(name) == user]:
                    self.forget(name)
                continue
            memory = self._held.get(user)
            if memory is None:
                memory = self._held[user] = Memory()
                if len(self._held) > self.most:
                    self._changed.add(self._held.popitem(last=False)[0])
            else:
                self._held.move_to_end(user)
            self._changed.add(user)
            memory.note(entry.event)

    def of(self, user_id: str) -> Memory:
        return self._held.get(user_id) or Memory()

    def forget(self, user_id: str) -> None:
        if self._held.pop(user_id, None) is not None:
            self._changed.add(user_id)

    def changes(self, most: int | None = None) -> dict[str, bytes | None]:
        """Memories that changed since this was last asked, at most so many, as they are written; None for those that
        are gone."""
        if most is None or most >= len(self._changed):
            names, self._changed = self._changed, set()
        else:
            names = [self._changed.pop() for _ in range(most)]
        return {name: None if (m := self._held.get(name)) is None else _encode(m) for name in names}

    def unsaved(self, names: Iterable[str]) -> None:
        """What `changes` gave could not be written: it stands among the next ones again."""
        self._changed.update(names)


def decoded(bodies: Iterable[tuple[str, bytes]], offset: int) -> MemoryStore:
    """The store of what `MemoryStore.changes` gave; raises msgspec.DecodeError where it is no memory."""
    held = sorted(((name, _decode(body)) for name, body in bodies), key=lambda pair: pair[1].latest)
    return MemoryStore(offset=offset, held=held)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode


def users_of(entries: Iterable[Entry]) -> set[str]:
    """People whose memories some entries change."""
    told = (e.event for e in entries if e.event.type not in ("erase", *CATALOGUE))
    return {event.user_id for event in told if event.user_id is not None}
