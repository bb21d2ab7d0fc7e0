"""Items like an item, users like a user, by any source that measures it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData, six_digits
from recsys_cli.answers.together import together_with
from recsys_cli.errors import UnknownIdError, UsageError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.retrieval.base import Retriever


@dataclass(frozen=True)
class Neighbour:
    """One of the nearest."""

    rank: int
    id: int | str
    score: float
    text: str = ""
    """of an item"""
    author_id: int | str | None = None
    """of an item"""
    topics: tuple[str, ...] = ()
    """of an item"""
    interactions: int = 0
    """with an item, or of a user (those kept in the history)"""
    together: int = 0
    """baskets that it shares with the item, where that was asked for"""


@dataclass(frozen=True)
class Similar:
    """The nearest of one item or user."""

    id: int | str
    kind: str
    """"item" or "user" """
    source: str
    """the source that measured; "visit" or "history" where the lift within one did"""
    nearest: list[Neighbour]
    text: str = ""

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def similar_items(data: AnswerData, item_id: int | str, n: int = 10, source: str | None = None) -> Similar:
    """Items most like one; see `_nearest` for `source` and errors."""
    ids = data.bundle.item_ids
    position = _position(ids, item_id, "item")
    name, found, scores = _nearest(data, "item", position, n, source)
    return Similar(ids.external([position])[0], "item", name, _items(data, found, scores), data.bundle.labels[position])


def items_together(data: AnswerData, item_id: int | str, n: int = 10) -> Similar:
    """Items that are taken together with one; scores are lifts. See `together.together_with`."""
    ids = data.bundle.item_ids
    position = _position(ids, item_id, "item")
    found = together_with(data.state, position, n)
    listed = _items(data, found.items, found.lift)
    listed = [replace(row, together=int(shared)) for row, shared in zip(listed, found.shared, strict=True)]
    return Similar(ids.external([position])[0], "item", found.by, listed, data.bundle.labels[position])


def _items(data: AnswerData, found: np.ndarray, scores: np.ndarray) -> list[Neighbour]:
    ids, catalogue = data.bundle.item_ids, data.state.catalogue
    authors = data.bundle.author_ids.external(catalogue.item_author[found])
    topics = catalogue.names.get("topics", [])
    return [
        Neighbour(
            rank=i + 1,
            id=ids.external([item])[0],
            score=six_digits(scores[i]),
            text=data.bundle.labels[item],
            author_id=authors[i],
            topics=tuple(topics[t] for t in catalogue.item_topics[item]),
            interactions=int(data.state.interactions[item]),
        )
        for i, item in enumerate(found.tolist())
    ]


def similar_users(data: AnswerData, user_id: int | str, n: int = 10, source: str | None = None) -> Similar:
    """Users most like one; see `_nearest` for `source` and errors."""
    ids = data.bundle.user_ids
    position = _position(ids, user_id, "user")
    name, found, scores = _nearest(data, "user", position, n, source)
    touched = data.state.history.lengths
    listed = [
        Neighbour(rank=i + 1, id=ids.external([user])[0], score=six_digits(scores[i]), interactions=int(touched[user]))
        for i, user in enumerate(found.tolist())
    ]
    return Similar(ids.external([position])[0], "user", name, listed)


def _position(ids, wanted: int | str, kind: str) -> int:
    position = ids.position(wanted)
    if position < 0:
        raise UnknownIdError(f"{kind} {wanted!r} is not in the dataset", f"the run knows {len(ids):,} {kind}s")
    return position


def _nearest(
    data: AnswerData, kind: str, position: int, n: int, source: str | None
) -> tuple[str, np.ndarray, np.ndarray]:
    """(name of the source, int32[m] positions, float32[m] scores), m at most n.

    Without a `source` the first of the run that knows anything near is taken. Raises UsageError for a source
    that the run lacks or that measures no likeness.
    """
    if n < 1:
        raise UsageError(f"the {n} nearest", "ask for at least one")
    sources = data.bundle.retrievers
    if source is not None and source not in sources:
        raise UsageError(
            f"the run has no source {source!r}", did_you_mean(source, sources, f"it has {', '.join(sources)}")
        )
    size = data.state.catalogue.n_items if kind == "item" else data.state.catalogue.n_users
    empty, able = None, []
    for name in [source] if source is not None else list(sources):
        answer = _ask(data, sources[name], kind, position, min(n, size))
        if answer is None:
            continue
        able.append(name)
        if len(answer[0]):
            return name, *answer
        empty = empty or (name, *answer)
    if empty is not None:
        return empty
    others = [s for s in sources if source is not None and _ask(data, sources[s], kind, position, 1) is not None]
    hint = f"ask one of {', '.join(others)}" if others else "enable als, two_tower or item_neighbours, and train again"
    raise UsageError(
        f"{source or 'no source of the run'} measures {'no' if source else 'the'} likeness of {kind}s", hint
    )


def _ask(
    data: AnswerData, source: Retriever, kind: str, position: int, k: int
) -> tuple[np.ndarray, np.ndarray] | None:
    ask = source.similar_items if kind == "item" else source.similar_users
    answer = ask(data.state, np.array([position], np.int32), k)
    if answer is None:
        return None
    held = answer[0][0] >= 0
    return answer[0][0][held], answer[1][0][held]
