"""SimClusters: communities of producers, and users and items as sparse vectors over them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged, expand, offsets_of, ragged_of
from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.graph.user_author import Pairs
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.pairs import best_pairs, sum_pairs, without_pairs
from recsys_cli.retrieval.reason import Reason

CELLS_AT_ONCE = 4_000_000
ENOUGH = 0.5
"""Share of the authors engaged with that must have followers for follows to be the graph."""
Producers = Literal["follows", "authors", "items"]


class SimClustersConfig(RetrieverConfig):
    """SimClusters: sparse embeddings over communities (Satuluri et al., KDD 2020)."""

    kind: Literal["simclusters"] = "simclusters"
    renamed: ClassVar[dict[str, str]] = {"norm_power": "norm_exponent"}
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    graph: Literal["auto", "follows", "authors", "items"] = "auto"
    """Whose audience makes producers alike: followers of authors, those who engaged with authors, or those who
    engaged with items; "auto" takes follows where most authors have some, else authors, else items."""
    communities: PositiveInt = 150
    """Communities at most; fewer where there are less than five producers for each."""
    neighbours: PositiveInt = 50
    """Most similar producers kept for each."""
    min_followers: PositiveInt = 3
    """Producers with a smaller audience take part by their audience's communities only."""
    active: PositiveInt = 5
    """Communities kept in each vector, the strongest."""
    tie_weight: NonNegativeFloat = 2.0
    """Weight of ln(1 + decayed interactions with an author) beside 1 for a follow."""
    item_half_life_days: PositiveFloat = 1.0
    """Time after which an interaction counts half in the vector of its item."""
    prior: PositiveFloat = 0.5
    """Interactions that the author's own communities count for in the vector of an item."""
    norm_exponent: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Vectors of items are divided by their length to this power: 1 gives cosines, 0 leans to the popular."""
    per_community: PositiveInt = 1000
    """Items of each of the user's communities that are looked at, the strongest."""


class _Sparse(NamedTuple):
    """n vectors over communities with at most `active` entries each."""

    ids: np.ndarray
    """int32[n, A], -1 filler"""
    weights: np.ndarray
    """float32[n, A], 0 beside fillers"""


class _Items(NamedTuple):
    """Vectors of items as of a State."""

    sparse: _Sparse
    """divided by length ** norm_exponent"""
    strongest: Ragged
    """int32 items that may be proposed by community, strongest first, at most `per_community`"""


