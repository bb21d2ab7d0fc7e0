"""Communities in a weighted similarity graph, by Metropolis–Hastings moves along its edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.data.ragged import expand, offsets_of
from recsys_cli.retrieval.pairs import sum_pairs

BLOCKS = 8
"""A sweep moves the nodes in so many blocks; those of one block move at once."""
SPARE = 3
"""Communities at the start for each one wanted."""


class Similarities(NamedTuple):
    """An undirected graph: node i has the neighbours columns[offsets[i]:offsets[i + 1]], weights beside them."""

    offsets: np.ndarray
    """int64[n + 1]"""
    columns: np.ndarray
    """int32[m]"""
    weights: np.ndarray
    """float64[m], above 0"""

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, n: int) -> Similarities:
        """From directed edges: the two directions of an edge become one with the larger weight."""
        keep = (rows != columns) & (weights > 0)
        rows, columns, weights = rows[keep].astype(np.int64), columns[keep].astype(np.int64), weights[keep]
        keys = np.concatenate([rows * n + columns, columns * n + rows])
        both = np.concatenate([weights, weights]).astype(np.float64)
        order = np.lexsort((-both, keys))
        keys, first = np.unique(keys[order], return_index=True)
        offsets = offsets_of(np.bincount(keys // max(n, 1), minlength=n))
        return cls(offsets, (keys % max(n, 1)).astype(np.int32), both[order][first])

    @property
    def strengths(self) -> np.ndarray:
        """float64[n] sum of the weights of each node."""
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return np.bincount(rows, weights=self.weights, minlength=len(self.offsets) - 1)

    def of_nodes(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place in `nodes`, neighbour, weight) of every edge of some nodes."""
        start, count = self.offsets[nodes], self.offsets[nodes + 1] - self.offsets[nodes]
        places, columns = expand(start, count, self.columns)
        return places, columns, expand(start, count, self.weights)[1]


def find_communities(
    graph: Similarities, k: int, seed: int = 0, sweeps: int = 20, resolution: float = 2.0, heat: float = 0.02
) -> np.ndarray:
    """int32[n] community of each node, numbered from 0 by falling size; -1 for nodes without neighbours.

    After the sampler of SimClusters (Satuluri et al., KDD 2020), with one community a node as in its production
    form. It starts from neighbourhoods of low conductance, SPARE times k. A move proposes the community of a
    neighbour drawn by weight, and is taken with probability min(1, exp(gain / temperature)); the temperature falls
    from `heat` to 0 over the sweeps. The gain of node u in community c is the share of u's weight that falls into
    c, less resolution × the share of the whole graph's weight in c, so that links within count and missing links
    cost (modularity). Communities left empty vanish, and while more than k are left the two are joined that lose
    least. Last, every node goes where it gains most until none moves. There may be fewer than k.
    """
    strengths, rng = graph.strengths, np.random.default_rng(seed)
    price = resolution / max(float(strengths.sum()), 1e-12)
    labels = _start(graph, strengths, min(SPARE * k, max(len(strengths), 1)))
    linked = np.flatnonzero(strengths > 0)

    def sweep(temperature: float, greedy: bool) -> int:
        mass, moved = _mass(strengths, labels), 0
        for nodes in np.array_split(rng.permutation(linked), min(BLOCKS, max(len(linked), 1))):
            draw = None if greedy else (rng.random(len(nodes)), rng.random(len(nodes)))
            new = _moves(graph, strengths, labels, mass, nodes, price, temperature, draw)
            moved += int((new != labels[nodes]).sum())
            for sign, held in ((-1, labels[nodes]), (1, new)):
                inside = held >= 0
                mass += sign * np.bincount(held[inside], weights=strengths[nodes][inside], minlength=len(mass))
            labels[nodes] = new
        return moved

    for number in range(sweeps):
        sweep(heat * (1 - number / sweeps), greedy=False)
    labels = _join(graph, _by_size(labels), k, price)
    for _ in range(10):
        if not sweep(0.0, greedy=True):
            break
    return _by_size(labels).astype(np.int32)


