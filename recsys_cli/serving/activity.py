"""What people did since the run was trained, as the next answer needs it: a fold over the log of events.

What it holds depends on the events and their order alone, so that reading the log again after a stop or a crash gives
the same. The counters and features of training are `fold`; this is the small part that a request looks at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys_cli.serving.events import Entry, Event

HISTORY = 200
"""Items engaged with that are kept a person, the latest."""
SEEN = 1_000
"""Items shown that are kept a person, the latest."""
PEOPLE = 500_000
"""People who are kept; the longest silent are forgotten first."""
NEW_ITEMS = 2_000
"""Items told of by events whose attributes are kept for a request to look at, the latest."""
HIDING = ("hide", "see_less", "report")


@dataclass
class Person:
    """One person."""

    history: list[str] = field(default_factory=list)
    """items engaged with, oldest first"""
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """items shown, oldest first"""
    hidden: dict[str, None] = field(default_factory=dict)
    """items never to be shown again"""
    follows: dict[str, None] = field(default_factory=dict)
    """authors"""
    blocked: dict[str, None] = field(default_factory=dict)
    """authors blocked or muted"""
    blocked_by_item: dict[str, None] = field(default_factory=dict)
    """items whose authors are blocked or muted"""
    attributes: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    """grows with every change"""
    cached: Any = None
    """what a server worked out of it; None once something is new"""


class Activity:
    """People and items as the log has them up to `offset`."""

    def __init__(self, positive: Collection[str]):
        """positive: actions that say that somebody wants more of an item."""
        self._positive = frozenset(positive)
        self._people: OrderedDict[str, Person] = OrderedDict()
        self.items: OrderedDict[str, dict[str, Any]] = OrderedDict()
        """attributes of items that events told of, the latest told last"""
        self.deleted: dict[str, None] = {}
        """items taken out"""
        self.offset = 0

    def __len__(self) -> int:
        return len(self._people)

    def person(self, user_id: str) -> Person | None:
        """What somebody did; None where nothing is known."""
        return self._people.get(user_id)

    def forget(self, user_id: str) -> None:
        """As if somebody had done nothing."""
        self._people.pop(user_id, None)

    def take(self, entries: Sequence[Entry]) -> dict[str, bool]:
        """Fold the next entries of the log.

        Returns who changed, and whether in a way that asks for other candidates.
        """
        changed: dict[str, bool] = {}
        for entry in entries:
            if entry.offset <= self.offset:
                continue
            self.offset = entry.offset
            user = entry.event.user_id
            strong = self._event(entry.event)
            if user is not None and strong is not None:
                changed[user] = changed.get(user, False) or strong
        return changed

    def _event(self, event: Event) -> bool | None:
        """None where nothing changed, else whether other candidates are asked for."""
        kind = event.type
        if kind == "item":
            self.items[event.item_id] = self.items.get(event.item_id, {}) | (event.attributes or {})
            self.items.move_to_end(event.item_id)
            self.deleted.pop(event.item_id, None)
            if len(self.items) > NEW_ITEMS:
                self.items.popitem(last=False)
        elif kind == "delete_item":
            self.deleted[event.item_id] = None
            self.items.pop(event.item_id, None)
        elif kind == "erase":
            self._people.pop(event.user_id, None)
            return False
        elif kind != "served":
            return self._behaviour(event)
        return None

    def _behaviour(self, event: Event) -> bool:
        person = self._people.get(event.user_id)
        if person is None:
            person = self._people[event.user_id] = Person()
            if len(self._people) > PEOPLE:
                self._people.popitem(last=False)
        self._people.move_to_end(event.user_id)
        person.cached = None
        person.revision += 1
        kind = event.type
        if kind == "user":
            person.attributes |= event.attributes or {}
            return True
        strong = self._edge(person, event)
        if event.item_id is None or kind.startswith("un"):
            return strong
        person.seen[event.item_id] = None
        person.seen.move_to_end(event.item_id)
        if len(person.seen) > SEEN:
            person.seen.popitem(last=False)
        if kind in HIDING:
            person.hidden[event.item_id] = None
        if kind in self._positive:
            if event.item_id in person.history:
                person.history.remove(event.item_id)
            person.history.append(event.item_id)
            del person.history[:-HISTORY]
            return True
        return strong

    def _edge(self, person: Person, event: Event) -> bool:
        """Follows and blocks; whether it was one."""
        kind, author = event.type, event.author_id
        if kind == "follow" and author is not None:
            person.follows[author] = None
        elif kind == "unfollow" and author is not None:
            person.follows.pop(author, None)
        elif kind in ("block", "mute"):
            if author is not None:
                person.blocked[author] = None
            else:
                person.blocked_by_item[event.item_id] = None
        elif kind in ("unblock", "unmute"):
            person.blocked.pop(author, None)
            person.blocked_by_item.pop(event.item_id, None)
        else:
            return False
        return True
