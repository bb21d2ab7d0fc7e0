"""Families: what impressions and actions are counted over, and the keys by which they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import DAY, HOUR

Place = str
"""Where a feature varies: "user" (one value a user), "context" (a request), "item" (an item), "pair"."""


@dataclass(frozen=True)
class Family:
    """A kind of key with the families whose rates are the prior of its own."""

    name: str
    place: Place
    group: str
    parents: tuple[str, ...]
    of: str
    """What is counted over, in words."""


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family("user", "user", "user", (), "the user"),
        Family("author", "item", "author", (), "the item's author"),
        Family("item", "item", "item", ("author",), "the item"),
        Family("topic", "item", "item", (), "the item's topics, added up"),
        Family("surface", "context", "context", (), "the surface"),
        Family("user_surface", "context", "context", ("user", "surface"), "the user on this surface"),
        Family("item_surface", "pair", "pair", ("item", "surface"), "the item on this surface"),
        Family("user_author", "pair", "pair", ("user", "author"), "the user with this author"),
        Family("user_topic", "pair", "pair", ("user", "topic"), "the user with the item's topics, added up"),
        Family("user_format", "pair", "pair", ("user",), "the user with items of this media type and length"),
        Family("user_item", "pair", "pair", (), "the user with this very item"),
    )
}
_PAIRS = {
    "user_surface": ("user", "surface"), "item_surface": ("item", "surface"), "user_item": ("user", "item"),
    "user_author": ("user", "author"), "user_topic": ("user", "topic"), "user_format": ("user", "format"),
}
CROSSES = ("user_surface", "item_surface", "user_author", "user_topic", "user_format")
DAYPART = 4 * HOUR
"""Length of the parts of the day that "daypart" tells apart."""
CROSS = ":"
_WORDS = {"user": "the user", "item": "the item", "author": "the item's author", "surface": "this surface",
          "daypart": "this part of the day (4 hours, UTC)"}


def cross_name(parts: tuple[str, str]) -> str:
    """Name of the family that counts over two things at once."""
    return CROSS.join(parts)


def place_of(part: str) -> Place:
    """Where one part of a cross varies."""
    head = part.partition(".")[0]
    return "item" if head in ("item", "author") else "user" if head == "user" else "context"


@cache
def family(name: str) -> Family:
    """A family by name; "value_<attribute>" counts over an item attribute, "A:B" over two things at once."""
    if name in FAMILIES:
        return FAMILIES[name]
    if CROSS in name:
        parts = name.split(CROSS)
        places = {place_of(p) for p in parts}
        place = places.pop() if len(places) == 1 else "pair" if "item" in places else "context"
        told = [_WORDS.get(p) or f"{p.partition('.')[0]}s of this {p.partition('.')[2]}" for p in parts]
        parents = tuple(p for p in parts if p in ("user", "item", "author"))
        return Family(name, place, place, parents, " with ".join(told))
    return Family(name, "item", "item", (), f"items whose {name.removeprefix('value_')} is the item's")


@dataclass(frozen=True)
class ItemKeys:
    """What of an item enters keys, prepared once from the catalogue."""

    author: np.ndarray
    """int32[n_items]"""
    format: np.ndarray
    """int32[n_items] media type × length class, -1 where neither is known"""
    topics: np.ndarray
    """int32[n_items, T], -1 fills"""
    values: dict[str, np.ndarray]
    """categorical attribute → int32[n_items]"""
    n_users: int
    n_authors: int
    n_topics: int
    n_formats: int
    n_surfaces: int
    user_values: dict[str, np.ndarray] = field(default_factory=dict)
    """categorical attribute of users in a cross → int32[n_users]"""
    sizes: dict[str, int] = field(default_factory=dict)
    """part of a cross → how many values it has"""

    @classmethod
    def of(cls, catalogue: Catalogue, spec) -> ItemKeys:
        edges = np.asarray(spec.config.length_edges_seconds, np.float32)
        media = catalogue.item_codes.get("media_type")
        seconds = catalogue.item_numbers.get("duration_seconds")
        none = np.full(catalogue.n_items, -1, np.int32)
        media = none if media is None else media
        length = none if seconds is None else np.where(np.isnan(seconds), -1, np.searchsorted(edges, seconds, "right"))
        lengths = len(edges) + 2
        n_media = len(catalogue.names.get("item.media_type", ())) + 1
        parts = [p.split(".", 1) for name in spec.crosses for p in name.split(CROSS) if "." in p]
        of_users = {a for side, a in parts if side == "user"}
        of_items = {a for side, a in parts if side == "item"} | set(spec.value_families)
        values = {a: catalogue.item_codes[a] for a in sorted(of_items)}
        user_values = {a: catalogue.user_codes[a] for a in sorted(of_users)}
        sizes = {f"item.{a}": _top(v) for a, v in values.items()}
        sizes |= {f"user.{a}": _top(v) for a, v in user_values.items()}
        code = ((media + 1) * lengths + length + 1).astype(np.int32)
        return cls(
            author=catalogue.item_author,
            format=np.where((media < 0) & (length < 0), -1, code).astype(np.int32),
            topics=first_values(catalogue.item_topics, spec.config.max_topics),
            values=values,
            user_values=user_values,
            sizes=sizes,
            n_users=catalogue.n_users,
            n_authors=catalogue.n_authors,
            n_topics=max(catalogue.n_topics, _top(catalogue.item_topics.values)),
            n_formats=n_media * lengths,
            n_surfaces=max(spec.n_surfaces, 1),
        )

    def key(self, name: str, user, item, surface, time=None) -> np.ndarray:
        """Keys of a family for users, items, surfaces and moments (µs) of any shapes that broadcast.

        int64, with a further last axis over topics for the topic families; -1 where there is no key. time is asked
        for by families with "daypart" alone.
        """
        user, item = np.asarray(user), np.asarray(item)
        if name == "everything":
            return np.zeros(item.shape, np.int64)
        if name == "topic":
            return _of(self.topics, item).astype(np.int64)
        if name == "user_topic":
            return _pair(user[..., None], _of(self.topics, item), self.n_topics)
        if name in _PAIRS:
            first, second = _PAIRS[name]
        elif CROSS in name:
            first, second = name.split(CROSS)
        else:
            return self._part(name, user, item, surface, time).astype(np.int64)
        asked = (user, item, surface, time)
        return _pair(self._part(first, *asked), self._part(second, *asked), self.width(name))

    def width(self, name: str) -> int:
        """Keys of a family of two things are first · width + second."""
        second = _PAIRS[name][1] if name in _PAIRS else name.rpartition(CROSS)[2]
        fixed = {
            "user": self.n_users, "item": len(self.author), "author": self.n_authors, "topic": self.n_topics,
            "format": self.n_formats, "surface": self.n_surfaces, "daypart": DAY // DAYPART,
        }
        return max(fixed[second] if second in fixed else self.sizes[second], 1)

    def _part(self, name: str, user, item, surface, time) -> np.ndarray:
        if name == "user":
            return user
        if name == "item":
            return item
        if name == "surface":
            return np.asarray(surface)
        if name == "daypart":
            return np.asarray(time) % DAY // DAYPART
        if name == "author":
            return _of(self.author, item)
        if name == "format":
            return _of(self.format, item)
        if name.startswith("user."):
            return _of(self.user_values[name.removeprefix("user.")], user)
        return _of(self.values[name.removeprefix("value_").removeprefix("item.")], item)


def first_values(rows, most: int) -> np.ndarray:
    """int32[n, T] the first `most` different values of each row, -1 fills; T is at least 1."""
    lengths = rows.lengths
    width = max(1, min(most, int(lengths.max(initial=0))))
    out = np.full((len(rows), width), -1, np.int32)
    for t in range(width):
        some = np.flatnonzero(lengths > t)
        values = rows.values[rows.offsets[some] + t]
        repeated = (out[some] == values[:, None]).any(axis=1)
        out[some, t] = np.where(repeated, -1, values)
    return out


def _of(table: np.ndarray, item: np.ndarray) -> np.ndarray:
    if not len(table):
        return np.full(item.shape + table.shape[1:], -1, table.dtype)
    known = table.take(np.maximum(item, 0), axis=0)
    absent = item < 0
    if absent.any():
        known[absent] = -1
    return known


def _pair(first, second, width: int) -> np.ndarray:
    first, second = np.asarray(first), np.asarray(second)
    return np.where((first >= 0) & (second >= 0), first.astype(np.int64) * width + second, -1)


def _top(values: np.ndarray) -> int:
    return int(values.max(initial=-1)) + 1
