"""How many events one person may bring: a program that plays a person must not teach the server what people like.

A bucket a person: a day's worth of events at once, which come back evenly over the day, so that nobody has to know when
a day begins. People are counted in memory, and anew after a start.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recsys_cli.serving.events import CATALOGUE, Event

PEOPLE = 200_000
"""People who are counted; the longest silent are forgotten first."""
DAY_SECONDS = 86_400.0


@dataclass
class Sifted:
    """Some events by whether their person may still bring them."""

    taken: list[int] = field(default_factory=list)
    """places of those that may be written"""
    over: list[int] = field(default_factory=list)
    """places of those that are too many"""
    named: list[int] = field(default_factory=list)
    """of these, the first one of each person who was within the limit before"""


class UserLimit:
    """Buckets of events by person."""

    def __init__(self, a_day: int | None, clock: Callable[[], float] = time.monotonic):
        """a_day: events that a person may bring a day; None for any number."""
        self.a_day, self._clock = a_day, clock
        self._held: OrderedDict[str, tuple[float, float, bool]] = OrderedDict()
        """person → (events left, as of when, whether one was refused since they were last within the limit)"""

    def sift(self, events: Sequence[Event]) -> Sifted:
        """Take the events out of the buckets of their people, in their order. What says who somebody is counts not."""
        out = Sifted()
        if self.a_day is None:
            out.taken = list(range(len(events)))
            return out
        now, a_day, held = self._clock(), float(self.a_day), self._held
        for at, event in enumerate(events):
            if event.user_id is None or event.type in CATALOGUE:
                out.taken.append(at)
                continue
            user = str(event.user_id)
            left, since, refused = held.pop(user, (a_day, now, False))
            left = min(a_day, left + (now - since) * a_day / DAY_SECONDS)
            if left >= 1:
                # whoever is let in again only now and then is named no second time
                held[user] = left - 1, now, refused and left < a_day / 2
                out.taken.append(at)
                continue
            held[user] = left, now, True
            out.over.append(at)
            if not refused:
                out.named.append(at)
        while len(held) > PEOPLE:
            held.popitem(last=False)
        return out

    def reason(self, event: Event) -> str:
        """What is told of an event that is too many."""
        return f"user {str(event.user_id)[:80]!r} has brought more than {self.a_day:,} events within a day"
