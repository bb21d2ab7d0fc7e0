"""Counting keys: what impressions and actions are counted over, as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.features.config import FeatureConfig

Place = str
"""Where a feature varies: "user" (one value a user), "context" (a request), "item" (an item), "pair"."""


@dataclass(frozen=True)
class CountingKey:
    """A kind of key, with the keys whose rates are the prior of its own."""

    name: str
    place: Place
    group: str
    parents: tuple[str, ...]
    of: str
    """What is counted over, in words."""


KEYS: dict[str, CountingKey] = {
    f.name: f
    for f in (
        CountingKey("user", "user", "user", (), "the user"),
        CountingKey("author", "item", "author", (), "the item's author"),
        CountingKey("item", "item", "item", ("author",), "the item"),
        CountingKey("topic", "item", "item", (), "the item's topics, added up"),
        CountingKey("surface", "context", "context", (), "the surface"),
        CountingKey("user_surface", "context", "context", ("user", "surface"), "the user on this surface"),
        CountingKey("item_surface", "pair", "pair", ("item", "surface"), "the item on this surface"),
        CountingKey("user_author", "pair", "pair", ("user", "author"), "the user with this author"),
        CountingKey("user_topic", "pair", "pair", ("user", "topic"), "the user with the item's topics, added up"),
        CountingKey("user_format", "pair", "pair", ("user",), "the user with items of this media type and length"),
        CountingKey("user_item", "pair", "pair", (), "the user with this very item"),
    )
}
PAIR_KEYS = ("user_surface", "item_surface", "user_author", "user_topic", "user_format")
DAYPART = 4 * HOUR
"""Length of the parts of the day that "daypart" tells apart."""
CROSS = ":"
"""Between the two parts of a cross."""
VALUE = "value_"
"""Before the categorical item attribute whose values are counted over."""
_WORDS = {"user": "the user", "item": "the item", "author": "the item's author", "surface": "this surface",
          "daypart": "this part of the day (4 hours, UTC)"}


def place_of(part: str) -> Place:
    """Where one part of a cross varies."""
    head = part.partition(".")[0]
    return "item" if head in ("item", "author") else "user" if head == "user" else "context"


@cache
def counting_key(name: str) -> CountingKey:
    """A key by name; "value_<attribute>" counts over an item attribute, "A:B" over two things at once."""
    if name in KEYS:
        return KEYS[name]
    if CROSS in name:
        parts = name.split(CROSS)
        places = {place_of(p) for p in parts}
        place = places.pop() if len(places) == 1 else "pair" if "item" in places else "context"
        told = [_WORDS.get(p) or f"{p.partition('.')[0]}s of this {p.partition('.')[2]}" for p in parts]
        parents = tuple(p for p in parts if p in ("user", "item", "author"))
        return CountingKey(name, place, place, parents, " with ".join(told))
    return CountingKey(name, "item", "item", (), f"items whose {name.removeprefix('value_')} is the item's")


def parts_of(name: str) -> list[str]:
    """The one or two things that a key is of."""
    return name.split("_" if name in KEYS else CROSS)


def possible_keys(names: Sequence[str], catalogue: Catalogue, surfaces: Sequence[str]) -> list[str]:
    """Those of `names` that the dataset's columns give."""
    has_author, has_topics = bool(catalogue.n_authors), len(catalogue.item_topics.values) > 0
    has_format = "media_type" in catalogue.item_codes or "duration_seconds" in catalogue.item_numbers
    missing = set() if has_author else {"author", "user_author"}
    missing |= set() if has_topics else {"topic", "user_topic"}
    missing |= set() if has_format else {"user_format"}
    missing |= set() if surfaces else {"surface", "user_surface", "item_surface"}
    return [name for name in dict.fromkeys(names) if name not in missing]


def configured_keys(config: FeatureConfig, catalogue: Catalogue, surfaces: Sequence[str]) -> list[str]:
    """What is counted over as `families`, `attribute_families` and `crosses` say, as far as the dataset has it.

    Raises ConfigError for an attribute that items lack and for a part of a cross that no dataset can have.
    """
    out = possible_keys(config.families, catalogue, surfaces)
    for attribute in dict.fromkeys(config.attribute_families):
        if attribute not in catalogue.item_codes:
            raise ConfigError(
                f"features.attribute_families: items have no category {attribute!r}",
                did_you_mean(
                    attribute, catalogue.item_codes, f"they have {', '.join(sorted(catalogue.item_codes)) or 'none'}"
                ),
            )
        out.append(VALUE + attribute)
    return out + [CROSS.join(c) for c in dict.fromkeys(config.crosses) if _crossable(c, catalogue, surfaces)]


