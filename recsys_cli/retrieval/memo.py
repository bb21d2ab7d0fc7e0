"""What a source keeps of its last answers, so that the next request need not compute them again."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.state import State


class PerState:
    """Keeps what was last computed from a State, so that every request against that state shares it."""

    def __init__(self, compute: Callable[[State], Any]):
        self._compute = compute
        self._kept: tuple[weakref.ref, Any] | None = None

    def __call__(self, state: State) -> Any:
        kept = self._kept
        if kept is None or kept[0]() is not state:
            kept = self._kept = (weakref.ref(state), self._compute(state))
        return kept[1]


class LastAnswer(threading.local):
    """Keeps what was last computed of a batch of users as of a State, by each thread for itself.

    A request asks a source for proposals, then for the scores of others' proposals: the second finds what the first
    computed, whatever other threads ask for in between.
    """

    def __init__(self):
        self._kept: tuple[weakref.ref, bytes, Any] | None = None

    def __call__(self, state: State, users: np.ndarray, compute: Callable[[], Any]) -> Any:
        kept = self.get(state, users)
        if kept is None:
            kept = compute()
            self._kept = (weakref.ref(state), users.tobytes(), kept)
        return kept

    def get(self, state: State, users: np.ndarray) -> Any | None:
        """What is kept of these users, None where it is of others."""
        kept = self._kept
        return kept[2] if kept is not None and kept[0]() is state and kept[1] == users.tobytes() else None
