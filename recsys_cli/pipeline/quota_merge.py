"""Lists of sources merged by place, as `sourcing.merge` does with an order, by tables of all items.

What stands in several lists is found by writing into a table where it stands, in place of sorting all proposals.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from recsys_cli.arrays import distinct
from recsys_cli.pipeline.candidates import Candidates

_KEPT = threading.local()
NOWHERE = np.int64(2**40)
SCANNED = 2**16
"""Items up to which the table is looked through for what was proposed; beyond that the proposals are sorted."""


@dataclass(frozen=True)
class Lists:
    """What is the same for every user: depths and budgets of the lists, in the order in which they stand."""

    names: tuple[str, ...]
    depths: tuple[int, ...]
    budgets: tuple[int, ...]
    """candidates that each is to give: its k-th place is taken as early as another's k-th"""

    @property
    def shape(self) -> Shape:
        """Columns of the lists beside each other."""
        return _shape(self.depths, self.budgets)


@dataclass(frozen=True)
class Shape:
    """Columns of lists beside each other; K of them, of S lists."""

    late_first: np.ndarray
    """int64[K] columns in falling order of their place, so that the earliest is written last"""
    place: np.ndarray
    """float32[K] share of its list's budget at which each of those stands"""
    of: np.ndarray
    """int64[K] list of each column"""
    rank: np.ndarray
    """float32[K] place from 1 of each column in its list"""


@lru_cache(maxsize=64)
def _shape(depths: tuple[int, ...], budgets: tuple[int, ...]) -> Shape:
    ranks = [np.arange(1, depth + 1, dtype=np.float32) for depth in depths]
    place = np.concatenate([rank / np.float32(k) for rank, k in zip(ranks, budgets, strict=True)])
    late_first = np.argsort(-place, kind="stable")
    of = np.repeat(np.arange(len(depths)), depths)
    return Shape(late_first, place[late_first], of, np.concatenate(ranks))


def merge_by_place(
    lists: Lists, items: np.ndarray, marks: np.ndarray, weights: np.ndarray, limit: int, n_items: int
) -> Candidates | None:
    """The `limit` candidates of each row that stand first in any of the lists, as `sourcing.merge` gives them with
    `order` and `lists`; None where a list names an item twice.

    items: int32[B, K] the lists beside each other, -1 where empty. marks: uint32[S] bit of each list. weights:
    float32[K] of a place, or float32[B, K].
    """
    shape, batch = lists.shape, len(items)
    found = [_chosen(row, shape, limit, n_items) for row in items]
    width = max((len(chosen) for chosen in found), default=0)
    out = Candidates(
        np.full((batch, width), -1, np.int32), np.zeros((batch, width), np.uint32),
        {"rrf": np.zeros((batch, width), np.float32)},
    )
    cells, proposals = len(marks) * batch * width, np.int64(0)
    ranks = np.zeros(cells + 1, np.float32)  # the last cell takes what was not chosen
    first, slots = shape.of * (batch * width), _table("slot", n_items + 1, np.int64, NOWHERE)
    bits = marks[shape.of].astype(np.float64)
    for row, chosen in enumerate(found):
        m = len(chosen)
        slots[chosen] = np.arange(m)
        at = slots.take(items[row])
        slots[chosen] = NOWHERE
        ranks[np.minimum(first + at + row * width, cells)] = shape.rank
        at = np.minimum(at, m)
        held, weight = np.bincount(at, bits, m + 1), weights if weights.ndim == 1 else weights[row]
        out.items[row, :m], out.sources[row, :m] = chosen, held[:m]
        out.scores["rrf"][row, :m] = np.bincount(at, weight, m + 1)[:m]
        proposals += np.count_nonzero(at < m)
    by_list = ranks[:cells].reshape(len(marks), batch, width)
    if np.count_nonzero(by_list) != proposals:
        return None
    return out.with_scores(**{f"rank_{name}": values for name, values in zip(lists.names, by_list, strict=True)})


def _chosen(items: np.ndarray, shape: Shape, limit: int, n_items: int) -> np.ndarray:
    """int64[m] ascending: the `limit` items of int32[K] that stand first in any list, of equal ones the lower."""
    place = _table("place", n_items + 1, np.float32, np.inf)
    place[items.take(shape.late_first)] = shape.place
    place[n_items] = np.inf
    every = np.flatnonzero(place[:n_items] < np.inf) if n_items <= SCANNED else distinct(items[items >= 0])
    earliest = place.take(every)
    place[every] = np.inf
    if len(every) <= limit:
        return every
    # floats that are not negative order like their bits, so that ties can be told apart below them
    keys = (earliest.view(np.int32).astype(np.int64) << 32) + np.arange(len(every))
    return every[keys <= np.partition(keys, limit - 1)[limit - 1]]


def _table(name: str, size: int, kind: type, filler: float | np.integer) -> np.ndarray:
    """An array of at least that size, full of the filler; whoever writes into it wipes what was written. Kept by each
    thread."""
    table = getattr(_KEPT, name, None)
    if table is None or len(table) < size:
        table = np.full(max(size, 2**14), filler, kind)
        setattr(_KEPT, name, table)
    return table
