"""What sources that know order share: a map from each event of a history to every item, asked with the latest most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, offsets_of, positions, ragged_of
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.sequential.gaps import decayed, ordered_histories
from recsys_cli.retrieval.topk import shown_columns, topk

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CELLS_AT_ONCE = 4_000_000
FAINT = 0.01
"""Events that count less than this of the latest are not asked with."""
Decay = Annotated[float, Field(gt=0, le=1)]


class OrderedConfig(RetrieverConfig):
    """What all sources of this kind have."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    history: PositiveInt = 100
    """Latest events of a user that are asked with."""
    half_life_days: PositiveFloat | None = None
    """Days before the latest event at which one counts half of what its place says, when asked; null leaves time
    out."""
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
    """score(u, ·) = Σ_m Σ_k w_k d_m^k · B_m[h_k] / Σ_m Σ_k w_k d_m^k over the latest events h_0, h_1, … of u, h_0 the
    last: a map B_m for each memory m, in which an event counts d_m of the one after it; w_k is 1, or less with the time
    since (`half_life_days`).

    The maps are kept in compressed rows, row m·n + i of item i in memory m: `offsets` int64[memories · n + 1],
    `columns` int32[…] ascending within a row, `weights` float32[…]; `known` bool[n] are the items that may be asked
    with and proposed. Nothing is kept of any user: whoever has a history is served, in training or not, and a new event
    counts at once. Every user's score is summed alone, so that company changes nothing. A family says in `learn` how
    the maps follow from the histories.
    """

    part: ClassVar = "ordered.bin"
    parts: ClassVar = ("offsets", "columns", "weights", "known")
    config: OrderedConfig
    positive: ClassVar[bool] = False
    """Whether only items with a score above 0 are proposed."""

    def __init__(self, config: OrderedConfig):
        super().__init__(config)
        self._allowed = PerState(self._allow)
        self._set(RowStack.empty().arrays(np.zeros(0, bool)))

    def learn(
        self, histories: Ragged, times: np.ndarray, n_items: int, progress: Progress
    ) -> dict[str, np.ndarray]:
        """The arrays, from int32 items by user, oldest first, and their int64 moments (µs); at least one event."""
        raise NotImplementedError

    def memories(self) -> tuple[float, ...]:
        """The decay of each memory."""
        raise NotImplementedError

    def missing(self, window: Window) -> str | None:
        users = window.interactions[0]
        if not len(users):
            return "needs interactions"
        return None if np.bincount(users).max() > 1 else "needs people with more than one interaction"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        n, name = window.catalogue.n_items, self.config.kind.replace("_", " ")
        histories, times = ordered_histories(window, progress, name)
        if not len(histories.values):
            offsets = np.zeros(n * len(self.memories()) + 1, np.int64)
            self._set(RowStack.empty().arrays(np.zeros(n, bool)) | {"offsets": offsets})
            return
        with progress.step(name):
            self._set(self.learn(histories, times, n, progress))

    def __len__(self) -> int:
        return len(self._arrays["known"])

    def _allow(self, state: State) -> np.ndarray:
        """int[m] columns that may be proposed, ascending."""
        inside = min(len(self), state.catalogue.n_items)
        return np.flatnonzero(self._arrays["known"][:inside] & eligible(state, self.config.max_age_days)[:inside])

    def _query(self, histories: Ragged, times: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place ascending, row of the maps, float32 weight adding up to 1 a place) of the latest known events.

        times: int64 µs beside the items of the histories; None where they are unknown, and all weigh as of one moment.
        """
        c, batch, items = self.config, len(histories), histories.values
        places, n = histories.rows.astype(np.int64), len(self)
        held = (items >= 0) & (items < n)
        held[held] = self._arrays["known"][items[held]]
        kept = offsets_of(np.bincount(places[held], minlength=batch))
        found, powers, at = np.flatnonzero(held), [], []
        for decay in self.memories():
            mine = decayed(decay, c.history)
            mine = mine[: np.count_nonzero(mine >= FAINT)]
            count = np.minimum(np.diff(kept), len(mine))
            asked, where = positions(kept[1:] - count, count)
            powers.append(mine[kept[asked + 1] - 1 - where])
            at.append((asked, found[where]))
        rows = [items[where] + m * n for m, (_, where) in enumerate(at)]
        places, where, rows, weights = (
            np.concatenate(each) for each in ([a for a, _ in at], [w for _, w in at], rows, powers)
        )
        if times is not None and c.half_life_days is not None and len(where):
            latest = np.full(batch, np.iinfo(np.int64).min)
            np.maximum.at(latest, places, times[where])
            weights = weights * np.exp2((times[where] - latest[places]) / (c.half_life_days * DAY))
        if len(at) > 1:
            order = np.argsort(places, kind="stable")
            places, rows, weights = places[order], rows[order], weights[order]
        total = np.bincount(places, weights, batch)
        return places, rows, (weights / total[places]).astype(np.float32)

    def rows_of(self, histories: Ragged, times: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[B, n] of every item, bool[B] whether the history holds an item with a row); see `_query`."""
        return self._summed(*self._query(histories, times), len(histories))

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
        return self.rows_of(*self._histories(state, users))

    def _histories(self, state: State, users: np.ndarray) -> tuple[Ragged, np.ndarray | None]:
        """Items and, where they count, times of users' histories."""
        places, items = state.history.take(users)
        timed = self.config.half_life_days is not None
        return Ragged.group(places, items, len(users)), state.history_time.take(users)[1] if timed else None

    def _batches(self, users: np.ndarray) -> Iterator[slice]:
        return chunks(np.full(len(users), max(len(self), 1)), CELLS_AT_ONCE)

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, n = np.asarray(users), len(self)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        allowed = self._allowed(state)
        for part in self._batches(users) if len(allowed) else ():
            rows, some = self.rows(state, users[part])
            if self.config.exclude_seen:
                rows[shown_columns(state.seen, users[part], n)] = -np.inf
            # those that have no row or are too old are left out first: choosing among equal numbers is slow
            at = np.flatnonzero(some) + part.start
            rows = rows[some] if len(allowed) == n else rows[np.ix_(some, allowed)]
            found, scores[at] = _best_positive(rows, k) if self.positive else topk(rows, k)
            items[at] = np.where(found >= 0, np.append(allowed, -1)[found], -1)
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
        _, asked, weights = self._query(*self._histories(state, np.array([user])))
        if not len(asked) or not len(items):
            return [Reason("taste")] * len(items)
        history = asked % len(self)
        rows = Ragged(self._arrays["offsets"], self._arrays["columns"])
        adds = np.zeros((len(history), len(items)), np.float32)
        for place, item in enumerate(asked):
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
