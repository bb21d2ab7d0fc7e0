"""What somebody comes back to: personal frequency and recency, and the same of like people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from recsys_cli.data.ragged import Ragged, expand, offsets_of, positions
from recsys_cli.data.state import HISTORY_LENGTH, State
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.sequential.ordered import Decay
from recsys_cli.retrieval.sparse import NOTHING, Reached, SparseConfig, SparseRetriever, summed

if TYPE_CHECKING:
    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.base import Window

AT_ONCE = 2_000_000
"""Interactions turned into vectors at a time."""


class RepeatConsumptionConfig(SparseConfig):
    """Repeat consumption: TIFU-KNN, temporal item frequency and user neighbours (Hu et al., SIGIR 2020)."""

    kind: Literal["repeat_consumption"] = "repeat_consumption"
    group_size: PositiveInt = 7
    """Moments of a history that stand together as one group."""
    within_decay: Decay = 0.9
    """What a moment counts of the one after it within its group."""
    group_decay: Decay = 0.7
    """What a group counts of the one after it."""
    own_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the score that the own history has; the rest is that of like people."""
    neighbours: PositiveInt = 100
    """Most alike people who are asked."""
    query_items: PositiveInt = 20
    """Items of the own history, those of most weight, by which these are sought."""
    sample: PositiveInt = 250
    """People kept for an item, those in whose histories it has most weight."""


