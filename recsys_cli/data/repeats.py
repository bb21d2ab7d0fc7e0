"""How often people come back to what they had: whether lists may hold it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.log import Log

COMMON = 0.2
"""Share of the interactions from which on repeats are common. A list that leaves out what was seen can find all but
that share; one that does not gives places to old items, which whatever counts what goes with them ranks first. Below
two places of ten the old ones take more places than they are worth: people rate a film again and reopen a post, but
come for new ones."""
MANY = 0.3
"""Share of the people who must have repeated something, so that a few heavy users do not decide for everybody."""
ENOUGH = 50
"""Interactions of people with a history, with fewer of which nothing is decided."""


@dataclass(frozen=True)
class Repeats:
    """What of the interactions in a window is with items that the person had before it began."""

    interactions: int
    """of people who had a history by then"""
    share: float
    """of these that are with an item which the person had interacted with"""
    people: float
    """share of those people of whom any is"""

    @property
    def common(self) -> bool:
        """Whether lists should hold such items."""
        return self.interactions >= ENOUGH and self.share >= COMMON and self.people >= MANY

    def to_json(self) -> dict:
        return asdict(self)

    def line(self) -> str:
        """The decision in one line of at most 100 columns."""
        what = "may hold" if self.common else "leave out"
        return (
            f"lists {what} seen items: {self.share:.0%} of the validation interactions are repeats "
            f"(by {self.people:.0%} of the people)"
        )


def repeats_in(log: Log, start: int, end: int) -> Repeats:
    """The repeats of the window [start, end) (µs) of a log, against everything before `start`."""
    before, inside = log.window(end=start), log.window(start, end)
    past, later = np.flatnonzero(before.positive), np.flatnonzero(inside.positive)
    width = np.int64(max(log.item.max(initial=0), 0)) + 1
    known = np.isin(inside.user[later], np.unique(before.user[past]))
    later = later[known]
    if not len(later):
        return Repeats(0, 0.0, 0.0)
    user = inside.user[later]
    mine = past[np.isin(before.user[past], np.unique(user))]
    had = np.unique(before.user[mine].astype(np.int64) * width + before.item[mine])
    again = np.isin(user.astype(np.int64) * width + inside.item[later], had)
    return Repeats(len(later), float(again.mean()), len(np.unique(user[again])) / len(np.unique(user)))
