"""How the features of a batch of requests are put together from a snapshot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.features.context import Context
from recsys_cli.features.evaluate import by_family
from recsys_cli.features.family import CountedFamily, FeatureFamily
from recsys_cli.features.request import FrozenFeatures, Request
from recsys_cli.features.rows import as_slice
from recsys_cli.features.spec import Feature


class Plan:
    """How to put together one choice of columns; made once per choice and kept.

    Features of users and requests are the same for every item: they are put together in a head of [B, H] and copied
    to all items at the end, for whoever wants a row an item.
    """

    def __init__(self, frozen: FrozenFeatures, columns: tuple[str, ...] | None):
        """columns: names of features, None for all; raises KeyError for one that is not in the spec."""
        spec = frozen.spec
        wanted = set(spec.names if columns is None else columns)
        unknown = wanted - set(spec.names)
        if unknown:
            raise KeyError(f"no feature {sorted(unknown)[0]!r}")
        self.frozen = frozen
        self.chosen = [f for f in spec.features if f.name in wanted]
        names = [f.name for f in self.chosen]
        self.order = None if columns is None or list(columns) == names else [names.index(c) for c in columns]
        self.head = sum(f.place in ("user", "context") for f in self.chosen)
        self.at = {name: i - self.head if i >= self.head else i for i, name in enumerate(names)}
        self.of_head = frozenset(names[: self.head])
        of = {place: [f.name for f in self.chosen if f.place == place] for place in ("user", "item")}
        self.users, self.items = (frozen.values(place, of[place]) for place in ("user", "item"))
        self.user_part, self.item_part = slice(len(of["user"])), slice(len(of["item"]))
        self.parts = [(family, mine, family.prepare(mine, frozen)) for family, mine in _parts(self.chosen)]
        self._places: dict[tuple[str, ...], slice | list[int]] = {}

    def __call__(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray]
    ) -> np.ndarray:
        """float32[B, K, columns], see `Snapshot.features`."""
        out = np.zeros((*items.shape, len(self.chosen)), np.float32)
        out[..., : self.head] = self._fill(out[..., self.head :], users, items, context, similarities)[:, None]
        empty = items < 0
        if empty.any():
            out[empty] = 0
        return out if self.order is None else out.take(self.order, axis=-1)

    def apart(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, H] features of users and requests, and float32[B, K, rest] the others, in the order of `chosen`;
        those of empty slots are of no item."""
        rest = np.zeros((*items.shape, len(self.chosen) - self.head), np.float32)
        return self._fill(rest, users, items, context, similarities), rest

    def _fill(
        self, out: np.ndarray, users: np.ndarray, items: np.ndarray, context: Context,
        similarities: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Writes the features that are not of the head into zeros [B, K, rest]; returns the head [B, H]."""
        head = np.zeros((len(users), self.head), np.float32)
        if self.user_part.stop:
            head[:, self.user_part] = self.users.rows(users)
        if self.item_part.stop:
            out[..., self.item_part] = self.items.rows(items)
        request = Request(self.frozen, users, items, context, similarities)
        for family, features, held in self.parts:
            for names, values in family.serve(features, request, held):
                self._write(out, head, names, values)
        return head

    def _write(self, out: np.ndarray, head: np.ndarray, names: str | tuple[str, ...], values: np.ndarray) -> None:
        first = names if isinstance(names, str) else names[0]
        target = head if first in self.of_head else out
        at = self.at[first] if isinstance(names, str) else self._place(names)
        if target is head and np.ndim(values) == (2 if isinstance(names, str) else 3):
            values = values[:, 0]
        target[..., at] = values

    def _place(self, names: tuple[str, ...]) -> slice | list[int]:
        if names not in self._places:
            self._places[names] = as_slice([self.at[name] for name in names])
        return self._places[names]


def _parts(features: list[Feature]) -> Iterator[tuple[FeatureFamily, list[Feature]]]:
    """Families with their features; those that are counted come key by key, so that they share what is found."""
    families = list(by_family(features))
    for family, mine in families:
        if not isinstance(family, CountedFamily):
            yield family, mine
    for key in dict.fromkeys(f.key for f in features):
        for family, mine in families:
            counted = [f for f in mine if f.key == key] if isinstance(family, CountedFamily) else []
            if counted:
                yield family, counted
