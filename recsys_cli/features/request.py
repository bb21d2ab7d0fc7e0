"""What a batch of requests is served from: the arrays of a snapshot, seen from the users and items asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recsys_cli.features.context import Context
from recsys_cli.features.keys import ItemKeys, counting_key
from recsys_cli.features.pair_counters import FoundCounters, PairCounters
from recsys_cli.features.spec import FeatureSpec


@dataclass(frozen=True)
class FrozenFeatures:
    """Feature values of every user and item, and counters of every pair that occurred, as of `now`."""

    spec: FeatureSpec
    now: int
    """µs"""
    keys: ItemKeys
    user_block: np.ndarray
    """float32[n_users + 1, user features], the last row for unknown users"""
    item_block: np.ndarray
    """float32[n_items + 1, item features], likewise"""
    everything: dict[str, float]
    """log-odds of each action, mean dwell and completion, over all impressions"""
    usual: dict[str, float]
    """surface, device and further columns of impressions → the commonest code or the mean; -1 or NaN where nothing is
    known"""
    pairs: dict[str, PairCounters]
    """key of pairs → its counters"""
    arrays: dict[str, dict[str, np.ndarray]]
    """family → what it froze"""
    _cache: dict[tuple[str, ...] | None, Any] = field(default_factory=dict, repr=False, compare=False)
    _parts: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def values(self, place: str, names: Sequence[str]) -> Block:
        """Frozen values of features of users ("user") or items ("item")."""
        return Block(self.user_block if place == "user" else self.item_block, self.held(place), names, place == "user")

    def held(self, place: str) -> list[str]:
        """Names of the columns of `user_block` or `item_block`."""
        return [f.name for f in self.spec.features if f.place == place]


class Block:
    """Some columns of a matrix with one row a user, item or surface, the last one for the unknown."""

    def __init__(self, block: np.ndarray, held: Sequence[str], names: Sequence[str], few: bool = False):
        """held: names of all columns. names: those chosen. few: few rows are asked for at once."""
        at = [held.index(name) for name in names]
        every = at == list(range(len(held)))
        # a request asks for few users but many items: columns of items are worth a copy side by side
        self._copied = every or not few
        self._block = block if every or few else np.ascontiguousarray(block[:, at])
        self._at = at

    def rows(self, who: np.ndarray) -> np.ndarray:
        """float32[..., columns]; -1 takes the last row, which stands for the unknown."""
        values = self._block.take(who, axis=0, mode="wrap")
        return values if self._copied else values[..., self._at]


class Request:
    """B requests of K items each, and what the snapshot tells of them."""

    def __init__(
        self, frozen: FrozenFeatures, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray],
    ):
        """users: int32[B], items: int32[B, K], -1 unknown or empty. similarities: retriever → float32[B, K]."""
        self.frozen, self.users, self.items, self.context = frozen, users, items, context
        self.similarities, self.now = similarities, context.now
        self._counted: tuple[str, FoundCounters] | None = None

    @property
    def later(self) -> int:
        """µs since the snapshot was taken, at least 0."""
        return max(self.now - self.frozen.now, 0)

    def told(self, name: str) -> np.ndarray | float:
        """[B] "surface", "device" or a further column of impressions, as the requests tell; or its usual value."""
        given = getattr(self.context, name) if name in ("surface", "device") else self.context.more.get(name)
        return self.frozen.usual[name] if given is None else np.asarray(given)

    @cached_property
    def surface(self) -> np.ndarray:
        """int16[B] codes, -1 unknown"""
        return np.broadcast_to(np.asarray(self.told("surface"), np.int16), self.users.shape)

    @cached_property
    def author(self) -> np.ndarray:
        """int32[B, K] the items' authors, -1 unknown"""
        return self.frozen.keys.key("author", self.users[:, None], self.items, None)

    def of_user(self, feature: str) -> np.ndarray:
        """float32[B]: what the snapshot keeps of a feature of users."""
        at = self.frozen.held("user").index(feature)
        return self.frozen.user_block[:, at].take(self.users, mode="wrap")

    def who(self, key: str) -> np.ndarray:
        """Users [B, 1], items [B, K] or surfaces [B, 1]: where a key of one of them varies."""
        place = counting_key(key).place
        return (self.surface if place == "context" else self.users)[:, None] if place != "item" else self.items

    def counted(self, key: str) -> FoundCounters:
        """Counters of the requests' keys: of [B, K] pairs, or of [B, 1] where a key varies with the request alone."""
        if self._counted is None or self._counted[0] != key:
            users, pairs = self.users[:, None], counting_key(key).place == "pair"
            items = self.items if pairs else np.full(users.shape, -1)
            asked = key, users, items, self.surface[:, None], self.now
            self._counted = key, self.frozen.pairs[key].find(self.frozen.keys, *asked)
        return self._counted[1]
