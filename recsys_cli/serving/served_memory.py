"""What was served to whom a while ago."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

import numpy as np

USERS = 200_000
"""Users whose served items are remembered; the longest silent are forgotten first."""


class ServedMemory:
    """Items served to each user lately, apart from what the data says that they saw."""

    def __init__(self, seconds: float, items: int, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._most, self._clock = seconds, items, clock
        self._users: OrderedDict[str, deque[tuple[float, np.ndarray]]] = OrderedDict()
        self._counts: dict[str, int] = {}
        """user → items remembered"""

    def add(self, user: str, items: np.ndarray) -> None:
        """int32 items were served now."""
        if not (self._seconds and self._most and len(items)):
            return
        held = self._users.setdefault(user, deque())
        self._users.move_to_end(user)
        held.append((self._clock(), items))
        count = self._counts.get(user, 0) + len(items)
        while len(held) > 1 and count > self._most:
            count -= len(held.popleft()[1])
        self._counts[user] = count
        while len(self._users) > USERS:
            del self._counts[self._users.popitem(last=False)[0]]

    def of(self, user: str) -> list[np.ndarray]:
        """What was served to somebody and is not forgotten."""
        held = self._users.get(user)
        if held is None:
            return []
        since = self._clock() - self._seconds
        while held and held[0][0] < since:
            self._counts[user] -= len(held.popleft()[1])
        if not held:
            self.forget(user)
            return []
        return [items for _, items in held]

    def forget(self, user: str) -> None:
        """As if nothing had been served to somebody."""
        self._users.pop(user, None)
        self._counts.pop(user, None)

    def translate(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Put other positions in the place of all items, as another run has them (-1: it does not know the item)."""
        for user, held in self._users.items():
            held = self._users[user] = deque((at, (new := change(items))[new >= 0]) for at, items in held)
            self._counts[user] = sum(len(items) for _, items in held)
