"""Items engaged with by the people whose history is like the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.history_weighting import HistoryConfig, WeightedHistories
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.topk import shown_columns, topk

if TYPE_CHECKING:
    from collections.abc import Iterator

CELLS_AT_ONCE = 4_000_000
K1, B = 1.2, 0.75
"""Constants of BM25 (Robertson and Zaragoza 2009)."""
PARTS = ("user_offsets", "user_items", "item_offsets", "item_users", "weights", "norms", "query")


class UserNeighboursConfig(HistoryConfig):
    """User neighbours: what people with a like history engaged with (Resnick et al., CSCW 1994)."""

    kind: Literal["user_neighbours"] = "user_neighbours"
    similarity: Literal["cosine", "bm25", "asymmetric"] = "cosine"
    """How what two histories share is weighed: over the root of both lengths, by BM25 with the other as the
    document, or over |user|^a · |other|^(1 − a) (Aiolli, RecSys 2013)."""
    asymmetry: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The a of "asymmetric"; 0.5 is the cosine."""
    neighbours: PositiveInt = 200
    """Most alike people who are asked."""


class UserNeighbours(ArrayRetriever):
    """score(u, i) = Σ over the likest users v who have i of s(u, v), s(u, v) = Σ_{j in both} h_j q_j w_vj / n_u.

    h_j is the weight of j in the history of u, and |u| is Σ h².

    cosine: q = 1, w_vj = |v|^−½, n_u = |u|^½. asymmetric: w_vj = |v|^(a−1), n_u = |u|^a. bm25: q_j is the inverse
    document frequency ln(1 + (N − d_j + ½) / (d_j + ½)), w_vj = (K1 + 1) / (1 + K1 (1 − B + B |v| / mean length)),
    n_u = |u|. Somebody who was not in training is compared by the history alone; nobody is a neighbour of
    themselves.
    """

    config_type: ClassVar = UserNeighboursConfig
    part: ClassVar = "users.bin"
    parts: ClassVar = PARTS
    config: UserNeighboursConfig

    def __init__(self, config: UserNeighboursConfig):
        super().__init__(config)
        self._set({name: np.zeros(1 if name.endswith("offsets") else 0, np.int64) for name in PARTS})
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.by_user = Ragged(arrays["user_offsets"], arrays["user_items"])
        self.by_item = Ragged(arrays["item_offsets"], arrays["item_users"])

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        users, items, _ = window.interactions
        n_users, n_items = window.catalogue.n_users, window.catalogue.n_items
        by_user = Ragged.group(users, items, n_users).sorted_rows()
        by_item = Ragged.group(by_user.values, by_user.rows, n_items)
        length = by_user.lengths
        weights = np.zeros(n_users)
        query = np.ones(n_items)
        some = length > 0
        if self.config.similarity == "bm25" and some.any():
            weights[some] = (K1 + 1) / (1 + K1 * (1 - B + B * length[some] / length[some].mean()))
            held = by_item.lengths
            query = np.log1p((some.sum() - held + 0.5) / (held + 0.5))
        else:
            power = self.config.asymmetry if self.config.similarity == "asymmetric" else 0.5
            weights[some] = length[some] ** (power - 1)
        self._set({
            "user_offsets": by_user.offsets, "user_items": by_user.values.astype(np.int32),
            "item_offsets": by_item.offsets, "item_users": by_item.values.astype(np.int32),
            "weights": weights.astype(np.float32), "query": query.astype(np.float32),
            "norms": np.array([{"cosine": 0.5, "bm25": 1.0, "asymmetric": self.config.asymmetry}[
                self.config.similarity]], np.float32),
        })  # fmt: skip

    def neighbours(
        self, history: np.ndarray, weights: np.ndarray | None = None, user: int = -1
    ) -> tuple[np.ndarray, np.ndarray]:
        """(users int64[m], similarities float64[m]) of the likest people to a history, likest first.

        history: ascending distinct items. weights: float32 of each, 1 by default. user: who is left out, -1 for nobody.
        """
        weights = np.ones(len(history), np.float32) if weights is None else weights
        inside = (history >= 0) & (history < len(self.by_item))
        history, weights = history[inside], weights[inside]
        n = len(self.by_user)
        if not len(history) or not n:
            return np.zeros(0, np.int64), np.zeros(0)
        rows = [self.by_item[item] for item in history]
        shares = np.repeat(self._arrays["query"][history] * weights, [len(row) for row in rows])
        like = np.bincount(np.concatenate(rows), shares, n) * self._arrays["weights"]
        like /= float(weights.astype(np.float64) @ weights) ** float(self._arrays["norms"][0])
        if 0 <= user < n:
            like[user] = 0
        k = min(self.config.neighbours, n)
        best = np.argpartition(-like, k - 1)[:k]
        best = best[like[best] > 0]
        best = best[np.lexsort((best, -like[best]))]
        return best, like[best]

    def _row(self, histories: WeightedHistories, place: int, user: int) -> np.ndarray:
        """float64[n_items] scores for one of the histories."""
        mine = histories.part(slice(place, place + 1))
        people, like = self.neighbours(mine.items.values, mine.weights, user)
        if not len(people):
            return np.zeros(len(self.by_item))
        rows = [self.by_user[person] for person in people]
        return np.bincount(np.concatenate(rows), np.repeat(like, [len(row) for row in rows]), len(self.by_item))

    def _batches(self, state: State, users: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """(slice of `users`, their scores float32[b, n_items]) in pieces of bounded size."""
        users, n = np.asarray(users), len(self.by_item)
        for part in chunks(np.full(len(users), n + 1), CELLS_AT_ONCE):
            scores = np.zeros((part.stop - part.start, n), np.float32)
            histories = WeightedHistories.of_state(state, users[part], self.config.history_weighting)
            for place, user in enumerate(users[part].tolist()):
                if user >= 0:
                    scores[place] = self._row(histories, place, user)
            yield part, scores

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, n = np.asarray(users), len(self.by_item)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        allowed = np.zeros(n, bool)
        inside = min(n, state.catalogue.n_items)
        allowed[:inside] = self._eligible(state)[:inside]
        if not allowed.any():
            return items, scores
        for part, rows in self._batches(state, users):
            rows[(rows <= 0) | ~allowed] = -np.inf
            seen = shown_columns(state.seen, users[part], n) if self.config.exclude_seen else None
            items[part], scores[part] = topk(rows, k, seen)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, n = np.asarray(items), len(self.by_item)
        people, at = unique_users(users)
        out = np.zeros(items.shape, np.float32)
        order = np.argsort(at, kind="stable")
        for part, scores in self._batches(state, people):
            low, high = np.searchsorted(at[order], [part.start, part.stop])
            rows = order[low:high]
            inside = np.clip(items[rows], 0, max(n - 1, 0))
            if n:
                found = scores[(at[rows] - part.start)[:, None], inside]
                out[rows] = np.where(items[rows] == inside, found, 0)
        return out

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: somebody is what the neighbours of the history would say, one score an item."""
        rows = WeightedHistories.of_lists(histories, self.config.history_weighting)
        return np.array([self._row(rows, at, -1) for at in range(len(rows))], np.float32).reshape(
            len(rows), len(self.by_item)
        )