class SimClusters(DescribedArrayRetriever):
    """score(u, i) = U_u · W_i / ‖W_i‖^norm_exponent over communities.

    Fit: producers are alike by the cosine of their sets of followers; communities are found among them
    (`communities.find_communities`); the affiliation V of a producer is the share of its similarity that lies in each
    community, and for producers outside the mean of its followers. Serving: what a user is interested in, U, sums V
    over whom the user follows and engages with, of length 1. An item, W, sums U over those who engaged with it,
    decayed, and the V of its author, which is all that a new item has. Each keeps its `active` strongest entries.
    Vectors of items and users are of the State, so that they follow what happens after the fit.
    """

    config_type: ClassVar = SimClustersConfig
    part: ClassVar = "simclusters.bin"
    parts: ClassVar = ("ids", "weights", "labels", "author")
    config: SimClustersConfig

    def __init__(self, config: SimClustersConfig):
        super().__init__(config)
        self.producers: Producers = "follows"
        self.count = 0
        """communities"""
        self.labels = np.zeros(0, np.int32)
        """int32[producers] community of each producer, -1 outside"""
        self.known_for = _Sparse(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
        """V, a row a producer"""
        self._author = np.zeros(0, np.int32)
        self._items = PerState(self._embed_items)

    def missing(self, window: Window) -> str | None:
        follows = bool(len(window.state.follows.values)) and bool((window.catalogue.item_author >= 0).any())
        if self.config.graph == "follows" and not follows:
            return "needs follows of authors"
        if self.config.graph == "authors" and not (window.catalogue.item_author >= 0).any():
            return "needs items with authors"
        return None if follows or len(window.interactions[0]) else "needs follows or interactions"

    def _choose(self, window: Window) -> Producers:
        if self.config.graph != "auto":
            return self.config.graph
        if not (window.catalogue.item_author >= 0).any():
            return "items"
        known = {}
        for producers in ("follows", "authors"):
            people, followed = self._audience(window, producers)
            pairs = np.unique(people * np.int64(window.catalogue.n_authors) + followed)
            size = np.bincount(pairs % window.catalogue.n_authors, minlength=1)
            known[producers] = int((size >= self.config.min_followers).sum())
        return "follows" if known["follows"] >= max(known["authors"] * ENOUGH, 1) else "authors"

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from scipy.sparse import csr_matrix

        from recsys_cli.retrieval.graph.communities import find_communities

        catalogue = window.catalogue
        self.producers = self._choose(window)
        self._author = np.array(catalogue.item_author)
        people, followed = self._audience(window, self.producers)
        n = catalogue.n_items if self.producers == "items" else catalogue.n_authors
        audience = csr_matrix((np.ones(len(people), np.float64), (people, followed)), shape=(catalogue.n_users, n))
        audience.data[:] = 1
        size = np.bincount(audience.indices, minlength=n)
        wanted = min(self.config.communities, max(int((size >= self.config.min_followers).sum()) // 5, 1))
        with progress.step("simclusters", 3) as step:
            graph = self._similarities(audience, size)
            step.advance()
            self.labels = find_communities(graph, wanted, window.seed)
            self.count = int(self.labels.max(initial=-1)) + 1
            step.advance()
            self.known_for = self._affiliations(graph, audience)
            step.advance()

    @staticmethod
    def _audience(window: Window, producers: Producers) -> tuple[np.ndarray, np.ndarray]:
        """(user, producer) pairs."""
        if producers == "follows":
            return window.state.follows.rows, window.state.follows.values
        users, items, _ = window.interactions
        producer = items if producers == "items" else window.catalogue.item_author[items]
        return users[producer >= 0], producer[producer >= 0]

    def _similarities(self, audience, size: np.ndarray):
        from implicit.nearest_neighbours import CosineRecommender
        from scipy.sparse import diags

        from recsys_cli.retrieval.graph.communities import Similarities

        known = (size >= self.config.min_followers).astype(np.float64)
        audience = (audience @ diags(known)).tocsr()
        audience.eliminate_zeros()
        n = len(size)
        if not audience.nnz:
            return Similarities.of(*(np.zeros(0, np.int64),) * 2, np.zeros(0), n)
        # one more, since each producer is its own closest neighbour
        model = CosineRecommender(K=min(self.config.neighbours + 1, n), num_threads=0)
        with warnings.catch_warnings():
            # implicit converts its own weighted matrix and warns of it
            warnings.filterwarnings("ignore", message="Method expects CSR input")
            model.fit(audience, show_progress=False)
        found = model.similarity.tocoo()
        return Similarities.of(found.row, found.col, found.data, n)

    def _affiliations(self, graph, audience) -> _Sparse:
        """V: shares of similarity by community; the mean of the audience for producers without similarity."""
        n, width = len(self.labels), max(self.count, 1)
        rows = np.repeat(np.arange(n), np.diff(graph.offsets))
        community = self.labels[graph.columns]
        inside = community >= 0
        rows, community, weights = sum_pairs(rows[inside], community[inside], graph.weights[inside], width)
        # those at home in a community stand for it more than those who are near it
        weights = weights / np.maximum(np.bincount(rows, weights=weights, minlength=n)[rows], 1e-12)
        keep = weights >= 0.1
        known = _strongest(rows[keep], community[keep], weights[keep], n, self.config.active, 1.0)
        others = np.flatnonzero((known.ids[:, :1] < 0).all(axis=1)) if known.ids.shape[1] else np.arange(n)
        followers = audience.tocsc()
        start, count = followers.indptr[others].astype(np.int64), np.diff(followers.indptr)[others].astype(np.int64)
        at, people = expand(start, count, followers.indices)
        if not len(people):
            return known
        users = np.unique(people)
        place, producers = expand(
            audience.indptr[users].astype(np.int64), np.diff(audience.indptr)[users].astype(np.int64), audience.indices
        )
        interested = self._strong_sums(place, producers, np.ones(len(producers)), len(users), known)
        rows, community, weights = _through(interested, at, np.searchsorted(users, people), np.ones(len(at)))
        more = _strongest(others[rows], community, weights, n, self.config.active, 1.0)
        outside = np.zeros((n, 1), bool)
        outside[others] = True
        return _Sparse(np.where(outside, more.ids, known.ids), np.where(outside, more.weights, known.weights))

    def _strong_sums(self, places, producers, weights, batch: int, known: _Sparse) -> _Sparse:
        """Unit vectors of the strongest communities of weighted sums of V by place."""
        inside = producers < len(known.ids)
        return _strongest(
            *_through(known, places[inside], producers[inside], weights[inside]), batch, self.config.active, 1.0
        )

    def interested_in(self, state: State, users: np.ndarray) -> _Sparse:
        """U of users (int32[B]), empty for those of whom nothing is known."""
        users = np.asarray(users)
        if self.producers == "items":
            places, items = state.history.take(users)
            times = state.history_time.take(users)[1]
            weights = np.exp2(-np.minimum((state.now - times) / (14 * DAY), 60))
            return self._strong_sums(places, items, weights, len(users), self.known_for)
        follow, tie = state.follows.take(users), state.ties.take(users)
        strength = self.config.tie_weight * np.log1p(state.tie_strength.take(users)[1].astype(np.float64))
        places, authors = (np.concatenate(both) for both in zip(follow, tie, strict=True))
        weights = np.concatenate([np.ones(len(follow[0])), strength])
        return self._strong_sums(places, authors, weights, len(users), self.known_for)

    def _producer_of(self, catalogue: Catalogue) -> np.ndarray:
        """int64[n_items] row of V that stands for an item, -1 where there is none."""
        rows = np.arange(catalogue.n_items) if self.producers == "items" else catalogue.item_author
        return np.where(rows < len(self.known_for.ids), rows, -1)

    def _embed_items(self, state: State) -> _Items:
        """W of every item, from recent interactions and the communities of its producer."""
        n, config = state.catalogue.n_items, self.config
        since = (state.now - state.history_time.values) / (config.item_half_life_days * DAY)
        recent = since < 10
        items, people, decay = state.history.values[recent], state.history.rows[recent], np.exp2(-since[recent])
        users, at = np.unique(people, return_inverse=True)
        interested = [self.interested_in(state, users[s]) for s in _blocks(len(users))]
        engaged = [_through(_Sparse(*map(np.concatenate, zip(*interested, strict=True))), items, at, decay)]
        producer = self._producer_of(state.catalogue)
        has = np.flatnonzero((producer >= 0) & (state.catalogue.item_created < state.now))
        prior = _unit(self.known_for)
        engaged.append(_through(prior, has, producer[has], np.full(len(has), config.prior)))
        rows, community, weights = (np.concatenate(both) for both in zip(*engaged, strict=True))
        sparse = _strongest(rows, community, weights, n, config.active, config.norm_exponent)
        row, column = np.nonzero((sparse.ids >= 0) & eligible(state, config.max_age_days)[:, None])
        found, _ = best_pairs(
            sparse.ids[row, column].astype(np.int64),
            row.astype(np.int32),
            sparse.weights[row, column],
            self.count,
            min(config.per_community, max(n, 1)),
        )
        held = found >= 0
        return _Items(sparse, Ragged(offsets_of(held.sum(axis=1)), found[held]))

    def _dense(self, sparse: _Sparse) -> np.ndarray:
        """float32[B, communities + 1]; the last column, for fillers, is 0."""
        out = np.zeros((len(sparse.ids), self.count + 1), np.float32)
        np.put_along_axis(out, sparse.ids.astype(np.int64) % (self.count + 1), sparse.weights, axis=1)
        out[:, -1] = 0
        return out

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, table = np.asarray(users), self._items(state)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        reach = self.config.active * self.config.per_community * 2 + self.count + k
        for part in chunks(np.full(len(users), reach), CELLS_AT_ONCE):
            pairs = self._near(self.interested_in(state, users[part]), table, table.sparse)
            if self.config.exclude_seen:
                pairs = without_pairs(state.seen, users[part], *pairs)
            items[part], scores[part] = best_pairs(*pairs, part.stop - part.start, k)
        return items, scores

    def _near(self, sparse: _Sparse, table: _Items, measured: _Sparse) -> Pairs:
        """(place, item, product with `measured`) of what is strong in the communities of some vectors."""
        n = np.int64(max(len(measured.ids), 1))
        at, column = np.nonzero(sparse.ids >= 0)
        place, found = table.strongest.take(sparse.ids[at, column])
        keys = np.unique(at[place] * n + found)
        places, found = keys // n, (keys % n).astype(np.int32)
        values = _products(self._dense(sparse), places, measured, found)
        keep = values > 0
        return places[keep], found[keep], values[keep]

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, communities] U of users, and bool[B], False where it is empty."""
        dense = self._dense(self.interested_in(state, users))[:, :-1]
        return dense, dense.any(axis=1)

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k items of nearest communities (cosine) to each of the given ones, without itself."""
        items, table = np.asarray(items), self._items(state)
        unit = _unit(table.sparse)
        inside = (items >= 0) & (items < len(unit.ids))
        mine = _Sparse(
            *(
                np.where(inside[:, None], part[np.where(inside, items, 0)], fill)
                for part, fill in zip(unit, (-1, np.float32(0)), strict=True)
            )
        )
        places, found, values = self._near(mine, table, unit)
        other = found != items[places]
        return best_pairs(places[other], found[other], values[other], len(items), k)

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, table = np.asarray(items), self._items(state)
        people, at = unique_users(users)
        dense = np.concatenate([self._dense(self.interested_in(state, people[s])) for s in _blocks(len(people))])
        inside = np.clip(items, 0, max(len(table.sparse.ids) - 1, 0))
        values = _products(dense, np.repeat(at, items.shape[1]), table.sparse, inside.ravel()).reshape(items.shape)
        return np.where(items == inside, values, 0).astype(np.float32)

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, communities]: U of people with these histories who follow nobody."""
        places = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
        items = ragged_of(histories).values
        rows = np.arange(len(self.known_for.ids)) if self.producers == "items" else self._author
        known = (items >= 0) & (items < len(rows))
        places, producers = places[known], rows[items[known]]
        places, producers = places[producers >= 0], producers[producers >= 0]
        places, producers, times = sum_pairs(places, producers, np.ones(len(places)), max(len(self.known_for.ids), 1))
        sums = self._strong_sums(places, producers, np.log1p(times), len(histories), self.known_for)
        return self._dense(sums)[:, :-1]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        scores = self.score(state, np.array([user]), np.asarray(items)[None])[0]
        return [Reason("community") if s > 0 else Reason("taste") for s in scores]

    def adapt(self, catalogue: Catalogue) -> None:
        self._author = np.array(catalogue.item_author)

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {
            "ids": self.known_for.ids,
            "weights": self.known_for.weights,
            "labels": self.labels,
            "author": self._author,
        }
        return arrays, {"producers": self.producers, "count": self.count}

    def _set(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        self.known_for = _Sparse(arrays["ids"], arrays["weights"])
        self.labels, self._author = arrays["labels"], arrays["author"]
        self.producers, self.count = meta["producers"], meta["count"]


def _blocks(n: int, size: int = 20_000) -> list[slice]:
    """Slices that cover n rows; one, if empty, where there are none."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def _through(sparse: _Sparse, places: np.ndarray, rows: np.ndarray, weights: np.ndarray):
    """(place, community, weight) of the entries of `sparse[rows]`, each times its weight."""
    ids = sparse.ids[rows]
    at, column = np.nonzero(ids >= 0)
    return places[at], ids[at, column], sparse.weights[rows[at], column] * weights[at]


def _strongest(places, communities, weights, batch: int, active: int, norm_exponent: float) -> _Sparse:
    """The `active` largest sums of each place, divided by the length of what is kept to a power."""
    places, communities, totals = sum_pairs(
        np.asarray(places, np.int64), communities, weights, int(np.max(communities, initial=0)) + 1
    )
    ids, values = best_pairs(places, communities, totals, batch, active)
    values[ids < 0] = 0
    # summed entry by entry, so that a row is the same alone and in a batch
    length = np.sqrt((values.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return _Sparse(ids, (values / np.maximum(length, 1e-12) ** norm_exponent).astype(np.float32))


def _unit(sparse: _Sparse) -> _Sparse:
    length = np.sqrt((sparse.weights.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return _Sparse(sparse.ids, (sparse.weights / np.maximum(length, 1e-12)).astype(np.float32))


def _products(dense: np.ndarray, places: np.ndarray, sparse: _Sparse, rows: np.ndarray) -> np.ndarray:
    """float32[m] products of dense[places] with sparse[rows]; fillers read the last column, which is 0."""
    out = np.zeros(len(rows), np.float32)
    if not len(sparse.ids):
        return out
    for column in range(sparse.ids.shape[1]):
        out += dense[places, sparse.ids[rows, column]] * sparse.weights[rows, column]
    return out
