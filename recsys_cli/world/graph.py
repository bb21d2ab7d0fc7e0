"""Who follows, blocks and mutes whom: preferential attachment, communities, homophily and returned follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.people import People, log_start
from recsys_cli.world.randomness import generator, weighted_choice

ROUNDS = 8
"""The graph grows in so many rounds; within a round nobody sees the others' new follows."""


@dataclass(frozen=True)
class Edges:
    """Directed edges, ordered by (source, target), each pair once."""

    source: np.ndarray
    """int32[m] user"""
    target: np.ndarray
    """int32[m] user"""
    created: np.ndarray
    """int64[m] µs"""

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Graph:
    """Edges as they stand when the log begins."""

    follows: Edges
    tie: np.ndarray
    """float32[follows] strength of the tie, 0.3 to 1.5, more where the follow is mutual"""
    blocks: Edges
    mutes: Edges


def make_graph(config: WorldConfig, people: People, seed: int) -> Graph:
    """The graph at the start of the log.

    Follows are proposed in rounds: a share copies the target of a follow that exists already (the copying
    model of preferential attachment, Kumar et al., FOCS 2000), a share closes triangles, the rest finds
    publishers by their rate and quality; each within one of the follower's communities or anywhere.
    """
    n = config.users
    rng = generator(seed, "graph")
    keys = _grow(config, people, rng) if n > 1 else np.zeros(0, np.int64)
    source, target = keys // n, keys % n
    mutual = _contains(keys, target * n + source)
    tie = 0.3 + 0.7 * rng.beta(2, 3, len(keys)) + 0.5 * mutual
    created = _edge_times(config, people, rng, source, target)
    follows = Edges(source.astype(np.int32), target.astype(np.int32), created)
    taken = keys
    out = []
    for mean in (config.graph.mean_blocks, config.graph.mean_mutes):
        more = _aversions(config, people, rng, mean, taken)
        taken = _once(np.concatenate([taken, more]))
        source, target = more // n, more % n
        out.append(Edges(
            source.astype(np.int32), target.astype(np.int32), _edge_times(config, people, rng, source, target)
        ))
    return Graph(follows, tie.astype(np.float32), *out)


def _contains(sorted_keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(sorted_keys):
        return np.zeros(len(wanted), bool)
    return sorted_keys[np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)] == wanted


def _grow(config: WorldConfig, people: People, rng: np.random.Generator) -> np.ndarray:
    """int64 keys source * n + target, ascending."""
    n, settings = config.users, config.graph
    # publishers are found by how much and how well they publish; the others only now and then
    fitness = people.publishing * np.exp(0.5 * people.quality) + 0.03
    degree = np.exp(rng.normal(0, settings.follows_spread, n) - settings.follows_spread**2 / 2) * settings.mean_follows
    degree = np.minimum(degree, max(n - 1, 1) * 0.5)
    member = _members(config, people)
    keys = np.zeros(0, np.int64)
    for round_number in range(1, ROUNDS + 1):
        # some proposals come to nothing; the next round makes up for them
        has = np.bincount(keys // n, minlength=n)
        wanted = np.floor(np.maximum(degree * round_number / ROUNDS - has, 0) + rng.random(n))
        source = np.repeat(np.arange(n), wanted.astype(np.int64))
        target = _propose(config, people, rng, source, keys, fitness, member)
        foreign = people.language[source] != people.language[target]
        keep = (source != target) & ~(foreign & (rng.random(len(source)) < settings.same_language))
        source, target = source[keep], target[keep]
        returned = rng.random(len(source)) < settings.reciprocity
        new = np.sort(np.concatenate([source * n + target, target[returned] * n + source[returned]]))
        keys = _once(np.concatenate([keys, new]))
    return keys


def _once(keys: np.ndarray) -> np.ndarray:
    """The keys in ascending order, each once (two ascending runs merge in linear time)."""
    keys = np.sort(keys, kind="stable")
    first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def _members(config: WorldConfig, people: People) -> Ragged:
    """Users by community."""
    row, column = np.nonzero(people.communities >= 0)
    return Ragged.group(people.communities[row, column].astype(np.int64), row, config.communities)


def _propose(
    config: WorldConfig, people: People, rng: np.random.Generator, source: np.ndarray, keys: np.ndarray,
    fitness: np.ndarray, member: Ragged,
) -> np.ndarray:
    n, m, settings = config.users, len(source), config.graph
    community = people.communities[source, rng.integers(0, 3, m)]
    community = np.where(community >= 0, community, people.communities[source, 0]).astype(np.int64)
    target = weighted_choice(rng, fitness, m)
    at_home = rng.random(m) < settings.homophily
    target[at_home] = _within(rng, member, fitness, community[at_home])
    if not len(keys):
        return target
    kind = rng.random(m)
    copy_ = kind < settings.attachment
    popular = np.bincount(keys % n, minlength=n).astype(np.float64)
    target[copy_ & ~at_home] = weighted_choice(rng, popular, int((copy_ & ~at_home).sum()))
    target[copy_ & at_home] = _within(rng, member, popular, community[copy_ & at_home], fitness)
    close = np.flatnonzero((kind >= settings.attachment) & (kind < settings.attachment + settings.closure))
    offsets = offsets_of(np.bincount(keys // n, minlength=n))
    friend, has = _random_neighbour(rng, keys, offsets, n, source[close])
    further, has_further = _random_neighbour(rng, keys, offsets, n, friend)
    found = has & has_further
    target[close[found]] = further[found]
    return target


def _within(
    rng: np.random.Generator, member: Ragged, weight: np.ndarray, community: np.ndarray,
    otherwise: np.ndarray | None = None,
) -> np.ndarray:
    """One member of each given community, in proportion to `weight` (to `otherwise` where all of it is 0)."""
    weights = weight[member.values]
    if otherwise is not None:
        weights = weights + 1e-6 * otherwise[member.values]
    edges = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    low, high = edges[member.offsets[community]], edges[member.offsets[community + 1]]
    place = np.searchsorted(edges, low + rng.random(len(community)) * (high - low), side="right") - 1
    place = np.clip(place, member.offsets[community], member.offsets[community + 1] - 1)
    return member.values[place]


def _random_neighbour(rng, keys, offsets, n: int, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = offsets[source + 1] - offsets[source]
    place = offsets[source] + (rng.random(len(source)) * count).astype(np.int64)
    return keys[np.minimum(place, len(keys) - 1)] % n, count > 0


def _aversions(
    config: WorldConfig, people: People, rng: np.random.Generator, mean: float, taken: np.ndarray
) -> np.ndarray:
    """Blocks or mutes: mostly of publishers who tend to harm, never of somebody in `taken`."""
    n = config.users
    if n < 2 or mean == 0:
        return np.zeros(0, np.int64)
    m = int(rng.poisson(mean * n))
    source = rng.integers(0, n, m)
    target = weighted_choice(rng, (people.publishing + 0.01) * (0.1 + people.harms.max(axis=1) ** 2 * 5), m)
    keys = _once((source * n + target)[source != target])
    return keys[~_contains(taken, keys)]


def _edge_times(config: WorldConfig, people: People, rng, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Some moment after both joined and before the log; at once where one of them joins later."""
    both = np.maximum(people.created[source], people.created[target])
    span = np.maximum(log_start(config) - both, 0)
    return (both + (span * rng.random(len(source))).astype(np.int64)).astype(np.int64)
