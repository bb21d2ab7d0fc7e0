"""Why an item was proposed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why an item was proposed: `kind` picks the sentence, `refers_to` is what it speaks of.

    kinds: "follow" (author position), "similar" (item position from the user's history), "friend" (a user
    position who interacted), "trending" (topic code or -1), "popular" (-1), "taste" (-1), "explore" (-1),
    "tie" (author position, not followed), "circle" (a user position through whom the item was reached),
    "community" (-1), "again" (the item, which the user interacted with before).
    """

    kind: str
    refers_to: int = -1