def _mass(strengths: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[k] weight of each community."""
    held = labels >= 0
    return np.bincount(labels[held], weights=strengths[held], minlength=max(int(labels.max(initial=-1)) + 1, 1))


def _by_size(labels: np.ndarray) -> np.ndarray:
    """int64[n] the same communities numbered from 0 by falling size, the empty ones left out."""
    sizes = np.bincount(labels[labels >= 0])
    number = np.empty(len(sizes), np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(labels >= 0, np.append(number, -1)[labels], -1)


def _join(graph: Similarities, labels: np.ndarray, k: int, price: float) -> np.ndarray:
    """int64[n] labels with the best two communities joined, again and again, until k are left."""
    count = int(labels.max(initial=-1)) + 1
    if count <= k:
        return labels
    rows = np.repeat(labels, np.diff(graph.offsets))
    columns = labels[graph.columns]
    held = (rows >= 0) & (columns >= 0)
    links = np.bincount(rows[held] * count + columns[held], weights=graph.weights[held], minlength=count * count)
    links = links.reshape(count, count)
    mass = _mass(graph.strengths, labels)
    into, gone = np.arange(count), np.zeros(count, bool)
    for _ in range(count - k):
        gain = (links - price * np.outer(mass, mass)) / np.maximum(np.minimum.outer(mass, mass), 1e-12)
        gain[gone] = gain[:, gone] = -np.inf
        np.fill_diagonal(gain, -np.inf)
        a, b = np.unravel_index(int(gain.argmax()), gain.shape)
        links[a] += links[b]
        links[:, a] += links[:, b]
        mass[a] += mass[b]
        gone[b] = True
        into[into == b] = a
    return _by_size(np.where(labels >= 0, into[labels], -1))


def _start(graph: Similarities, strengths: np.ndarray, k: int) -> np.ndarray:
    """int64[n] labels of up to k disjoint neighbourhoods, those of least conductance first; -1 elsewhere."""
    n = len(strengths)
    labels = np.full(n, -1, np.int64)
    size = max(-(-n // max(k, 1)), 2)
    found = 0
    for node in np.argsort(_conductance(graph, strengths), kind="stable"):
        if found == k:
            break
        start, stop = graph.offsets[node], graph.offsets[node + 1]
        if labels[node] >= 0 or start == stop:
            continue
        free = np.flatnonzero(labels[graph.columns[start:stop]] < 0) + start
        closest = free[np.argsort(-graph.weights[free], kind="stable")][: size - 1]
        labels[graph.columns[closest]] = found
        labels[node] = found
        found += 1
    return labels


def _conductance(graph: Similarities, strengths: np.ndarray) -> np.ndarray:
    """float64[n] of the neighbourhood of each node: weight that leaves it over weight that touches it."""
    from scipy.sparse import csr_matrix, identity

    n = len(strengths)
    links = csr_matrix((graph.weights, graph.columns, graph.offsets), shape=(n, n))
    member = (links > 0).astype(np.float64) + identity(n, format="csr")
    volume = member @ strengths
    inside = np.asarray((member @ links).multiply(member).sum(axis=1)).ravel()
    return 1 - inside / np.maximum(volume, 1e-12)


def _moves(graph, strengths, labels, mass, nodes, price: float, temperature: float, draw) -> np.ndarray:
    """int64[b] the next community of each node. draw: two uniform numbers a node, None to take the best."""
    places, columns, weights = graph.of_nodes(nodes)
    held = labels[columns] >= 0
    places, columns, weights = places[held], columns[held], weights[held]
    k = len(mass)
    here, community, link = sum_pairs(places, labels[columns], weights, k)
    old = labels[nodes]
    own = old[here] == community
    gain = link / strengths[nodes][here] - price * (mass[community] - np.where(own, strengths[nodes][here], 0))
    stay = np.where(old >= 0, -price * (mass[np.maximum(old, 0)] - strengths[nodes]), -1.0)
    stay[here[own]] = gain[own]
    new = old.copy()
    if draw is None:
        order = np.lexsort((gain, here))
        last = order[np.flatnonzero(np.diff(here[order], append=-1))]
        better = gain[last] > stay[here[last]] + 1e-12
        new[here[last][better]] = community[last][better]
        return new
    # one running sum over all links finds, for each node, the community that its number falls into
    ends = np.cumsum(link)
    count = np.bincount(here, minlength=len(nodes))
    some = count > 0
    stop = np.cumsum(count)
    base = np.where(stop > count, ends[np.maximum(stop - count - 1, 0)], 0.0)
    whole = np.where(some, ends[np.maximum(stop - 1, 0)], 0.0) - base
    at = np.searchsorted(ends, base + draw[0] * whole, "right")
    at = np.clip(at, stop - count, np.maximum(stop - 1, 0))
    rise = np.where(some, gain[np.minimum(at, max(len(gain) - 1, 0))] if len(gain) else 0, -np.inf) - stay
    with np.errstate(over="ignore"):
        taken = (rise >= 0) | (draw[1] < np.exp(np.minimum(rise, 0) / max(temperature, 1e-9)))
    taken &= some
    new[taken] = community[at[taken]]
    return new
