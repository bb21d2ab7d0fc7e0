"""The requests that can be gone on from."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec
import numpy as np

from recsys_cli.serving.arms import NONE, Arms
from recsys_cli.serving.structs import Ask, SessionAsk


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
