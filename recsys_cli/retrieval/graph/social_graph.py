"""Out-of-network items through the graph: two hops along follows, and random walks over recent interactions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.hashing import mix
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.graph.user_author import (
    Pairs,
    latest_interactions,
    lengths_of,
    newest_items,
    score_by_lookup,
    user_author,
)
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs, pair_values, sum_pairs, without_pairs
from recsys_cli.retrieval.reason import Reason


class TwoHopConfig(RetrieverConfig):
    """Two-hop follows: people followed by those you follow."""

    kind: Literal["two_hop"] = "two_hop"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    circle: PositiveInt = 200
    """People two hops away who are kept for a user, the closest ones."""
    per_author: PositiveInt = 20
    """Newest items of each of them that are looked at."""
    per_friend: PositiveInt = 20
    """Latest interactions of each of them that are looked at."""
    engaged_weight: NonNegativeFloat = 1.0
    """Weight of an item that they engaged with beside one that they wrote."""
    half_life_days: PositiveFloat = 1.0
    """Age of an item, or time since an interaction, at which it counts half."""
    tie_weight: NonNegativeFloat = 1.0
    """How much the tie with the friend in between raises the weight of the way: 1 + weight × tie."""


class SummedEvidence(Retriever):
    """A source whose score of a user and an item is a sum of weights over ways from one to the other."""

    at_once: ClassVar[int]
    """weights in memory at once"""

    def _evidence(self, state: State, users: np.ndarray) -> Pairs:
        """(place in `users`, item, weight) of every way, in any order and as often as it comes."""
        raise NotImplementedError

    def _costs(self, state: State, users: np.ndarray) -> np.ndarray:
        """int64[B] weights that each user takes at most."""
        raise NotImplementedError

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        for part in chunks(self._costs(state, users) + k, self.at_once):
            found = sum_pairs(*self._evidence(state, users[part]), state.catalogue.n_items)
            if self.config.exclude_seen:
                found = without_pairs(state.seen, users[part], *found)
            items[part], scores[part] = best_pairs(*found, part.stop - part.start, k)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return score_by_lookup(
            users,
            items,
            state.catalogue.n_items,
            lambda people: self._evidence(state, people),
            lambda people: self._costs(state, people),
            self.at_once,
        )


class TwoHop(SummedEvidence):
    """score(u, i) = Σ over people z two hops away of closeness(u, z) × (recency of i written by z + engaged_weight ×
    recency of z's interactions with i).

    closeness(u, z) = Σ over friends f in between of (1 + tie_weight × tie(u, f)) / √(follows of f × followers of z):
    the more a friend follows and the more follow z, the less the way says of u.
    """

    config_type: ClassVar = TwoHopConfig
    at_once: ClassVar = 2_000_000
    config: TwoHopConfig

    def __init__(self, config: TwoHopConfig):
        super().__init__(config)
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))
        self._author_of = PerState(lambda state: user_author(state.catalogue))

    def missing(self, window: Window) -> str | None:
        if not (window.catalogue.author_user >= 0).any():
            return "needs authors who are users"
        return None if len(window.state.follows.values) else "needs follows"

    def _ways(self, state: State, users: np.ndarray) -> tuple[np.ndarray, ...]:
        """(place, friend, author two hops away, weight) of every way of two follows."""
        follows = state.follows
        places, authors = follows.take(users)
        friends = state.catalogue.author_user[authors]
        person = (friends >= 0) & (friends != users[places])
        places, authors, friends = places[person], authors[person], friends[person]
        near = 1 + self.config.tie_weight * pair_values(state.ties, state.tie_strength, users, places, authors)
        start = follows.offsets[friends]
        count = follows.offsets[friends + 1] - start
        edge, far = expand(start, count, follows.values)
        weight = near[edge] / np.sqrt(count[edge] * np.maximum(state.author_followers[far], 1))
        keep = far != self._author_of(state)[users[places[edge]]]
        return places[edge][keep], friends[edge][keep], far[keep], weight[keep]

    def _circle(self, state: State, users: np.ndarray) -> Pairs:
        """(place, author, closeness) of the closest people whom the users do not follow."""
        places, _, far, weight = self._ways(state, users)
        places, far, weight = without_pairs(state.follows, users, places, far, weight)
        places, far, weight = sum_pairs(places, far, weight, state.catalogue.n_authors)
        authors, closeness = best_pairs(places, far, weight, len(users), self.config.circle)
        row, column = np.nonzero(authors >= 0)
        return row, authors[row, column], closeness[row, column]

    def _evidence(self, state: State, users: np.ndarray) -> Pairs:
        config, circle = self.config, self._circle(state, users)
        written = newest_items(state, circle, config.per_author, config.half_life_days, config.max_age_days)
        people = state.catalogue.author_user[circle[1]]
        person = np.flatnonzero((people >= 0) & (config.engaged_weight > 0))
        at, items, times = latest_interactions(state, people[person], config.per_friend)
        allowed = self._eligible(state)[items]
        at, items, times = person[at[allowed]], items[allowed], times[allowed]
        ago = np.minimum((state.now - times) / (config.half_life_days * DAY), 100)
        engaged = circle[0][at], items, config.engaged_weight * circle[2][at] * np.exp2(-ago)
        return tuple(np.concatenate(both) for both in zip(written, engaged, strict=True))

    def _costs(self, state: State, users: np.ndarray) -> np.ndarray:
        """int64[B] pairs that each user takes at most."""
        places, authors = state.follows.take(users)
        onward = lengths_of(state.follows, state.catalogue.author_user[authors])
        ways = np.bincount(places, weights=onward, minlength=len(users)).astype(np.int64)
        return ways + np.minimum(ways, self.config.circle) * (self.config.per_author + self.config.per_friend)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The friend through whom the item's author, or else the closest one who engaged with it, is reached."""
        users = np.array([user])
        _, friends, far, weight = self._ways(state, users)
        _, authors, closeness = self._circle(state, users)
        people = state.catalogue.author_user[authors]
        at, engaged, _ = latest_interactions(state, np.maximum(people, 0), self.config.per_friend)
        reasons = []
        for item in np.asarray(items):
            reached = np.flatnonzero(authors == state.catalogue.item_author[item])
            if not len(reached):
                reached = at[(engaged == item) & (people[at] >= 0)]
            if not len(reached):
                reasons.append(Reason("taste"))
                continue
            mine = np.flatnonzero(far == authors[reached[np.argmax(closeness[reached])]])
            reasons.append(Reason("circle", int(friends[mine[np.argmax(weight[mine])]])))
        return reasons


class RandomWalkConfig(RetrieverConfig):
    """Random walks with restart on recent interactions (GraphJet: Sharma et al., VLDB 2016)."""

    kind: Literal["random_walk"] = "random_walk"
    renamed: ClassVar[dict[str, str]] = {"degree_power": "degree_exponent"}
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    window_days: PositiveFloat | None = 2.0
    """Only interactions of so many last days are edges of the graph; null takes whole histories."""
    walks: PositiveInt = 1000
    """Walks from each user."""
    steps: PositiveInt = 10
    """Items that each walk visits."""
    restart: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Probability that a walk goes back to where it may start, after each item."""
    own: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Probability that a walk starts at the user, where those the user follows have recent interactions too."""
    degree_exponent: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Visits are divided by the item's recent interactions to this power: 0 leans to the popular, as visits do."""
    seed: NonNegativeInt = 0
    """Another seed, other walks."""


class _Bipartite(NamedTuple):
    """Recent interactions from both sides."""

    start: np.ndarray
    """int64[n_users] where a user's recent interactions begin in `State.history`"""
    degree: np.ndarray
    """int64[n_users] how many there are"""
    engaged: Ragged
    """int32 users by item, once for each recent interaction"""
    allowed: np.ndarray
    """bool[n_items] what may be proposed"""


class RandomWalk(SummedEvidence):
    """score = visits in a thousand that fall on the item, times its degree to the power −degree_exponent.

    A walk goes from a user to one of the user's recent items, from the item to one of those who engaged with it and
    so on, each edge being as likely as any other (the transitions of SALSA: Lempel and Moran, 2000). It starts, and
    starts again, at the user or at somebody the user follows, which also serves people with no history. Every number
    drawn is a hash of seed, moment, user, walk and step: the same answer alone, in a batch and on any machine.
    """

    config_type: ClassVar = RandomWalkConfig
    at_once: ClassVar = 1_000_000
    learns: ClassVar = False
    config: RandomWalkConfig

    def __init__(self, config: RandomWalkConfig):
        super().__init__(config)
        self._graph = PerState(self._build)

    def missing(self, window: Window) -> str | None:
        return None if len(window.state.history.values) else "needs interactions"

    def _build(self, state: State) -> _Bipartite:
        recent = np.ones(len(state.history_time.values), bool)
        if self.config.window_days is not None:
            recent = state.history_time.values >= state.now - int(self.config.window_days * DAY)
        before = offsets_of(recent)
        degree = before[state.history.offsets[1:]] - before[state.history.offsets[:-1]]
        rows = state.history.rows[recent]
        engaged = Ragged.group(state.history.values[recent], rows, state.catalogue.n_items)
        # a history is ordered by time: its recent part is its end
        start = state.history.offsets[1:] - degree
        return _Bipartite(start, degree, engaged, eligible(state, self.config.max_age_days))

    def _draw(self, state: State, users: np.ndarray, step: int, purpose: int) -> np.ndarray:
        """float64[B, walks] in [0, 1)."""
        walks = np.arange(self.config.walks, dtype=np.uint64)
        person = mix(users.astype(np.uint64) + mix(np.array([state.now + self.config.seed], np.uint64)))
        counter = walks * np.uint64(4 * self.config.steps) + np.uint64(4 * step + purpose)
        return (mix(person[:, None] + mix(counter)) >> np.uint64(11)) * 2.0**-53

    def _evidence(self, state: State, users: np.ndarray) -> Pairs:
        """(place, item, 1000 / (visits made × degree^power)) of each visit."""
        graph, users = self._graph(state), np.asarray(users)
        known = (users >= 0) & (users < len(graph.degree))
        self_degree = np.where(known, graph.degree[np.where(known, users, 0)], 0)
        places, authors = state.follows.take(np.where(known, users, -1))
        friends = state.catalogue.author_user[authors]
        active = (friends >= 0) & (graph.degree[np.maximum(friends, 0)] > 0) & (friends != users[places])
        friends = Ragged.group(places[active], friends[active], len(users))
        alive = np.flatnonzero((self_degree > 0) | (friends.lengths > 0))
        users = users[alive]
        by_friends = np.where(self_degree[alive] > 0, np.where(friends.lengths[alive] > 0, 1 - self.config.own, 0), 1)
        first, count = friends.offsets[alive][:, None], friends.lengths[alive][:, None]
        at = np.full((len(alive), self.config.walks), -1, np.int64)
        held = np.append(friends.values, -1)
        visited = np.empty((self.config.steps, *at.shape), np.int32)
        for step in range(self.config.steps):
            again = at < 0 if step == 0 else self._draw(state, users, step, 0) < self.config.restart
            chance = self._draw(state, users, step, 1)
            # one number both chooses between self and friends and, stretched, which friend
            share = np.maximum(by_friends, 1e-9)[:, None]
            friend = held[first + np.minimum((chance / share * count).astype(np.int64), np.maximum(count - 1, 0))]
            origin = np.where(chance < by_friends[:, None], friend, users[:, None])
            at = np.where(again, origin, at)
            edge = (self._draw(state, users, step, 2) * graph.degree[at]).astype(np.int64)
            item = state.history.values[graph.start[at] + edge]
            visited[step] = item
            low = graph.engaged.offsets[item]
            width = graph.engaged.offsets[item + 1] - low
            at = graph.engaged.values[low + (self._draw(state, users, step, 3) * width).astype(np.int64)]
        row = np.broadcast_to(alive[None, :, None], visited.shape).ravel()
        items = visited.ravel()
        keep = graph.allowed[items]
        row, items = row[keep], items[keep]
        total = self.config.walks * self.config.steps
        return row, items, 1000 / total * graph.engaged.lengths[items] ** -self.config.degree_exponent

    def _costs(self, state: State, users: np.ndarray) -> np.ndarray:
        return np.full(len(users), self.config.walks * self.config.steps)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """Somebody followed who engaged with the item lately, or the item of the history with most in common."""
        graph, users = self._graph(state), np.array([user])
        friends = state.catalogue.author_user[state.follows.take(users)[1]]
        mine = np.unique(state.history.take(users)[1])
        place, people = graph.engaged.take(mine)
        reasons = []
        for item in np.asarray(items):
            engaged = graph.engaged[item]
            known = np.intersect1d(engaged, friends)
            shared = np.bincount(place[np.isin(people, engaged) & (mine[place] != item)], minlength=len(mine))
            if len(known):
                reasons.append(Reason("friend", int(known[0])))
            else:
                reasons.append(Reason("similar", int(mine[shared.argmax()])) if shared.any() else Reason("taste"))
        return reasons
