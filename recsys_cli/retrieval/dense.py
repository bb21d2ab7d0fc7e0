"""What sources with vectors share: exact search by matrix product, scoring of pairs, the nearest item of a history."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.state import State
from recsys_cli.retrieval.base import MaxAge, PerState, Reason, chunks, eligible, topk
from recsys_cli.retrieval.index import DEPTH, FILE, LARGE, ApproximateIndex

CELLS_AT_ONCE = 4_000_000
SMALL_PRODUCT = 1_000_000


class ItemIndex:
    """Item vectors float32[n, D] and which of them may be proposed, `known` bool[n].

    Exact as long as at most `index.LARGE` items may be proposed: one matrix product then beats any index. Beyond,
    the approximate index is asked, where `prepare` or `read` have made one.
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
        if self.approximate is not None and np.count_nonzero(self._allowed(state)) > LARGE:
            return self._search_large(state, users, vectors, known, k, exclude_seen)
        items, table, place = self._columns(state)
        out = np.full((len(users), k), -1, np.int32)
        scores = np.full((len(users), k), -np.inf, np.float32)
        rows = np.flatnonzero(known)
        for part in chunks(np.full(len(rows), len(items) + k), CELLS_AT_ONCE):
            at = rows[part]
            products = product(vectors[at], table.T)
            seen = None
            if exclude_seen:
                places, shown = state.seen.take(users[at])
                column = place[shown]
                seen = places[column >= 0], column[column >= 0]
            found, scores[at] = topk(products, k, seen)
            out[at] = np.where(found >= 0, np.append(items, np.int32(-1))[found], -1)
        return out, scores

    def _search_large(
        self, state: State, users: np.ndarray, vectors: np.ndarray, known: np.ndarray, k: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        out = np.full((len(users), k), -1, np.int32)
        scores = np.full((len(users), k), -np.inf, np.float32)
        allowed = self._allowed(state)
        for row in np.flatnonzero(known):
            seen = state.seen[users[row]] if exclude_seen and users[row] >= 0 else np.zeros(0, np.int32)
            found, values = self.approximate.search(vectors[row : row + 1], k + len(seen), allowed)
            keep = np.flatnonzero((found[0] >= 0) & ~np.isin(found[0], seen))[:k]
            out[row, : len(keep)], scores[row, : len(keep)] = found[0, keep], values[0, keep]
        return out, scores

    def pair_products(
        self, users_at: np.ndarray, vectors: np.ndarray, known: np.ndarray, items: np.ndarray
    ) -> np.ndarray:
        """float32[B, K] dot products of user `users_at[b]` of `vectors` with each item; 0 where unknown."""
        n = len(self.vectors)
        if not n or not len(vectors):
            return np.zeros(items.shape, np.float32)
        out = np.empty(items.shape, np.float32)
        size = max(1, CELLS_AT_ONCE // max(items.shape[1] * vectors.shape[1], 1))
        for start in range(0, len(items), size):
            part = slice(start, start + size)
            inside = np.clip(items[part], 0, n - 1)
            product = np.matmul(self.vectors[inside], vectors[users_at[part], :, None])[..., 0]
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
        history = np.unique(history[history < len(self.vectors)])
        history = history[self.known[history]]
        items = np.asarray(items)
        if not len(history) or not len(items):
            return [Reason("taste")] * len(items)
        inside = np.clip(items, 0, len(self.vectors) - 1)
        cosine = _unit(self.vectors[inside]) @ _unit(self.vectors[history]).T
        cosine[items[:, None] == history] = -1
        best = cosine.argmax(axis=1)
        close = (cosine.max(axis=1) >= at_least) & (items == inside)
        return [Reason("similar", int(history[b])) if c else Reason("taste") for b, c in zip(best, close, strict=True)]


def nearest_rows(
    vectors: np.ndarray,
    known: np.ndarray,
    own: np.ndarray,
    table: np.ndarray,
    listed: np.ndarray,
    k: int,
    ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of a table closest in angle to each vector, without its own; vectors of length 0 are near nothing.

    vectors: float32[B, D], known: bool[B]. own: int32[B] id to leave out. table: float32[n, D], listed: bool[n].
    ids: int32[n] of the table's rows, by default their positions. Returns ids int32[B, k] (-1 filler) and cosines
    float32[B, k] (-inf filler).
    """
    out, scores = np.full((len(vectors), k), -1, np.int32), np.full((len(vectors), k), -np.inf, np.float32)
    ids = np.arange(len(table), dtype=np.int32) if ids is None else ids
    unit = _unit(table)
    listed = listed & (unit != 0).any(axis=1)
    rows = np.flatnonzero(known & (vectors != 0).any(axis=1))
    for part in chunks(np.full(len(rows), len(table) + k), CELLS_AT_ONCE):
        at = rows[part]
        cosine = np.array(product(_unit(vectors[at]), unit.T))
        cosine[:, ~listed] = -np.inf
        cosine[own[at][:, None] == ids] = -np.inf
        found, scores[at] = topk(cosine, k)
        out[at] = np.where(found >= 0, np.append(ids, np.int32(-1))[found], -1)
    return out, scores


def product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows @ matrix, to the last bit the same for one row alone as for that row among others.

    BLAS has kernels of their own, which add up in another order, for a single row, for products of at most
    SMALL_PRODUCT multiplications and, on some processors, for some places of a block of rows (`_layout`): filler
    rows keep them from being chosen.
    """
    if not len(rows) or not matrix.size:
        return rows @ matrix
    block, used = _layout()
    least = max(2, SMALL_PRODUCT // matrix.size + 1)
    blocks = max(-(-len(rows) // used), -(-least // block))
    if block == 1 and len(rows) == blocks:
        return rows @ matrix
    filled = np.zeros((blocks, block, rows.shape[1]), rows.dtype)
    whole, rest = divmod(len(rows), used)
    filled[:whole, :used] = rows[: whole * used].reshape(whole, used, rows.shape[1])
    if rest:
        filled[whole, :rest] = rows[whole * used :]
    out = (filled.reshape(blocks * block, -1) @ matrix).reshape(blocks, block, matrix.shape[1])[:, :used]
    return out.reshape(-1, matrix.shape[1])[: len(rows)]


@cache
def _layout() -> tuple[int, int]:
    """(rows of a block, rows of it that count): the first so many places of every block, in a product of whole blocks,
    are added up in one order by this machine's BLAS. Found by multiplying one row in many places; (1, 1) where the
    place makes no difference."""
    rng = np.random.default_rng(0)
    row, matrix = rng.standard_normal((1, 64), np.float32), rng.standard_normal((512, 64), np.float32).T
    products = [np.repeat(row, n * 48, axis=0) @ matrix for n in (1, 2, 3)]
    found, best = (1, 1), 0.0
    for block in (1, 2, 4, 8, 12, 16, 24, 48):
        same = np.concatenate([(p == products[0][0]).all(axis=1) for p in products]).reshape(-1, block).all(axis=0)
        used = block if same.all() else int(np.argmin(same))
        if used / block > best:
            found, best = (block, used), used / block
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def ragged_of(histories: list[np.ndarray]) -> Ragged:
    """Lists of items as one Ragged of int32."""
    offsets = offsets_of(np.array([len(h) for h in histories], np.int64))
    values = np.concatenate([np.asarray(h) for h in histories]) if len(histories) else np.zeros(0)
    return Ragged(offsets, values.astype(np.int32))


def unique_users(users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(each user once, place of every row's user among them); one user alone costs no sort."""
    users = np.asarray(users)
    if len(users) == 1:
        return users, np.zeros(1, np.int64)
    return np.unique(users, return_inverse=True)