def _crossable(parts: tuple[str, str], catalogue: Catalogue, surfaces: Sequence[str]) -> bool:
    """Whether the dataset has both; raises ConfigError where a part can be none of any dataset."""
    there = {
        "user": True, "item": True, "author": bool(catalogue.n_authors), "surface": bool(surfaces), "daypart": True
    }
    for part in parts:
        side, dot, name = part.partition(".")
        if dot and side in ("user", "item") and name:
            there[part] = name in getattr(catalogue, f"{side}_codes")
        elif part not in there:
            raise ConfigError(
                f"features.crosses: {part!r} is nothing to count over",
                f"a part is one of {', '.join(there)}, user.ATTRIBUTE, item.ATTRIBUTE",
            )
    if parts[0] == parts[1]:
        raise ConfigError(f"features.crosses: {parts[0]!r} is crossed with itself", "name two different parts")
    return all(there[p] for p in parts)


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
    def of(cls, catalogue: Catalogue, config: FeatureConfig, used: Sequence[str], n_surfaces: int) -> ItemKeys:
        """What the keys `used` are made of. n_surfaces: surfaces that the log tells apart."""
        edges = np.asarray(config.length_edges_seconds, np.float32)
        media = catalogue.item_codes.get("media_type")
        seconds = catalogue.item_numbers.get("duration_seconds")
        none = np.full(catalogue.n_items, -1, np.int32)
        media = none if media is None else media
        length = none if seconds is None else np.where(np.isnan(seconds), -1, np.searchsorted(edges, seconds, "right"))
        lengths = len(edges) + 2
        n_media = len(catalogue.names.get("item.media_type", ())) + 1
        parts = [p.split(".", 1) for name in used if CROSS in name for p in name.split(CROSS) if "." in p]
        of_users = {a for side, a in parts if side == "user"}
        of_items = {a for side, a in parts if side == "item"}
        of_items |= {name.removeprefix(VALUE) for name in used if name.startswith(VALUE)}
        values = {a: catalogue.item_codes[a] for a in sorted(of_items)}
        user_values = {a: catalogue.user_codes[a] for a in sorted(of_users)}
        sizes = {f"item.{a}": _top(v) for a, v in values.items()}
        sizes |= {f"user.{a}": _top(v) for a, v in user_values.items()}
        code = ((media + 1) * lengths + length + 1).astype(np.int32)
        return cls(
            author=catalogue.item_author,
            format=np.where((media < 0) & (length < 0), -1, code).astype(np.int32),
            topics=first_values(catalogue.item_topics, config.max_topics),
            n_topics=max(catalogue.n_topics, _top(catalogue.item_topics.values)),
            values=values, user_values=user_values, sizes=sizes, n_users=catalogue.n_users,
            n_authors=catalogue.n_authors, n_formats=n_media * lengths, n_surfaces=max(n_surfaces, 1),
        )

    def key(
        self, name: str, user: ArrayLike, item: ArrayLike, surface: ArrayLike | None, time: ArrayLike | None = None
    ) -> np.ndarray:
        """Keys for users, items, surfaces and moments (µs) of any shapes that broadcast.

        int64, with a further last axis over topics for those of topics; -1 where there is no key. time is asked
        for by those with "daypart" alone.
        """
        user, item = np.asarray(user), np.asarray(item)
        if name == "everything":
            return np.zeros(item.shape, np.int64)
        if name == "topic":
            return _of(self.topics, item).astype(np.int64)
        if name == "user_topic":
            return _pair(user[..., None], _of(self.topics, item), self.n_topics)
        parts = [self._part(part, user, item, surface, time) for part in parts_of(name)]
        return _pair(parts[0], parts[1], self.width(name)) if len(parts) == 2 else parts[0].astype(np.int64)

    def second(
        self, name: str, item: ArrayLike, surface: ArrayLike | None, time: ArrayLike | None = None
    ) -> np.ndarray:
        """The second part of keys "user_…" or "user:…", of the same shapes; -1 where there is none."""
        if name == "user_topic":
            return _of(self.topics, np.asarray(item))
        return np.asarray(self._part(parts_of(name)[1], None, np.asarray(item), surface, time))

    def width(self, name: str) -> int:
        """Keys of two things are first · width + second."""
        second = parts_of(name)[-1]
        fixed = {
            "user": self.n_users, "item": len(self.author), "author": self.n_authors, "topic": self.n_topics,
            "format": self.n_formats, "surface": self.n_surfaces, "daypart": DAY // DAYPART,
        }
        return max(fixed[second] if second in fixed else self.sizes[second], 1)

    def _part(
        self, name: str, user: np.ndarray | None, item: np.ndarray, surface: ArrayLike | None, time: ArrayLike | None
    ) -> np.ndarray:
        if name == "user":
            assert user is not None  # it is the first part of a key, which alone is asked for with users
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
            assert user is not None  # likewise
            return _of(self.user_values[name.removeprefix("user.")], user)
        return _of(self.values[name.removeprefix(VALUE).removeprefix("item.")], item)


def first_values(rows: Ragged, most: int) -> np.ndarray:
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


def _pair(first: np.ndarray, second: np.ndarray, width: int) -> np.ndarray:
    return np.where((first >= 0) & (second >= 0), first.astype(np.int64) * width + second, -1)


def _top(values: np.ndarray) -> int:
    return int(values.max(initial=-1)) + 1
