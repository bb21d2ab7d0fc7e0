"""What sources that know order share: a map from each event of a history to every item, asked with the latest most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import (
    ArrayRetriever,
    MaxAge,
    PerState,
    Reason,
    RetrieverConfig,
    Window,
    chunks,
    eligible,
    topk,
)
from recsys_cli.retrieval.dense import ragged_of, unique_users
from recsys_cli.retrieval.gaps import decayed, ordered_histories

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CELLS_AT_ONCE = 4_000_000
Decay = Annotated[float, Field(gt=0, le=1)]


class OrderedConfig(RetrieverConfig):
    """What all sources of this kind have."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    history: PositiveInt = 100
    """Latest events of a user that are asked with."""
    query_decay: Decay = 0.9
    """What an event counts of the one after it when asked; 1 makes all equal."""
    neighbours: PositiveInt | None = 1_000
    """Strongest weights kept for each item; null keeps all."""


@dataclass(frozen=True)
class RowStack:
    """Compressed rows that come in blocks, one after the other, as in `gaps.gap_sums`."""

    lengths: list[np.ndarray]
    columns: list[np.ndarray]
    weights: list[np.ndarray]

    @classmethod
    def empty(cls) -> RowStack:
        return cls([], [], [])

    def add(self, rows: csr_matrix) -> None:
        """Append the rows of a block, columns ascending."""
        self.lengths.append(np.diff(rows.indptr).astype(np.int64))
        self.columns.append(rows.indices.astype(np.int32))
        self.weights.append(rows.data.astype(np.float32))

    def arrays(self, known: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of an `OrderedFilter`."""
        none = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        lengths, columns, weights = (
            np.concatenate(mine or empty)
            for mine, empty in zip((self.lengths, self.columns, self.weights), none, strict=True)
        )
        return {"offsets": offsets_of(lengths), "columns": columns, "weights": weights, "known": known}


class OrderedFilter(ArrayRetriever):
    """score(u, ·) = Σ_k d^k · B[h_k] / Σ_k d^k over the latest events h_0, h_1, … of u, h_0 being the last.

    B is kept in compressed rows: `offsets` int64[n + 1], `columns` int32[m] ascending within a row, `weights`
    float32[m]; `known` bool[n] are the items that have a row and may be proposed. Nothing is kept of any user: whoever
    has a history is served, in training or not, and a new event counts at once. Every user's score is summed alone,
    so that company changes nothing. A family says in `learn` how B follows from the histories.
    """

    part: ClassVar = "ordered.bin"
    parts: ClassVar = ("offsets", "columns", "weights", "known")
    config: OrderedConfig
    positive: ClassVar[bool] = False
    """Whether only items with a score above 0 are proposed."""

    def __init__(self, config: OrderedConfig):
        super().__init__(config)
        self._barred = PerState(self._bar)
        self._set(RowStack.empty().arrays(np.zeros(0, bool)))

    def learn(self, histories: Ragged, n_items: int, progress: Progress) -> dict[str, np.ndarray]:
        """The arrays, from int32 items by user, oldest first; at least one event."""
        raise NotImplementedError

    def missing(self, window: Window) -> str | None:
        users = window.interactions[0]
        if not len(users):
            return "needs interactions"
        return None if np.bincount(users).max() > 1 else "needs people with more than one interaction"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        n, name = window.catalogue.n_items, self.config.kind.replace("_", " ")
        histories = ordered_histories(window, progress, name)
        if not len(histories.values):
            self._set(RowStack.empty().arrays(np.zeros(n, bool)) | {"offsets": np.zeros(n + 1, np.int64)})
            return
        with progress.step(name):
            self._set(self.learn(histories, n, progress))

    def __len__(self) -> int:
        return len(self._arrays["known"])

    def _bar(self, state: State) -> np.ndarray:
        """int[m] columns that may not be proposed."""
        allowed, inside = np.zeros(len(self), bool), min(len(self), state.catalogue.n_items)
        allowed[:inside] = self._arrays["known"][:inside] & eligible(state, self.config.max_age_days)[:inside]
        return np.flatnonzero(~allowed)

    def _query(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place ascending, item, float32 weight adding up to 1 a place) of the latest known events of histories."""
        places, items = histories.rows.astype(np.int64), histories.values
        held = (items >= 0) & (items < len(self))
        held[held] = self._arrays["known"][items[held]]
        kept = offsets_of(np.bincount(places[held], minlength=len(histories)))
        count = np.minimum(np.diff(kept), self.config.history)
        places, items = expand(kept[1:] - count, count, items[held])
        back = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(items))
        powers = decayed(self.config.query_decay, self.config.history)
        sums = np.cumsum(powers)
        return places, items, (powers[back] / sums[np.maximum(count, 1) - 1][places]).astype(np.float32)

    def rows_of(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[B, n] of every item, bool[B] whether the history holds an item with a row)."""
        return self._summed(*self._query(histories), len(histories))

    def _summed(
        self, places: np.ndarray, items: np.ndarray, weights: np.ndarray, batch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `rows_of`, of weighted rows of the map: (place ascending, row, float32 weight) of `batch` places."""
        n = len(self)
        offsets, columns, values = (self._arrays[name] for name in ("offsets", "columns", "weights"))
        starts, stops = offsets[items].tolist(), offsets[items + 1].tolist()
        low = np.searchsorted(places, np.arange(batch + 1))
        scores = np.empty((batch, n), np.float32)
        # rows are slices of two arrays: one user's fit the cache, which one gather for all users leaves at every step
        for place in range(batch):
            mine = [(starts[at], stops[at], weights[at]) for at in range(low[place], low[place + 1])]
            if mine:
                reached = np.concatenate([columns[a:b] for a, b, _ in mine])
                scores[place] = np.bincount(reached, np.concatenate([values[a:b] * w for a, b, w in mine]), n)
            else:
                scores[place] = 0
        return scores, np.diff(low) > 0

    def rows(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`rows_of` the histories of users int32[B], -1 for somebody unknown."""
        places, items = state.history.take(users)
        return self.rows_of(Ragged.group(places, items, len(users)))

    def _batches(self, users: np.ndarray) -> Iterator[slice]:
        return chunks(np.full(len(users), max(len(self), 1)), CELLS_AT_ONCE)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, n = np.asarray(users), len(self)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        barred = self._barred(state)
        if len(barred) == n:
            return items, scores
        for part in self._batches(users):
            rows, some = self.rows(state, users[part])
            rows[:, barred] = -np.inf
            rows[~some] = -np.inf
            seen = np.zeros(0, np.int64), np.zeros(0, np.int32)
            if self.config.exclude_seen:
                places, shown = state.seen.take(users[part])
                seen = places[shown < n], shown[shown < n]
            if self.positive:
                rows[seen] = -np.inf
                items[part], scores[part] = _best_positive(rows, k)
            else:
                items[part], scores[part] = topk(rows, k, seen)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, n = np.asarray(items), len(self)
        people, at = unique_users(users)
        out = np.zeros(items.shape, np.float32)
        if not n:
            return out
        order = np.argsort(at, kind="stable")
        for part in self._batches(people):
            scores, some = self.rows(state, people[part])
            low, high = np.searchsorted(at[order], [part.start, part.stop])
            rows = order[low:high]
            wanted, mine = items[rows], at[rows] - part.start
            inside = np.clip(wanted, 0, n - 1)
            valid = (wanted == inside) & some[mine][:, None] & self._arrays["known"][inside]
            out[rows] = np.where(valid, scores[mine[:, None], inside], 0)
        return out

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: what stands for somebody is the score of every item."""
        return self.rows_of(ragged_of(histories))[0]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The event of the history that adds most to the score."""
        items = np.asarray(items)
        _, history, weights = self._query(Ragged.group(*state.history.take(np.array([user])), 1))
        if not len(history) or not len(items):
            return [Reason("taste")] * len(items)
        rows = Ragged(self._arrays["offsets"], self._arrays["columns"])
        adds = np.zeros((len(history), len(items)), np.float32)
        for place, item in enumerate(history):
            columns, start = rows[item], rows.offsets[item]
            if len(columns):
                near = np.minimum(np.searchsorted(columns, items), len(columns) - 1)
                adds[place] = np.where(columns[near] == items, self._arrays["weights"][start + near], 0)
        adds *= weights[:, None]
        adds[history[:, None] == items] = -np.inf
        best, most = adds.argmax(axis=0), adds.max(axis=0)
        reasons = zip(best, most > 0, strict=True)
        return [Reason("similar", int(history[b])) if clear else Reason("taste") for b, clear in reasons]


def _best_positive(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`topk` of what is above 0 of each row: it is many times slower among equal numbers, and most are 0."""
    items, scores = np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), -np.inf, np.float32)
    for place, row in enumerate(rows):
        reached = np.flatnonzero(row > 0)
        found, scores[place] = topk(row[None, reached], k)
        items[place] = np.where(found[0] >= 0, np.append(reached, -1)[found[0]], -1)
    return items, scores