class RepeatConsumption(SparseRetriever):
    """score(u, i) = own_share · u_i + (1 − own_share) · Σ over the likest people v of s(u, v) v_i / Σ s(u, v).

    u is the history in which the moment b moments before the newest counts group_decay^⌊b / group_size⌋ ·
    within_decay^(b mod group_size), divided by the sum over all moments, so that an item of every moment has 1. What
    was done at one moment is one step, and at most HISTORY_LENGTH interactions count. The paper counts groups from the
    oldest basket and takes the plain mean of the likest people; counted from the newest, no group is short at the end
    that matters. Likeness s is the cosine, by an index from item to the people of most weight. The own part is computed
    when asked, so that whoever has a history is served.
    """

    config_type: ClassVar = RepeatConsumptionConfig
    part: ClassVar = "repeats.bin"
    parts: ClassVar = ("offsets", "items", "weights", "norms", "item_offsets", "item_users", "item_weights")
    config: RepeatConsumptionConfig

    def __init__(self, config: RepeatConsumptionConfig):
        super().__init__(config)
        none = np.zeros(0, np.int64)
        self._set({name: np.zeros(1, np.int64) if name.endswith("offsets") else none for name in self.parts})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set(arrays)
        self.by_user = Ragged(arrays["offsets"], arrays["items"])
        self.by_item = Ragged(arrays["item_offsets"], arrays["item_users"])

    @classmethod
    def alternatives(cls, config: RepeatConsumptionConfig) -> list[RepeatConsumptionConfig]:
        tried = (
            {"own_share": 0.6}, {"group_size": 20, "within_decay": 1.0, "group_decay": 0.9},
            {"group_size": 1, "within_decay": 1.0, "group_decay": 0.95}, {"group_size": 3, "group_decay": 0.5},
        )
        return [config.model_copy(update=update) for update in tried]

    def missing(self, window: Window) -> str | None:
        return None if len(window.interactions[0]) else "needs interactions"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        history, times, n_items = window.state.history, window.state.history_time, window.catalogue.n_items
        lengths, vectors = [], []
        with progress.step("repeat consumption"):
            for part in chunks(history.lengths, AT_ONCE):
                cut = slice(history.offsets[part.start], history.offsets[part.stop])
                offsets = history.offsets[part.start : part.stop + 1] - cut.start
                user, item, weight = self._vectors(Ragged(offsets, history.values[cut]), times.values[cut])
                lengths.append(np.bincount(user, minlength=part.stop - part.start))
                vectors.append((item, weight))
            if not vectors:
                self._set(self._arrays | {"item_offsets": np.zeros(n_items + 1, np.int64)})
                return
            offsets = offsets_of(np.concatenate(lengths))
            item, weight = (np.concatenate(column) for column in zip(*vectors, strict=True))
            user = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
            norms = np.sqrt(np.bincount(user, weight.astype(np.float64) ** 2, len(offsets) - 1))
            share = weight / norms[user]
            order = np.lexsort((user, -share, item))
            count = np.bincount(item, minlength=n_items)
            kept = np.minimum(count, self.config.sample)
            at = expand(offsets_of(count)[:-1], kept, order)[1]
            self._set({
                "offsets": offsets, "items": item, "weights": weight, "norms": norms.astype(np.float32),
                "item_offsets": offsets_of(kept), "item_users": user[at], "item_weights": share[at].astype(np.float32),
            })  # fmt: skip

    def _vectors(self, history: Ragged, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(user int64, item int32 ascending within a user, weight float32) of histories, oldest first, with times."""
        c, user = self.config, history.rows.astype(np.int64)
        begins = np.ones(len(user), bool)
        begins[1:] = (user[1:] != user[:-1]) | (times[1:] != times[:-1])
        step = np.cumsum(begins)
        latest = np.zeros(len(history), np.int64)
        np.maximum.at(latest, user, step)
        groups, place = np.divmod(np.arange(HISTORY_LENGTH + 1), c.group_size)
        powers = c.group_decay**groups * c.within_decay**place
        back = latest[user] - step
        worth = np.append(powers, 0.0)[np.minimum(back, len(powers))]
        total = np.bincount(user[begins], worth[begins], len(history))
        key = user * (np.int64(history.values.max(initial=0)) + 1) + history.values
        # an item that stands twice in one moment counts once there
        order = np.lexsort((step, key))
        once = np.ones(len(order), bool)
        once[1:] = (key[order][1:] != key[order][:-1]) | (step[order][1:] != step[order][:-1])
        order = order[once]
        first = np.flatnonzero(np.diff(key[order], prepend=-1))
        sums = np.add.reduceat(worth[order], first) if len(first) else np.zeros(0)
        at = order[first]
        return user[at], history.values[at].astype(np.int32), (sums / total[user[at]]).astype(np.float32)

    def _own(self, items: np.ndarray, times: np.ndarray) -> Reached:
        """The vector of one history int32[m], oldest first: (items ascending, weights)."""
        if not len(items):
            return NOTHING
        return self._vectors(Ragged(np.array([0, len(items)]), items), times)[1:]

    def like(self, items: np.ndarray, weights: np.ndarray, user: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """(people int64[k], cosines float64[k]), likest first, of the people who are most like a vector of a history.

        user: who is left out, -1 for nobody."""
        known = np.flatnonzero(items < len(self.by_item))
        best = known[np.lexsort((items[known], -weights[known]))[: self.config.query_items]]
        start = self.by_item.offsets[items[best]]
        places, at = positions(start, self.by_item.offsets[items[best] + 1] - start)
        shares = self._arrays["item_weights"][at] * weights[best][places]
        people, likeness = summed(self.by_item.values[at], shares / np.sqrt(weights @ weights))
        others = people != user
        people, likeness = people[others], likeness[others]
        order = np.lexsort((people, -likeness))[: self.config.neighbours]
        return people[order].astype(np.int64), likeness[order]

    def _answer(self, items: np.ndarray, times: np.ndarray, user: int = -1) -> Reached:
        items, weights = self._own(items, times)
        c = self.config
        if not len(items) or c.own_share == 1:
            return items, weights
        people, likeness = self.like(items, weights, user)
        if not len(people):
            return items, np.float32(c.own_share) * weights
        start, stop = self.by_user.offsets[people], self.by_user.offsets[people + 1]
        place, theirs = expand(start, stop - start, self.by_user.values)
        also = expand(start, stop - start, self._arrays["weights"])[1] * (likeness / likeness.sum())[place]
        share = np.concatenate([c.own_share * weights, (1 - c.own_share) * also])
        return summed(np.concatenate([items, theirs]), share)

    def reach(self, state: State, user: int) -> Reached:
        return self._answer(state.history[user], state.history_time[user], user)

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: what stands for somebody is the score of every item; each item is of its own moment."""
        out = np.zeros((len(histories), len(self.by_item)), np.float32)
        for row, history in zip(out, histories, strict=True):
            latest = np.asarray(history, np.int32)[-HISTORY_LENGTH:]
            items, scores = self._answer(latest, np.arange(len(latest)))
            inside = items < len(row)
            row[items[inside]] = scores[inside]
        return out

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """Taste, for what was never had; the item itself, for what was had before."""
        held = np.isin(items, state.history[user])
        return [Reason("again", int(i)) if known else Reason("taste") for i, known in zip(items, held, strict=True)]
