"""What a server remembers for a while: what was served to whom, and which requests can be gone on from."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from recsys_cli.serving.arms import NONE, Arms
from recsys_cli.serving.structs import Ask, SessionAsk

USERS = 200_000
"""Users whose served items are remembered; the longest silent are forgotten first."""


class ServedMemory:
    """Items served to each user lately, apart from what the data says that they saw."""

    def __init__(self, seconds: float, items: int, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._most, self._clock = seconds, items, clock
        self._users: OrderedDict[str, deque[tuple[float, np.ndarray]]] = OrderedDict()

    def add(self, user: str, items: np.ndarray) -> None:
        """int32 items were served now."""
        if not (self._seconds and self._most and len(items)):
            return
        held = self._users.setdefault(user, deque())
        self._users.move_to_end(user)
        held.append((self._clock(), items))
        while len(held) > 1 and sum(len(i) for _, i in held) > self._most:
            held.popleft()
        while len(self._users) > USERS:
            self._users.popitem(last=False)

    def of(self, user: str) -> list[np.ndarray]:
        """What was served to somebody and is not forgotten."""
        held = self._users.get(user)
        if held is None:
            return []
        since = self._clock() - self._seconds
        while held and held[0][0] < since:
            held.popleft()
        if not held:
            del self._users[user]
            return []
        return [items for _, items in held]

    def forget(self, user: str) -> None:
        """As if nothing had been served to somebody."""
        self._users.pop(user, None)

    def translate(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Put other positions in the place of all items, as another run has them (-1: it does not know the item)."""
        for user, held in self._users.items():
            self._users[user] = deque((at, (new := change(items))[new >= 0]) for at, items in held)


@dataclass
class Remembered:
    """A request that can be gone on from."""

    user_id: str | None
    """None for a session"""
    key: tuple
    """of its pool"""
    run: str | None
    ask: Ask
    """what was asked"""
    shown: list[np.ndarray] = field(default_factory=list)
    """items of all pages so far"""
    pages: int = 1
    served: bool = True
    """whether what was served lately is left out, and this counts as served"""
    arms: Arms = NONE
    """of experiments"""


class _Kept(msgspec.Struct, array_like=True, omit_defaults=True):
    """A `Remembered` as it is kept: one text of bytes, which no collection of garbage has to look at."""

    key: tuple[str, str | tuple[int, ...], tuple[tuple[str, str], ...]]
    run: str | None
    ask: msgspec.Raw
    shown: list[bytes]
    pages: int
    served: bool
    arms: Arms


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Kept).decode
_ask, _session = msgspec.msgpack.Decoder(Ask).decode, msgspec.msgpack.Decoder(SessionAsk).decode


class Requests:
    """The latest requests by their id. One that somebody has gone on from is kept as it is, others packed."""

    def __init__(self, most: int):
        self._most = most
        self._held: OrderedDict[str, tuple[str | None, bytes] | Remembered] = OrderedDict()

    def put(self, request_id: str, request: Remembered) -> None:
        """Remember one under an id."""
        if request.pages > 1:
            self._held[request_id] = request
        else:
            kept = _Kept(
                request.key, request.run, msgspec.Raw(_encode(request.ask)), [i.tobytes() for i in request.shown],
                request.pages, request.served, request.arms,
            )
            self._held[request_id] = request.user_id, _encode(kept)
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def get(self, request_id: str) -> Remembered | None:
        """One that was not forgotten yet; what is changed of it is remembered."""
        held = self._held.get(request_id)
        if isinstance(held, tuple):
            user, kept = held[0], _decode(held[1])
            ask = (_session if user is None else _ask)(kept.ask)
            shown = [np.frombuffer(items, np.int32) for items in kept.shown]
            held = Remembered(user, kept.key, kept.run, ask, shown, kept.pages, kept.served, kept.arms)
            self._held[request_id] = held
        return held

    def forget(self, user_id: str) -> int:
        """Remove the requests of a user; how many there were."""
        mine = [
            key for key, held in self._held.items()
            if (held[0] if isinstance(held, tuple) else held.user_id) == user_id
        ]
        for key in mine:
            del self._held[key]
        return len(mine)
