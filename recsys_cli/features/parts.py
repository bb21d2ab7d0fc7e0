"""Features of requests in the parts in which they vary, for rankers that begin with a sum over features.

What is summed over a user's features is the same for all candidates, and what is summed over those features of an item
that no request changes is the same for all users: the one is worked out once a user, the other once an item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.features.item_values import ItemValues
from recsys_cli.features.plan import Plan
from recsys_cli.features.registry import family_of

if TYPE_CHECKING:
    from recsys_cli.features.context import Context
    from recsys_cli.features.request import FrozenFeatures

@dataclass(frozen=True)
class FeatureParts:
    """Features of B requests of K items each."""

    plan: PartsPlan
    head: np.ndarray
    """float32[B, H] of users and requests, `plan.head`"""
    pairs: np.ndarray
    """float32[B, K, P] of pairs, and of items what varies with the request, `plan.pairs`"""
    items: np.ndarray
    """int32[B, K] the items, whose features `plan.items` are all the same whoever asks"""

    def column(self, name: str) -> np.ndarray:
        """float32[B, K]: one of the features; of empty slots what is known of no item."""
        plan = self.plan
        if name in plan.head:
            return np.broadcast_to(self.head[:, None, plan.head.index(name)], self.items.shape)
        if name in plan.pairs:
            return self.pairs[..., plan.pairs.index(name)]
        return plan.block.rows(self.items)[..., plan.items.index(name)]


class PartsPlan:
    """How to put together one choice of features in parts; made once per choice and kept with the snapshot."""

    def __init__(self, frozen: FrozenFeatures, columns: tuple[str, ...]):
        """columns: names of features."""
        wanted = set(columns)
        still = [
            f.name for f in frozen.spec.features
            if f.name in wanted and f.place == "item" and not family_of(f.family).moves(f)
        ]
        rest = [f.name for f in frozen.spec.features if f.name in wanted and f.name not in set(still)]
        self._plan = Plan(frozen, tuple(rest))
        names = tuple(f.name for f in self._plan.chosen)
        self.head, self.pairs, self.items = names[: self._plan.head], names[self._plan.head :], tuple(still)
        self.block, self._rows = frozen.values("item", still), len(frozen.item_block)
        self._results: dict[int, tuple[object, ItemValues]] = {}

    def __call__(
        self, users: np.ndarray, items: np.ndarray, context: Context, similarities: dict[str, np.ndarray]
    ) -> FeatureParts:
        """Arguments as of `Snapshot.features`; what is told of empty slots is of no item."""
        return FeatureParts(self, *self._plan.apart(users, items, context, similarities), items)

    def of_items(self, owner: object, width: int, compute: Callable[[np.ndarray], np.ndarray]) -> ItemValues:
        """What `owner` keeps of items. compute: their features float32[m, `items`] → float32[m, width]."""
        held = self._results.get(id(owner))
        if held is None:  # the owner is kept too, so that no other takes its id
            made = ItemValues(self._rows, width, lambda items: compute(self.block.rows(items)))
            held = self._results.setdefault(id(owner), (owner, made))
        return held[1]
