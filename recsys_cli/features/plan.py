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
    to all items at the end.
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
        self.at = {name: i for i, name in enumerate(names)}
        self.head = sum(f.place in ("user", "context") for f in self.chosen)
        of = {place: [f.name for f in self.chosen if f.place == place] for place in ("user", "item")}
        self.users, self.items = (frozen.values(place, of[place]) for place in ("user", "item"))
        self.user_part, self.item_part = slice(len(of["user"])), slice(self.head, self.head + len(of["item"]))
        self.parts = [(family, mine, family.prepare(mine, frozen)) for family, mine in _parts(self.chosen)]
        self._places: dict[tuple[str, ...], slice | list[int]] = {}

    def __call__(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray]
    ) -> np.ndarray:
        """float32[B, K, columns], see `Snapshot.features`."""
        batch, slots = items.shape
        out = np.zeros((batch, slots, len(self.chosen)), np.float32)
        head = np.zeros((batch, self.head), np.float32)
        if self.user_part.stop:
            head[:, self.user_part] = self.users.rows(users)
        if self.item_part.start < self.item_part.stop:
            out[..., self.item_part] = self.items.rows(items)
        request = Request(self.frozen, users, items, context, similarities)
        for family, features, held in self.parts:
            for names, values in family.serve(features, request, held):
                self._write(out, head, names, values)
        out[..., : self.head] = head[:, None]
        empty = items < 0
        if empty.any():
            out[empty] = 0
        return out if self.order is None else out.take(self.order, axis=-1)

    def _write(self, out: np.ndarray, head: np.ndarray, names: str | tuple[str, ...], values: np.ndarray) -> None:
        first = names if isinstance(names, str) else names[0]
        target = head if self.at[first] < self.head else out
        at = self.at[first] if isinstance(names, str) else self._place(names)
        if target is head and np.ndim(values) == np.ndim(head[..., at]) + 1:
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
