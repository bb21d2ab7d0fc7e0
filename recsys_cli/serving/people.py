"""People as requests look at them: what they did since the run was trained, by the log, in the run's positions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.since import Since

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.serving.live import Live
    from recsys_cli.serving.memory import Memory
    from recsys_cli.serving.online_state import OnlineState

KEPT = 100_000
"""People whose positions are kept; those who asked longest ago go first."""


@dataclass(frozen=True)
class Known:
    """What somebody did since."""

    make: Callable[[], Since]
    items: np.ndarray
    """int32 items that they must not be shown"""
    authors: np.ndarray
    """int32 authors that they must not be shown"""
    hidden: np.ndarray
    """int32 items that they turned down"""

    @cached_property
    def since(self) -> Since | None:
        """For whoever builds their pool, made when one is built; None where the run knows nothing of it."""
        return self.make() or None


class People:
    """What is known of people, worked out once as long as nothing is new."""

    def __init__(self, online: OnlineState, *, shared: bool = False):
        """shared: whether others change what is remembered, so that it is asked for every time."""
        self._online, self._shared = online, shared
        self._held: OrderedDict[str, tuple[RecommendationEngine, Known | None]] = OrderedDict()

    def memory(self, user_id: str) -> Memory:
        """What is remembered of somebody; empty of a stranger."""
        return self._online.memory(user_id)

    def changed(self, users: Iterable[str]) -> None:
        """Some people did something."""
        for user in users:
            self._held.pop(user, None)

    def forget_all(self) -> None:
        """Anybody may have done something."""
        self._held.clear()

    def known(self, live: Live, user_id: str) -> Known | None:
        """What somebody did since the run was trained; None where they did nothing."""
        if self._shared:
            return _known(live, self.memory(user_id))
        held = self._held.get(user_id)
        if held is None or held[0] is not live.engine:
            held = self._held[user_id] = live.engine, _known(live, self.memory(user_id))
            if len(self._held) > KEPT:
                self._held.popitem(last=False)
        self._held.move_to_end(user_id)
        return held[1]


def _known(live: Live, memory: Memory) -> Known | None:
    if not memory.latest and not memory.edges and not memory.undone:
        return None
    authors = live.authors([*memory.edges.get("block", ()), *memory.edges.get("mute", ())])
    seen, recent, hidden = live.items(memory.seen), live.items(memory.recent), live.items(memory.hidden)
    barred = [hidden] if live.engine.repeats else [hidden, seen, recent]
    return Known(lambda: _since(live, memory, seen, recent, authors), np.concatenate(barred), authors, hidden)


def _since(live: Live, memory: Memory, seen: np.ndarray, recent: np.ndarray, authors: np.ndarray) -> Since:
    later = recent  # what is before a refresh stands in the histories already
    if live.refreshed:
        later = live.items([item for item, at in memory.recent.items() if at >= live.refreshed])
    # whoever builds pools knows what the run was trained with, and no newer items and authors
    n_items, n_authors = live.trained.bundle.catalogue.n_items, live.trained.bundle.catalogue.n_authors

    def old(values: np.ndarray, most: int) -> tuple[int, ...]:
        return tuple(values[values < most].tolist())

    return Since(
        history=old(later, n_items),
        seen=old(seen, n_items),
        follows=old(live.authors(memory.edges.get("follow", ())), n_authors),
        blocked=old(authors, n_authors),
        unfollowed=old(live.authors(memory.undone.get("follow", ())), n_authors),
        unblocked=old(live.authors([*memory.undone.get("block", ()), *memory.undone.get("mute", ())]), n_authors),
    )
