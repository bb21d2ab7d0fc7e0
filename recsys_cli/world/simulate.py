"""One day of one block of users: what they were shown and what they did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.world.config import ACTIONS
from recsys_cli.world.graph import Edges
from recsys_cli.world.logging_policy import DayIndex, Policy, Pool, Shelves, close_up, repeats
from recsys_cli.world.model import Model
from recsys_cli.world.randomness import generator
from recsys_cli.world.responses import Odds, Shown, satisfy, slate_fatigue
from recsys_cli.world.visits import Visits, day_visits

NEW_TIE = np.float32(0.5)
"""Strength of a tie that began with a follow in the log."""


class EdgeSet:
    """Edges from users to people, as ascending keys user · n + person, with a value each."""

    def __init__(self, n: int, keys: np.ndarray, value: np.ndarray):
        """n: number of people. keys: int64[m] ascending. value: float32[m]."""
        self.n, self.keys, self.value = n, keys, value

    @classmethod
    def of_block(cls, users: slice, n: int, edges: Edges, value: np.ndarray | None = None) -> EdgeSet:
        """The edges of the users of a block, counted from its first."""
        low, high = np.searchsorted(edges.source, [users.start, users.stop])
        keys = (edges.source[low:high].astype(np.int64) - users.start) * n + edges.target[low:high]
        return cls(n, keys, np.zeros(len(keys), np.float32) if value is None else np.array(value[low:high]))

    def find(self, user: np.ndarray, target: np.ndarray) -> np.ndarray:
        """float32 value of each edge, 0 where there is none; user: int64."""
        if not len(self.keys):
            return np.zeros(len(user), np.float32)
        key = user * self.n + target
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where(self.keys[place] == key, self.value[place], np.float32(0))

    def has(self, user: np.ndarray, target: np.ndarray) -> np.ndarray:
        if not len(self.keys):
            return np.zeros(len(user), bool)
        key = user * self.n + target
        return self.keys[np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)] == key

    def add(self, user: np.ndarray, target: np.ndarray, value: np.float32) -> None:
        new = np.sort((user * self.n + target)[~self.has(user, target)])
        if len(new):
            new = new[np.concatenate([[True], new[1:] != new[:-1]])]
            place = np.searchsorted(self.keys, new)
            self.keys = np.insert(self.keys, place, new)
            self.value = np.insert(self.value, place, value)


@dataclass
class BlockDay:
    """The impressions of a block on a day; arrays of n, ordered by user, time and position."""

    shown: Shown
    session: np.ndarray
    request: np.ndarray
    source: np.ndarray
    propensity: np.ndarray
    actions: list[np.ndarray]
    dwell: np.ndarray
    odds: Odds

    @property
    def interacted(self) -> np.ndarray:
        """bool[n]: at least one positive action."""
        return np.logical_or.reduce(self.actions[:6])


class Block:
    """The users of a block and what changes about them from day to day."""

    def __init__(self, model: Model, shelves: Shelves, number: int):
        self.model, self.shelves, self.number = model, shelves, number
        self.users = users = model.users_of(number)
        n = self.size = users.stop - users.start
        graph, people = model.graph, len(model.people)
        self.follows = EdgeSet.of_block(users, people, graph.follows, graph.tie)
        self.avoids = EdgeSet.of_block(users, people, graph.blocks)
        muted = EdgeSet.of_block(users, people, graph.mutes).keys
        self.avoids.add(muted // people, muted % people, np.float32(0))
        # half the width of a key is worth it: seen keys are the largest part of what a world keeps in memory
        self.kind = np.uint32 if (n + 1) * max(shelves.n, 1) < 2**32 else np.int64
        self.seen = np.zeros(0, self.kind)
        self.satisfaction = np.zeros(n, np.float32)
        self.profile = np.zeros((n, model.config.topics), np.float32)
        row, column = np.nonzero(model.signup_topics[users] >= 0)
        self.profile[row, model.signup_topics[users][row, column]] = 1

    def run(self, policy: Policy, index: DayIndex, day: int) -> BlockDay | None:
        """Simulate a day; None where nobody was shown anything. Changes the block's state."""
        model = self.model
        visits = day_visits(
            model.config, model.people, model.seed, self.users, self.number, day, model.mean_requests, self.satisfaction
        )
        if not len(visits):
            return None
        local = (visits.user - self.users.start).astype(np.int64)
        people = self.follows.n
        pool = Pool.build(
            index, self.shelves, self.follows.keys // people, self.follows.keys % people, self.size, self.kind
        )
        rng = generator(model.seed, "slots", self.number, day)
        draws = policy.draw(rng, index, pool, self.profile, local, visits.time)
        items, columns = close_up(self._keep(draws.items, local, index))
        row, position = np.nonzero(items >= 0)
        if not len(row):
            return None
        out = self._respond(visits, items, row, position)
        column = columns[row, position]
        out.source, out.propensity = draws.source[row, column], draws.propensity[row, column]
        self._learn(out)
        return out

    def _keep(self, items: np.ndarray, local: np.ndarray, index: DayIndex) -> np.ndarray:
        """Empty the slots whose item may not be shown, and note the others as seen."""
        row, slot = np.nonzero(items >= 0)
        item, person = items[row, slot], local[row]
        author = self.model.content.author[item]
        keys = person.astype(self.kind) * self.kind(self.shelves.n) + item.astype(self.kind)
        bad = (author == person + self.users.start) | repeats(keys)
        if len(self.seen):
            bad |= self.seen[np.minimum(np.searchsorted(self.seen, keys), len(self.seen) - 1)] == keys
        bad |= self.avoids.has(person, author)
        # what is too old to be shown again need not be remembered
        fresh = self.seen[self.seen % self.kind(self.shelves.n) >= self.kind(index.low)]
        self.seen = np.concatenate([fresh, keys[~bad]])
        self.seen.sort(kind="stable")
        out = items.copy()
        out[row[bad], slot[bad]] = -1
        return out

    def _respond(self, visits: Visits, items: np.ndarray, row: np.ndarray, position: np.ndarray) -> BlockDay:
        behaviour = self.model.behaviour
        item = items[row, position]
        user = visits.user[row]
        shown = Shown(
            user=user, item=item, time=visits.time[row], position=position.astype(np.int16),
            fatigue=slate_fatigue(items, behaviour.content)[row, position], depth=visits.depth[row],
            surface=visits.surface[row], device=visits.device[row],
            tie=self.follows.find(user.astype(np.int64) - self.users.start, behaviour.content.author[item]),
        )
        odds = behaviour.odds(shown)
        actions, dwell = behaviour.respond(shown, odds, self.model.seed)
        return BlockDay(
            shown=shown, session=visits.session[row], request=visits.request[row], source=position,
            propensity=dwell, actions=actions, dwell=dwell, odds=odds,
        )

    def _learn(self, day: BlockDay) -> None:
        """What tomorrow depends on: satisfaction, the policy's profile, new follows, blocks and mutes."""
        local = day.shown.user.astype(np.int64) - self.users.start
        actions = dict(zip(ACTIONS, day.actions, strict=True))
        self.satisfaction = satisfy(self.satisfaction, local, actions, day.dwell)
        content, topics = self.model.content, self.model.config.topics
        done = np.flatnonzero(day.interacted)
        for column in range(2):
            topic = content.topics[day.shown.item[done], column].astype(np.int64)
            known = topic >= 0
            counts = np.bincount(local[done][known] * topics + topic[known], minlength=self.profile.size)
            self.profile += counts.reshape(self.profile.shape)
        author = content.author[day.shown.item].astype(np.int64)
        self.follows.add(local[actions["follow"]], author[actions["follow"]], NEW_TIE)
        away = actions["block"] | actions["mute"]
        self.avoids.add(local[away], author[away], np.float32(0))
