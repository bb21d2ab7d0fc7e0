"""The latest requests as they were answered, in memory: who asked, how long it took, how many candidates were left."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Answered:
    """One page of recommendations as it went out."""

    request_id: str
    user_id: str | None
    """None for a session"""
    moment: float
    """seconds since 1970"""
    seconds: float
    """from the request to its items"""
    fallback: str | None
    pool: int
    """candidates in the pool"""
    barred: int
    """items that must not be shown: excluded, shown before, seen, served or turned down"""
    items: int


class Lately:
    """The latest answers by the id of their request."""

    def __init__(self, most: int = KEPT):
        self._most = most
        self._held: OrderedDict[str, Answered] = OrderedDict()

    def add(self, answered: Answered) -> None:
        """Keep one; the oldest is forgotten where there are too many."""
        self._held[answered.request_id] = answered
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def get(self, request_id: str) -> Answered | None:
        """One that was not forgotten yet."""
        return self._held.get(request_id)

    def latest(self, n: int) -> list[Answered]:
        """The newest first."""
        return list(self._held.values())[: -n - 1 : -1]

    def forget(self, user_id: str) -> None:
        """Drop what was answered to a person."""
        for key in [key for key, answered in self._held.items() if answered.user_id == user_id]:
            del self._held[key]
