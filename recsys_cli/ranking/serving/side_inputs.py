"""What networks with ids or histories take beside the features, as arrays; light, because serving makes them too.

Every item that a batch of rows is about, or that a history holds, is described once: its position, its author, its
topics and its categorical attributes. Rows and histories point at those descriptions, so that a request of 500
candidates carries the history of its user once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.behaviour import MAX_ACTIONS, UNKNOWN_TIME, Behaviour, Entities
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import HOUR
from recsys_cli.errors import DataError

TOPICS = 3
"""Topics of an item that describe it, the first ones."""
BEFORE_HOURS = 24.0 * 365
"""Age given to what was done before the log begins."""

SIZES = {
    "user": "rows", "items": "items", "candidate": "rows", "history": "askers", "history_facts": "askers",
    "asker": "rows",
}
"""What the first axis of each array counts."""


@dataclass(frozen=True)
class Column:
    """One code of an item: `name` as in the catalogue, `size` codes."""

    name: str
    size: int


@dataclass(frozen=True)
class SideSpec:
    """What a network takes beside the features."""

    ids: tuple[str, ...]
    """user, item and author, as far as their ids enter by themselves"""
    columns: tuple[Column, ...]
    """codes of an item: item, author, and for histories its topics and attributes; "topics" stands for TOPICS codes"""
    length: int
    """interactions of a history, 0 for none"""
    actions: tuple[str, ...]
    """actions that an interaction of a history may carry"""
    users: int
    """users known in training"""

    @classmethod
    def create(cls, ids: tuple[str, ...], length: int, behaviour: Behaviour) -> SideSpec:
        catalogue = behaviour.catalogue
        columns = [Column("item", catalogue.n_items), Column("author", catalogue.n_authors)]
        if length:
            columns += [Column("topics", catalogue.n_topics)] if catalogue.n_topics else []
            columns += [Column(name, int(codes.max(initial=-1)) + 1) for name, codes in catalogue.item_codes.items()]
        return cls(ids, tuple(columns), length, behaviour.actions if length else (), catalogue.n_users)

    @property
    def places(self) -> list[int]:
        """Which of `columns` each code of an item belongs to."""
        return [i for i, c in enumerate(self.columns) for _ in range(TOPICS if c.name == "topics" else 1)]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays, in the order in which the graph takes them."""
        histories = ("history", "history_facts", "asker") if self.length else ()
        return ("user", "items", "candidate", *histories)

    def describe(self, catalogue: Catalogue, items: np.ndarray) -> np.ndarray:
        """int64[m, codes] of items, -1 where a code is unknown."""
        out = []
        for column in self.columns:
            if column.name == "item":
                out.append(items)
            elif column.name == "author":
                out.append(_at(catalogue.item_author, items))
            elif column.name == "topics":
                rows = catalogue.item_topics
                known = np.where((items >= 0) & (items < len(rows)), items, -1)
                count = np.where(known >= 0, rows.lengths[np.maximum(known, 0)], 0) if len(rows) else known * 0
                first = rows.offsets[np.maximum(known, 0)]
                for t in range(TOPICS):
                    at = np.minimum(first + t, max(len(rows.values) - 1, 0))
                    out.append(np.where(t < count, rows.values[at], -1) if len(rows.values) else known * 0 - 1)
            else:
                codes = catalogue.item_codes.get(column.name)
                out.append(np.full(len(items), -1) if codes is None else _at(codes, items))
        return np.stack(out, axis=1).astype(np.int64)

    def arrays(self, entities: Entities | None) -> dict[str, np.ndarray]:
        """The arrays of `inputs` for n rows.

        user int64[n]. items int64[M, codes]: the M items in question. candidate int64[n]: which of them a row is
        about. With histories of U askers: history int64[U, L] (latest first, -1 empty), history_facts
        float32[U, L, 1 + actions]: ln(1 + hours ago), then each action as 0 or 1; asker int64[n].
        Raises DataError without entities.
        """
        if entities is None:
            raise DataError(
                "this ranker reads ids or histories, and the rows do not tell whose they are",
                "give it the entities of the rows",
            )
        user, item = np.asarray(entities.user), np.asarray(entities.item)
        out: dict[str, np.ndarray] = {"user": np.where(user < self.users, user, -1).astype(np.int64)}
        if not self.length:
            distinct, candidate = np.unique(item, return_inverse=True)
            return out | {"items": self.describe(entities.behaviour.catalogue, distinct), "candidate": candidate}
        asker, users, moments = _askers(user, np.asarray(entities.time, np.int64))
        recent, bits, times = entities.behaviour.recent(users, moments, self.length)
        distinct, place = np.unique(np.concatenate([item, recent.ravel()]), return_inverse=True)
        history = np.where(recent >= 0, place[len(item) :].reshape(recent.shape), -1)
        hours = np.where(times == UNKNOWN_TIME, BEFORE_HOURS, (moments[:, None] - times) / HOUR)
        facts = np.zeros((*recent.shape, 1 + len(self.actions)), np.float32)
        facts[..., 0] = np.log1p(np.maximum(hours, 0))
        facts[..., 1:] = self._done(entities.behaviour, bits)
        facts[recent < 0] = 0
        return out | {
            "items": self.describe(entities.behaviour.catalogue, distinct), "candidate": place[: len(item)],
            "history": history, "history_facts": facts, "asker": asker,
        }

    def example(self) -> dict[str, np.ndarray]:
        """Arrays of two rows with empty histories, to trace a graph with."""
        zero, codes = np.zeros(2, np.int64), len(self.places)
        out = {"user": zero, "items": np.zeros((3, codes), np.int64), "candidate": zero}
        if self.length:
            facts = np.zeros((4, self.length, 1 + len(self.actions)), np.float32)
            out |= {"history": np.full(facts.shape[:2], -1), "history_facts": facts, "asker": zero}
        return out

    def _done(self, behaviour: Behaviour, bits: np.ndarray) -> np.ndarray:
        """bool[..., actions] of uint32 bits; actions that the behaviour does not know were not done."""
        known = behaviour.actions[:MAX_ACTIONS]
        one = [np.uint32(1 << known.index(a) if a in known else 0) for a in self.actions]
        return (bits[..., None] & np.array(one, np.uint32)) > 0

    @classmethod
    def from_dict(cls, content: dict) -> SideSpec:
        columns = tuple(Column(**c) for c in content["columns"])
        fixed = {k: tuple(content[k]) for k in ("ids", "actions")}
        return cls(columns=columns, length=content["length"], users=content["users"], **fixed)


def _at(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """values[where], -1 where out of range."""
    inside = (where >= 0) & (where < len(values))
    return np.where(inside, values[np.where(inside, where, 0)], -1) if len(values) else np.full(len(where), -1)


def _askers(user: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which (user, moment) each row belongs to, and the users and moments; rows of one request share one."""
    if len(user) and (time == time[0]).all():
        users, asker = np.unique(user, return_inverse=True)
        return asker, users, np.full(len(users), time[0])
    return np.arange(len(user)), user, time
