"""What sources with vectors share: exact search by matrix product, scoring of pairs, the nearest item of a history."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys_cli.arrays import distinct
from recsys_cli.data.state import State
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import MaxAge
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import shown_columns, topk
from recsys_cli.retrieval.vectors.approximate_index import DEPTH, FILE, LARGE, ApproximateIndex, Choosable
from recsys_cli.retrieval.vectors.nearest import nearest_rows
from recsys_cli.retrieval.vectors.products import product, unit

CELLS_AT_ONCE = 4_000_000
CELLS_NEAR = 2**18
"""Numbers of gathered vectors that stay near the processor."""


class ItemIndex:
    """Item vectors float32[n, D] and which of them may be proposed, `known` bool[n].

    In catalogues of more than `index.LARGE` items `prepare` makes an approximate index. It is asked where that costs
    less than the exact product of a user with all items that may be proposed.
    """

    def __init__(
        self, vectors: np.ndarray, known: np.ndarray, max_age_days: MaxAge, previous: ItemIndex | None = None
    ):
        """previous: of the first of these vectors; its approximate index is taken over and takes in the others."""
        self.vectors = vectors
        self.known = known
        self.approximate: ApproximateIndex | None = None
        if previous is not None and previous.approximate is not None:
            self.approximate = previous.approximate
            self.approximate.extend(vectors, known)
        self._max_age_days = max_age_days
        self._allowed = PerState(self._may)
        self._choosable = PerState(lambda state: Choosable.of(self._allowed(state)))
        self._columns = PerState(self._select)

    def prepare(self, queries: np.ndarray | None = None, seed: int = 0) -> dict:
        """Make the approximate index where the catalogue is large; returns what is used, with what was measured.

        queries: float32[Q, D] vectors of users on which recall is measured.
        """
        items = int(np.count_nonzero(self.known))
        if items <= LARGE:
            return {"kind": "exact", "items": items, f"recall@{DEPTH}": 1.0}
        if self.approximate is None:
            self.approximate = ApproximateIndex.build(self.vectors, self.known, queries, seed=seed)
        return self.approximate.report

    def write(self, folder: Path) -> None:
        """Write the approximate index, if there is one."""
        if self.approximate is not None:
            self.approximate.save(folder)

    def read(self, folder: Path) -> None:
        """Take up the approximate index that `write` left, if it did; raises ArtifactError where it is unusable."""
        if (folder / FILE).is_file():
            self.approximate = ApproximateIndex.load(folder, self.vectors)

    def _may(self, state: State) -> np.ndarray:
        """bool[n]: may be proposed."""
        n = state.catalogue.n_items
        allowed = eligible(state, self._max_age_days)
        mine = min(n, len(self.vectors))
        allowed[mine:] = False
        allowed[:mine] &= self.known[:mine]
        return allowed

    def _select(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(items int32[m] that may be proposed, their vectors, item → its place among them or -1)."""
        n, allowed = state.catalogue.n_items, self._allowed(state)
        items = np.flatnonzero(allowed).astype(np.int32)
        place = np.full(n, -1, np.int32)
        place[items] = np.arange(len(items))
        return items, np.ascontiguousarray(self.vectors[items]), place

    def search(
        self, state: State, users: np.ndarray, vectors: np.ndarray, known: np.ndarray, k: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best k items by dot product; empty rows where `known` bool[B] is False."""
        if self.approximate is not None and self.approximate.pays(self._choosable(state).count, k):
            return self._search_large(state, users, vectors, known, k, exclude_seen)
        items, table, place = self._columns(state)
        out = np.full((len(users), k), -1, np.int32)
        scores = np.full((len(users), k), -np.inf, np.float32)
        rows = np.flatnonzero(known)
        for part in chunks(np.full(len(rows), len(items) + k), CELLS_AT_ONCE):
            at = rows[part]
            products = product(vectors[at], table.T)
            seen = shown_columns(state.seen, users[at], place) if exclude_seen else None
            found, scores[at] = topk(products, k, seen)
            out[at] = np.where(found >= 0, np.append(items, np.int32(-1))[found], -1)
        return out, scores

    def _search_large(
        self, state: State, users: np.ndarray, vectors: np.ndarray, known: np.ndarray, k: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        out = np.full((len(users), k), -1, np.int32)
        scores = np.full((len(users), k), -np.inf, np.float32)
        choosable = self._choosable(state)
        for row in np.flatnonzero(known):
            mine = choosable
            if exclude_seen and users[row] >= 0:
                mine = choosable.without(state.seen[users[row]])
            out[row], scores[row] = (found[0] for found in self.approximate.search(vectors[row : row + 1], k, mine))
        return out, scores

    def pair_products(
        self, users_at: np.ndarray, vectors: np.ndarray, known: np.ndarray, items: np.ndarray
    ) -> np.ndarray:
        """float32[B, K] dot products of user `users_at[b]` of `vectors` with each item; 0 where unknown."""
        n = len(self.vectors)
        if not n or not len(vectors):
            return np.zeros(items.shape, np.float32)
        out = np.empty(items.shape, np.float32)
        size = max(1, CELLS_NEAR // max(items.shape[1] * vectors.shape[1], 1))
        for start in range(0, len(items), size):
            part = slice(start, start + size)
            inside = np.minimum(np.maximum(items[part], 0), n - 1)
            product = np.matmul(self.vectors.take(inside, axis=0), vectors[users_at[part], :, None])[..., 0]
            valid = (items[part] >= 0) & (items[part] < n) & self.known[inside] & known[users_at[part], None]
            out[part] = np.where(valid, product, 0)
        return out

    def similar(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k proposable items closest in angle to each of `items` int32[B], best first, without itself."""
        inside = np.clip(items, 0, max(len(self.vectors) - 1, 0))
        has = (items == inside) & (self.known[inside] if len(self.known) else False)
        mine = np.zeros((len(items), self.vectors.shape[1]), np.float32)
        mine[has] = self.vectors[inside[has]]
        allowed, table, _ = self._columns(state)
        found, scores = nearest_rows(mine, has, items, table, np.ones(len(table), bool), k, ids=allowed)
        return found, scores

    def nearest_in_history(self, state: State, user: int, items: np.ndarray, at_least: float) -> list[Reason]:
        """The item of the user's history closest in angle to each item, where it is close enough."""
        history = state.history[user] if user >= 0 else np.zeros(0, np.int32)
        history = distinct(history[history < len(self.vectors)])
        history = history[self.known[history]]
        items = np.asarray(items)
        if not len(history) or not len(items):
            return [Reason("taste")] * len(items)
        inside = np.clip(items, 0, len(self.vectors) - 1)
        cosine = unit(self.vectors[inside]) @ unit(self.vectors[history]).T
        cosine[items[:, None] == history] = -1
        best = cosine.argmax(axis=1)
        close = (cosine.max(axis=1) >= at_least) & (items == inside)
        return [Reason("similar", int(history[b])) if c else Reason("taste") for b, c in zip(best, close, strict=True)]
