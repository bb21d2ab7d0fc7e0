"""Fold: the one way from events to impressions, for the server as they come and for training from the whole log.

Rows are impressions as a dataset has them: an item shown to a user at a moment, with what the user did. The fold takes
events in the order of their offsets, and what it holds after an offset depends on the events up to there alone, not on
how they were cut into batches or how often it was stopped. The rules of attribution:

1. Events of one request (`request_id`), user and item make one row, in whatever order they come: its moment is that of
   the earliest impression (of the earliest action where no impression came), its place and propensity those of that
   impression, or else of the answer that was served; a dwell is the longest told.
2. An action without a request goes to the latest row of the same user and item of the last ATTRIBUTION.
3. Where there is none, it is a row of its own: whoever acts on an item was shown it.

What a row takes in is settled ATTRIBUTION after its moment; an event that comes later still makes a row of its own.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from recsys_cli.data.schema import HOUR
from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import CATALOGUE, EDGES, Entry, Event, Served

ATTRIBUTION = HOUR
"""µs within which events find the row that they belong to."""
KEPT_ANSWERS = 200_000
"""Answers that are remembered for the impressions that follow from them, the latest ones."""
_UNDO = {back: edge for edge, back in EDGES.items()}
_COLUMNS = {
    "user": "i", "item": "i", "time": "q", "bits": "Q", "dwell": "f", "position": "h", "propensity": "f",
    "rating": "f", "utility": "f", "request": "i", "session": "i", "surface": "h", "device": "h", "source": "h",
    "shown": "b", "before": "i", "creative": "h",
}
"""column of a row → its type; codes refer to the name lists of the fold, `before` is the last row before it of the same
user and item, -1 for none"""
MOST_OF_A_PAIR = 64
"""Rows of one user and item among which an event finds its own, the latest of those that are not settled."""
_NAMES = ("users", "items", "requests", "sessions", "surfaces", "devices", "sources")
NAN = float("nan")
_encode = msgspec.msgpack.Encoder().encode


class _Shown(msgspec.Struct, array_like=True, omit_defaults=True):
    """What is remembered of an answer, in as few bytes as may be."""

    items: list[str]
    sources: bytes
    """int16 codes of `names["sources"]`"""
    propensities: bytes
    """float32"""
    utilities: bytes
    """float32"""
    surface: str | None = None
    device: str | None = None
    session_id: str | None = None
    creatives: bytes = b""
    """int16"""


_decode = msgspec.msgpack.Decoder(_Shown).decode


class Names:
    """Texts in the order in which they first came."""

    __slots__ = ("at", "listed")

    def __init__(self, listed: Iterable[str] = ()):
        self.listed = list(listed)
        self.at = {name: i for i, name in enumerate(self.listed)}

    def __len__(self) -> int:
        return len(self.listed)

    def code(self, name: str | None) -> int:
        """The place of a name, which is taken up where it is new; -1 for None."""
        if name is None:
            return -1
        at = self.at.get(name)
        if at is None:
            at = self.at[name] = len(self.listed)
            self.listed.append(name)
        return at


@dataclass
class Edge:
    """Somebody follows, blocks or mutes an author from a moment on, or no longer does."""

    kind: str
    """follow, block or mute"""
    user: str
    author: str | None
    item: str | None
    """whose author is meant where `author` is None"""
    time: int
    on: bool


@dataclass
class Fold:
    """Rows, edges and what is known of users and items, from the events up to `offset`."""

    actions: tuple[str, ...]
    """columns of the data; bit a of `bits` is the a-th"""
    start: int = 0
    """offset behind which it begins: what is before is part of the data that the run was trained on"""
    offset: int = 0
    latest: int = 0
    """µs, the largest moment of an event so far"""
    columns: dict[str, array] = field(default_factory=lambda: {name: array(kind) for name, kind in _COLUMNS.items()})
    names: dict[str, Names] = field(default_factory=lambda: {name: Names() for name in _NAMES})
    edges: list[Edge] = field(default_factory=list)
    users: dict[str, dict] = field(default_factory=dict)
    """id → attributes as they were last told"""
    items: dict[str, tuple[int, dict]] = field(default_factory=dict)
    """id → µs when it was first told of, attributes as they were last told"""
    deleted: dict[str, int] = field(default_factory=dict)
    """items taken out, and when"""
    erased: list[str] = field(default_factory=list)
    """marks of people who are forgotten (`erasure.mark`)"""
    described: int = 0
    """how often something was told of a user or an item"""

    def __post_init__(self) -> None:
        self._bit = {name: 1 << a for a, name in enumerate(self.actions)}
        self._newest: dict[int, int] = {}
        """user and item → their last row, where it may not be settled"""
        self._settled = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self.offset = max(self.offset, self.start)

    def __len__(self) -> int:
        return len(self.columns["time"])

    @property
    def settled_before(self) -> int:
        """µs: rows of before can change no more."""
        return self.latest - ATTRIBUTION

    @property
    def settled_rows(self) -> int:
        """The first so many rows can change no more."""
        return self._settled

    def take(self, entries: Sequence[Entry]) -> None:
        """Fold the next entries of the log; those up to `offset` are known already and do nothing."""
        for entry in entries:
            if entry.offset > self.offset:
                self._event(entry.event)
                self.offset = entry.offset
        self._forget_settled()

    def _event(self, event: Event) -> None:
        kind, time = event.type, event.timestamp
        self.latest = max(self.latest, time)
        if kind == "served":
            self._answers[event.request_id] = self._packed(event.served)
            if len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        elif kind in CATALOGUE:
            self.described += 1
            self._describe(event, kind, time)
        elif kind == "erase":
            self._erase(event.user_id)
        else:
            self._behaviour(event, kind, time)

    def _packed(self, served: Served) -> bytes:
        sources = self.names["sources"]
        return _encode(_Shown(
            served.items, array("h", [sources.code(source) for source in served.sources]).tobytes(),
            array("f", served.propensities).tobytes(), array("f", served.utilities).tobytes(),
            served.surface, served.device, served.session_id, array("h", served.creatives).tobytes(),
        ))

    def _describe(self, event: Event, kind: str, time: int) -> None:
        if kind == "item":
            first = self.items.get(event.item_id)
            self.names["items"].code(event.item_id)
            known = {} if first is None else first[1]
            self.items[event.item_id] = (time if first is None else first[0], known | (event.attributes or {}))
            self.deleted.pop(event.item_id, None)
        elif kind == "user":
            self.names["users"].code(event.user_id)
            self.users[event.user_id] = self.users.get(event.user_id, {}) | (event.attributes or {})
        else:
            self.deleted[event.item_id] = time

    def _erase(self, marked: str) -> None:
        """Take out all that is of one person; `user` of their rows is -1 from now on."""
        self.erased.append(marked)
        people = self.names["users"]
        for code, name in enumerate(people.listed):
            if name and mark(name) == marked:
                people.listed[code] = ""
                del people.at[name]
                column = self.columns["user"]
                for row in np.flatnonzero(np.array(column) == code).tolist():
                    column[row] = -1
                self.users.pop(name, None)
                self.edges = [e for e in self.edges if name not in (e.user, e.author)]
        user = self.columns["user"]
        self._newest = {pair: row for pair, row in self._newest.items() if user[row] >= 0}

    def _behaviour(self, event: Event, kind: str, time: int) -> None:
        edge = kind if kind in EDGES else _UNDO.get(kind)
        if edge is not None:
            self.names["users"].code(event.user_id)
            self.edges.append(Edge(edge, event.user_id, event.author_id, event.item_id, time, kind in EDGES))
            if event.item_id is None or kind in _UNDO:
                return
        row = self._row(event, kind == "impression", time)
        if kind == "see_less":
            kind = "hide"
        c = self.columns
        bit = self._bit.get(kind)
        if bit is not None:
            c["bits"][row] |= bit
        if event.dwell_seconds is not None and not c["dwell"][row] >= event.dwell_seconds:
            c["dwell"][row] = event.dwell_seconds
        if kind == "rating":
            c["rating"][row] = event.value

    def _row(self, event: Event, shown: bool, time: int) -> int:
        """The row that an event belongs to, made where there is none."""
        names, c = self.names, self.columns
        user, item = names["users"].code(event.user_id), names["items"].code(event.item_id)
        pair = user << 32 | item
        newest = self._newest.get(pair, -1)
        request = names["requests"].code(event.request_id)
        if request >= 0:
            for row in self._unsettled(newest):
                if c["request"][row] == request:
                    self._again(row, event, shown, time)
                    return row
        elif not shown:
            rows = self._unsettled(newest)
            near = [(c["time"][row], row) for row in rows if abs(time - c["time"][row]) <= ATTRIBUTION]
            if near:
                return max(near)[1]
        row = self._newest[pair] = self._new(event, user, item, request, shown, time)
        c["before"][row] = newest
        return row

    def _unsettled(self, row: int) -> Iterator[int]:
        """A row and those before it of its user and item that may still take something in, the last made first.

        Told by moments alone, so that they are the same whenever `_forget_settled` last ran.
        """
        time, before, left = self.columns["time"], self.columns["before"], MOST_OF_A_PAIR
        while row >= self._settled and left:
            if time[row] >= self.settled_before:
                yield row
                left -= 1
            row = before[row]

    def _new(self, event: Event, user: int, item: int, request: int, shown: bool, time: int) -> int:
        names, c = self.names, self.columns
        row = len(c["time"])
        held = self._answers.get(event.request_id) if event.request_id is not None else None
        answer = None if held is None else _decode(held)
        values = {"user": user, "item": item, "time": time, "bits": 0, "dwell": NAN, "rating": NAN, "utility": NAN,
                  "request": request,
                  "shown": shown, "before": -1, "creative": 0}
        place, propensity, source = event.position, event.propensity, event.source
        surface, device, session = event.surface, event.device, event.session_id
        if answer is not None:
            if event.item_id in answer.items:
                at = answer.items.index(event.item_id)
                place = at if place is None else place
                if propensity is None and answer.propensities:
                    propensity = array("f", answer.propensities)[at]
                if source is None and answer.sources:
                    source = names["sources"].listed[array("h", answer.sources)[at]]
                if answer.creatives:
                    values["creative"] = array("h", answer.creatives)[at]
                if answer.utilities:
                    values["utility"] = array("f", answer.utilities)[at]
            surface, device = surface or answer.surface, device or answer.device
            session = session or answer.session_id
        values["position"] = -1 if place is None else place
        values["propensity"] = NAN if propensity is None else propensity
        values["surface"], values["device"] = names["surfaces"].code(surface), names["devices"].code(device)
        values["source"], values["session"] = names["sources"].code(source), names["sessions"].code(session)
        for name, column in c.items():
            column.append(values[name])
        return row

    def _again(self, row: int, event: Event, shown: bool, time: int) -> None:
        """A further event of a row that is there."""
        c = self.columns
        earlier = time < c["time"][row]
        if shown and (earlier or not c["shown"][row]):
            if event.position is not None:
                c["position"][row] = event.position
            if event.propensity is not None:
                c["propensity"][row] = event.propensity
            c["time"][row], c["shown"][row] = time, 1
        elif earlier and not c["shown"][row]:
            c["time"][row] = time
        for name, value in (("surface", event.surface), ("device", event.device), ("session", event.session_id)):
            if value is not None and c[name][row] < 0:
                c[name][row] = self.names[f"{name}s"].code(value)

    def _forget_settled(self) -> None:
        """Let go of what no further event can change: memory follows the last ATTRIBUTION, not the whole log."""
        time, user, item = (self.columns[name] for name in ("time", "user", "item"))
        row, before = self._settled, self.settled_before
        while row < len(time) and time[row] < before:
            pair = user[row] << 32 | item[row]
            if self._newest.get(pair) == row:
                del self._newest[pair]
            row += 1
        self._settled = row

    def copy(self) -> Copied:
        """All of it as it is now, cheaply: what is made of it does not hold up whoever folds."""
        return Copied({
            "actions": self.actions, "start": self.start, "offset": self.offset, "latest": self.latest,
            "columns": {name: column.tobytes() for name, column in self.columns.items()},
            "names": {name: list(held.listed) for name, held in self.names.items()},
            "edges": list(self.edges), "users": dict(self.users), "items": dict(self.items),
            "deleted": dict(self.deleted), "erased": list(self.erased), "described": self.described,
            "settled": self._settled, "answers": dict(self._answers),
        })

    def to_bytes(self) -> bytes:
        """All of it, for `from_bytes`."""
        return self.copy().to_bytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Fold:
        """What `to_bytes` gave; raises ValueError where it is no such thing."""
        try:
            kept = _Kept.decode(content)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None
        columns = {name: array(kind) for name, kind in _COLUMNS.items()}
        for name, column in columns.items():
            column.frombytes(kept.columns[name])
        out = cls(
            kept.actions, kept.start, kept.offset, kept.latest, columns,
            {name: Names(kept.names[name]) for name in _NAMES},
            kept.edges, kept.users, kept.items, kept.deleted, kept.erased, kept.described,
        )
        out._answers = OrderedDict(kept.answers)
        out._settled = kept.settled
        user, item = columns["user"], columns["item"]
        out._newest = {user[r] << 32 | item[r]: r for r in range(kept.settled, len(user)) if user[r] >= 0}
        return out

    def arrays(self, first: int = 0, end: int | None = None) -> dict[str, np.ndarray]:
        """The rows from `first` to `end` (exclusive) as arrays, copied."""
        return {name: np.array(column[first:end]) for name, column in self.columns.items()}


@dataclass(frozen=True)
class Copied:
    """A fold as it was."""

    held: dict[str, Any]

    @property
    def offset(self) -> int:
        """up to which it is"""
        return self.held["offset"]

    def to_bytes(self) -> bytes:
        """For `Fold.from_bytes`."""
        return _encode(self.held)


class _Held(msgspec.Struct):
    """What `Fold.to_bytes` writes."""

    actions: tuple[str, ...]
    start: int
    offset: int
    latest: int
    columns: dict[str, bytes]
    names: dict[str, list[str]]
    edges: list[Edge]
    users: dict[str, dict]
    items: dict[str, tuple[int, dict]]
    deleted: dict[str, int]
    erased: list[str]
    described: int
    settled: int
    answers: dict[str, bytes]


_Kept = msgspec.msgpack.Decoder(_Held)
