"""Why an item stands in a slate, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData
from recsys_cli.retrieval.reason import Reason

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.slate_batch import SlateBatch

# a source nearer to the person comes first when several proposed the item
_TELLING = (
    "again", "follow", "friend", "tie", "circle", "similar", "community", "trending", "taste", "popular", "explore",
)
_PERSONAL = ("again", "follow", "friend", "tie", "circle", "similar", "community", "taste")
"""Reasons that speak of what a user did or whom they follow: true of nobody who did nothing."""



def source_lists(data: AnswerData, batch: SlateBatch, row: int) -> list[list[str]]:
    """Names of the sources that proposed each item of a slate."""
    bits = batch.sources[row][batch.items[row] >= 0]
    return [[s for b, s in enumerate(data.sources) if held >> b & 1] for held in bits]


def reasons_of(data: AnswerData, batch: SlateBatch, row: int, names: list[list[str]]) -> list[str]:
    """Why each item of a slate stands there, in words: what the most telling of its sources (`names`) says.

    Nothing is said of a user's taste or of people they know where nothing is known of them, and nothing is called
    popular or trending that those sources did not propose.
    """
    user = int(batch.users[row])
    items = batch.items[row][batch.items[row] >= 0]
    best: list[Reason | None] = [None] * len(items)
    rank = [len(_TELLING) + 1] * len(items)
    silent = _silent(data, user)
    for source in data.sources:
        at = [i for i in range(len(items)) if source in names[i]]
        if not at or source not in data.bundle.retrievers:
            continue
        for i, reason in zip(at, data.bundle.retrievers[source].explain(data.state, user, items[at]), strict=True):
            place = _TELLING.index(reason.kind) if reason.kind in _TELLING else len(_TELLING)
            if place < rank[i] and reason.kind not in silent:
                best[i], rank[i] = reason, place
    explored = batch.scores.get("explored")
    drawn = np.zeros(len(items)) if explored is None else explored[row]
    promoted = batch.scores.get("promoted")
    paid = np.zeros(len(items)) if promoted is None else promoted[row]
    guest = user >= len(data.bundle.user_ids)
    return [
        ("promoted" if paid[i] else "explored; " if drawn[i] else "")
        + ("" if paid[i] else _proposed(names[i], guest) if reason is None else _sentence(data, reason))
        for i, reason in enumerate(best)
    ]


def _proposed(names: list[str], guest: bool) -> str:
    """What is said where no source gives a reason; what none proposed to somebody new comes of topics that they
    chose."""
    if names:
        return f"proposed by {' and '.join(names)}"
    return "on a topic that you chose" if guest else "no source proposed it"


def _silent(data: AnswerData, user: int) -> tuple[str, ...]:
    """Kinds of reasons that cannot be true of a user."""
    if user < 0:
        return _PERSONAL
    state = data.state
    follows = len(state.follows[user]) > 0
    if len(state.history[user]):
        return () if follows else ("follow", "friend", "circle")
    return ("again", "tie", "similar", "community", "taste") if follows else _PERSONAL


LABEL_LENGTH = 80
"""Characters of a text that stand for it where it has no title."""
MENTION_LENGTH = 40
"""Characters of it within a sentence."""


def label_of(text: str, length: int = LABEL_LENGTH) -> str:
    """A title or the start of a text, on one line of at most `length` characters."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def _called(bundle: Bundle, item: int) -> str:
    """What an item is called in a sentence: its title or the start of its text, else its id."""
    return label_of(bundle.labels[item], MENTION_LENGTH) or str(bundle.item_ids.external([item])[0])


def _sentence(data: AnswerData, reason: Reason) -> str:
    bundle = data.bundle
    known = reason.refers_to >= 0
    if reason.kind == "follow":
        return (
            f"because you follow {bundle.author_ids.external([reason.refers_to])[0]}"
            if known
            else "because you follow the author"
        )
    if reason.kind == "friend":
        return (
            f"{bundle.user_ids.external([reason.refers_to])[0]}, whom you follow, engaged with it"
            if known
            else "people you follow engaged with it"
        )
    if reason.kind == "tie":
        return f"you often engage with {bundle.author_ids.external([reason.refers_to])[0]}"
    if reason.kind == "circle":
        return f"close to {bundle.user_ids.external([reason.refers_to])[0]}, whom you follow"
    if reason.kind == "similar":
        return f"similar to {_called(bundle, reason.refers_to)}" if known else "similar to what you engaged with"
    if reason.kind == "trending":
        names = data.state.catalogue.names.get("topics", [])
        return f"trending in {names[reason.refers_to]}" if known and reason.refers_to < len(names) else "trending now"
    return {
        "taste": "matches your taste", "popular": "popular", "explore": "something new",
        "community": "of interest to a community of yours", "again": "you come back to it",
    }.get(reason.kind, reason.kind)
