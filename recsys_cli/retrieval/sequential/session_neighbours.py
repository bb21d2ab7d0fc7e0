"""Sessions that are like the present one, and what else happened in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.sequential.sessions import newest_start, visits_of
from recsys_cli.retrieval.sparse import NOTHING, Reached, SparseConfig, SparseRetriever, summed

if TYPE_CHECKING:
    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.base import Window

MADE_BY = {
    "session_id": "a session is what has one session_id",
    "gap": "a session is what gaps in time leave together (gap_minutes)",
    "history": "a session is all that somebody did: neither session_id nor gaps in time tell visits apart",
}
"""How sessions were made → what is said of it."""
NEVER = np.iinfo(np.int64).max
STEP = 0.1
"""What an item of the present session loses, for V-SKNN, with every newer one behind it."""


class SessionNeighboursConfig(SparseConfig):
    """Nearest sessions: V-SKNN (Ludewig and Jannach, UMUAI 2018) and STAN (Garg et al., SIGIR 2019)."""

    kind: Literal["session_neighbours"] = "session_neighbours"
    similarity: Literal["vsknn", "stan"] = "vsknn"
    """"vsknn": what two sessions share, newer items of the present one more, over the root of the other's length, and
    rare items of it count more; "stan": decays by place in the present session, by the age of the other session and by
    the distance from the newest shared item in it."""
    sessions: Literal["auto", "session_id", "gap", "history"] = "auto"
    """What a session is: the log's session_id; interactions less than `gap_minutes` apart; all that a person did; or
    "auto", the first of these that the log has, gaps only where most interactions then stand beside another."""
    gap_minutes: PositiveFloat = 30.0
    """Minutes without an interaction after which a new session begins."""
    neighbours: PositiveInt = 100
    """Most alike sessions that are asked."""
    sample: PositiveInt = 1_000
    """Latest sessions with any of the present items among which these are sought, and sessions kept for an item."""
    session_items: PositiveInt = 50
    """Latest items of a session that are kept."""
    history: PositiveInt = 20
    """Latest items of the present session that are asked with."""
    place_decay: PositiveFloat = 5.0
    """stan: newer items after which one of the present session counts 1/e."""
    age_days: PositiveFloat = 30.0
    """stan: days before the request at which a session counts 1/e."""
    distance_decay: PositiveFloat = 5.0
    """stan: places from the newest shared item, in the other session, at which an item counts 1/e."""


class Alike(NamedTuple):
    """The sessions most like a present one, and what is in them; m items over all of them."""

    sessions: np.ndarray
    """int64[k]"""
    likeness: np.ndarray
    """float64[k]"""
    place: np.ndarray
    """int64[m] which of the k"""
    items: np.ndarray
    """int32[m]"""
    back: np.ndarray
    """int64[m] newer items behind it in the present session, NEVER where it is not in that"""
    distance: np.ndarray
    """int64[m] places from the newest shared item"""


class SessionNeighbours(SparseRetriever):
    """score(i) = Σ over the likest sessions n that hold i of likeness(n) · share(i, n).

    vsknn: likeness = Σ over shared items of w(place) / √|n|, w falling from 1, in a straight line, over the present
    session; share = max(1 − 0.1 b, 0.1) · ln(1 + S / c_i), b the newer items behind the newest shared one, c_i the
    sessions of S that hold i.
    stan: likeness = Σ e^(−back / place_decay) / √(|present| |n|) · e^(−age / age_days); share = e^(−distance /
    distance_decay).
    The likest are sought among the latest `sample` sessions that share anything, by an index from item to its latest
    sessions, so that a request costs the same however many sessions there are. Nothing is kept of any user but whose a
    session was: nobody is a neighbour of the session that they are in.
    """

    config_type: ClassVar = SessionNeighboursConfig
    part: ClassVar = "sessions.bin"
    parts: ClassVar = ("offsets", "items", "end", "owner", "item_offsets", "item_sessions", "rarity", "gap")
    config: SessionNeighboursConfig

    def __init__(self, config: SessionNeighboursConfig):
        super().__init__(config)
        none = np.zeros(0, np.int64)
        self._set({name: np.zeros(1, np.int64) if name.endswith(("offsets", "gap")) else none for name in self.parts})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        super()._set(arrays)
        self.by_session = Ragged(arrays["offsets"], arrays["items"])
        self.by_item = Ragged(arrays["item_offsets"], arrays["item_sessions"])
        self._gap = int(arrays["gap"][0])

    @classmethod
    def alternatives(cls, config: SessionNeighboursConfig) -> list[SessionNeighboursConfig]:
        tried = ({"similarity": "stan"}, {"neighbours": 500, "sample": 2_500})
        return [config.model_copy(update=update) for update in tried]

    def missing(self, window: Window) -> str | None:
        users = window.interactions[0]
        if not len(users):
            return "needs interactions"
        if self.config.sessions == "session_id" and window.log.session is None:
            return "needs session_id"
        return None if np.bincount(users).max() > 1 else "needs people with more than one interaction"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        c, n_items = self.config, window.catalogue.n_items
        if not len(window.interactions[0]):
            self._set(self._arrays | {"item_offsets": np.zeros(n_items + 1, np.int64)})
            return
        with progress.step("session neighbours"):
            found, by = visits_of(window, c.sessions, c.gap_minutes)
            session, item, kept = _distinct(found.items, c.session_items)
            lengths = np.bincount(session, minlength=len(found))
            # those of one item say nothing of any other; the rest is numbered from the oldest to the newest
            order = np.lexsort((found.user, found.end))
            order = order[lengths[order] > 1]
            items = Ragged(kept, item)
            place, item = items.take(order)
            by_session = Ragged(offsets_of(lengths[order]), item)
            by_item = Ragged.group(item, place.astype(np.int32), n_items)
            count = by_item.lengths
            latest = np.minimum(count, c.sample)
            self._set({
                "offsets": by_session.offsets, "items": by_session.values, "end": found.end[order],
                "owner": found.user[order].astype(np.int32), "item_offsets": offsets_of(latest),
                "item_sessions": expand(by_item.offsets[1:] - latest, latest, by_item.values)[1],
                "rarity": np.log1p(len(order) / np.maximum(count, 1)).astype(np.float32),
                "gap": np.array([found.gap], np.int64),
            })  # fmt: skip
        if c.sessions == "auto":
            progress.message(f"session neighbours: {MADE_BY[by]}")

    def _present(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(items ascending, newer ones behind each) of a session, oldest first, cut to the latest distinct ones that
        are known."""
        inside = items[(items >= 0) & (items < len(self.by_item))][::-1]
        distinct, first = np.unique(inside, return_index=True)
        back = np.argsort(np.argsort(first))
        known = (back < self.config.history) & (self.by_item.offsets[distinct + 1] > self.by_item.offsets[distinct])
        return distinct[known], back[known]

    def alike(self, items: np.ndarray, now: int | None = None, user: int = -1, since: int = 0) -> Alike | None:
        """The likest sessions to one of `items` int[m], oldest first; None where nothing is like it.

        now: moment of the request (µs), by default that of the newest session. user, since: whose sessions that end at
        `since` or later are left out.
        """
        c = self.config
        items, back = self._present(items)
        if not len(items):
            return None
        held = [self.by_item[item] for item in items]
        weights = np.exp(-back / c.place_decay) if c.similarity == "stan" else 1 - back / (back.max() + 1)
        sessions = np.concatenate(held)
        order = np.argsort(sessions, kind="stable")
        sessions = sessions[order]
        first = np.flatnonzero(np.diff(sessions, prepend=-1))
        likeness = np.add.reduceat(np.repeat(weights, [len(h) for h in held])[order], first)
        sessions = sessions[first]
        if user >= 0:
            ours = (self._arrays["owner"][sessions] == user) & (self._arrays["end"][sessions] >= since)
            sessions, likeness = sessions[~ours], likeness[~ours]
        sessions, likeness = sessions[-c.sample :].astype(np.int64), likeness[-c.sample :]
        if not len(sessions):
            return None
        starts = self.by_session.offsets[sessions]
        lengths = self.by_session.offsets[sessions + 1] - starts
        likeness = likeness / np.sqrt(lengths)
        if c.similarity == "stan":
            now = int(self._arrays["end"][-1]) if now is None else now
            age = np.maximum(now - self._arrays["end"][sessions], 0) / DAY
            likeness = likeness * np.exp(-age / c.age_days) / np.sqrt(len(items))
        # of equals the latest
        best = np.lexsort((-sessions, -likeness))[: c.neighbours]
        place, found = expand(starts[best], lengths[best], self.by_session.values)
        near = np.minimum(np.searchsorted(items, found), len(items) - 1)
        behind = np.where(items[near] == found, back[near], NEVER)
        begin = np.cumsum(lengths[best]) - lengths[best]
        newest = behind == np.minimum.reduceat(behind, begin)[place]
        distance = np.abs(np.arange(len(found)) - np.flatnonzero(newest)[place])
        return Alike(sessions[best], likeness[best], place, found, behind, distance)

    def _scored(self, alike: Alike | None) -> Reached:
        if alike is None:
            return NOTHING
        weights = alike.likeness[alike.place]
        if self.config.similarity == "stan":
            weights = weights * np.exp(-alike.distance / self.config.distance_decay)
        else:
            newest = alike.back[alike.distance == 0]
            weights = weights * np.maximum(1 - STEP * newest, STEP)[alike.place]
            weights = weights * self._arrays["rarity"][alike.items]
        return summed(alike.items, weights)

    def _of(self, state: State, user: int) -> Alike | None:
        first = newest_start(state, user, self._gap)
        history = state.history[user][first:]
        if not len(history):
            return None
        return self.alike(history, state.now, user, int(state.history_time[user][first]))

    def reach(self, state: State, user: int) -> Reached:
        return self._scored(self._of(state, user))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: what stands for somebody is the score of every item, of a session at the moment of the
        newest one known."""
        out = np.zeros((len(histories), len(self.by_item)), np.float32)
        for row, history in zip(out, histories, strict=True):
            items, scores = self._scored(self.alike(np.asarray(history)))
            row[items] = scores
        return out

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The item of the present session that the likest sessions with the proposed one share most."""
        alike = self._of(state, user)
        if alike is None:
            return [Reason("taste")] * len(items)
        shared = np.flatnonzero(alike.back < NEVER)
        out = []
        for item in np.asarray(items).tolist():
            of = np.isin(alike.place[shared], alike.place[alike.items == item]) & (alike.items[shared] != item)
            mine, likeness = summed(alike.items[shared[of]], alike.likeness[alike.place[shared[of]]])
            out.append(Reason("similar", int(mine[likeness.argmax()])) if len(mine) else Reason("taste"))
        return out


def _distinct(items: Ragged, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(session int32, item int32, offsets int64[S + 1]) of the latest `most` distinct items of every session, each at
    its latest place."""
    rows, values = items.rows, items.values
    order = np.lexsort((np.arange(len(values)), values, rows))
    row, value = rows[order], values[order]
    latest = np.ones(len(order), bool)
    latest[:-1] = (row[1:] != row[:-1]) | (value[1:] != value[:-1])
    at = np.sort(order[latest])
    rows, values = rows[at], values[at]
    counts = np.bincount(rows, minlength=len(items))
    kept = np.cumsum(counts)[rows] - np.arange(len(rows)) <= most
    rows, values = rows[kept], values[kept]
    return rows, values, offsets_of(np.bincount(rows, minlength=len(items)))
