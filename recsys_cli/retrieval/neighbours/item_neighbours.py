"""Items engaged with by the same people as the items of the user's history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryConfig
from recsys_cli.retrieval.linear.graph_filter import co_occurrence, degrees, powered
from recsys_cli.retrieval.linear.item_filter import ItemFilter, ItemMap
from recsys_cli.retrieval.pairs import best_pairs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

K1, B = 1.2, 0.75
"""Constants of BM25 (Robertson and Zaragoza 2009)."""
Share = Annotated[float, Field(ge=0, le=1)]


class ItemNeighboursConfig(HistoryConfig):
    """Item co-occurrence: neighbours of what the user engaged with (Sarwar et al., WWW 2001)."""

    kind: Literal["item_neighbours"] = "item_neighbours"
    similarity: Literal["cosine", "jaccard", "tversky", "tfidf", "bm25", "asymmetric"] = "cosine"
    """Likeness of a history item i and a candidate j, of d_i and d_j people, c of them both: "cosine" c / √(d_i d_j);
    "jaccard" c / (d_i + d_j − c); "tversky" c / (c + a (d_i − c) + b (d_j − c)), with a and b of `tversky`;
    "asymmetric" c / (d_i^a d_j^(1 − a)), with a of `asymmetry` (Aiolli, RecSys 2013); "tfidf" the cosine, "bm25" the
    product, of vectors in which people with many items weigh less."""
    asymmetry: Share = 0.5
    """The a of "asymmetric": 1 is the share of the history item's people who have the candidate too."""
    tversky: tuple[NonNegativeFloat, NonNegativeFloat] = (0.3, 0.7)
    """The a and b of "tversky": what people who have only the history item, and only the candidate, take away."""
    shrink: NonNegativeFloat = 0.0
    """Added to the divisor: likenesses that few people speak for become less (Bell and Koren, ICDM 2007)."""
    neighbours: PositiveInt = 100
    """Neighbours kept for each item."""


class ItemNeighbours(ItemFilter):
    """score(u, i) = (Σ w²)^−½ Σ over the items j of u's history of w_j × similarity(j, i), i among j's neighbours."""

    config_type: ClassVar = ItemNeighboursConfig
    positive: ClassVar = True
    config: ItemNeighboursConfig

    @classmethod
    def alternatives(cls, config: ItemNeighboursConfig) -> list[ItemNeighboursConfig]:
        tried = (
            {"similarity": "tfidf", "neighbours": 300},
            {"similarity": "cosine", "shrink": 10.0, "neighbours": 300},
            {"similarity": "jaccard", "neighbours": 50},
            {"similarity": "bm25"},
            {"similarity": "tversky", "shrink": 5.0},
        )
        return [config.model_copy(update=update) for update in tried]

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        from scipy.sparse import diags_array

        people = degrees(touched)[1]
        edges, ones = touched, np.ones(touched.shape[1], np.float32)
        if self.config.similarity in ("tfidf", "bm25"):
            edges = (diags_array(rarity(touched)) @ touched).tocsr()
        divide = self._divisor(edges, people)
        shrink = np.float32(self.config.shrink)

        def measure(rows: np.ndarray, columns: np.ndarray, common: np.ndarray) -> np.ndarray:
            below = divide(rows, columns, common) + shrink
            return np.where(below > 0, common / np.maximum(below, 1e-30), 0)

        near = co_occurrence(edges, ones, ones, self.config.neighbours, diagonal=False, measure=measure)
        return ItemMap.from_parts(near, people > 0)

    def _divisor(self, edges: csr_matrix, people: np.ndarray):
        """What a product float32[m] of the vectors of rows and columns int[m] is divided by, as a function of them."""
        c = self.config
        if c.similarity in ("jaccard", "tversky"):
            a, b = (1.0, 1.0) if c.similarity == "jaccard" else c.tversky
            return lambda i, j, common: common + a * (people[i] - common) + b * (people[j] - common)
        if c.similarity == "bm25":
            length = people / max(people[people > 0].mean(), 1)
            left = right = (K1 * (1 - B + B * length) + 1) / (K1 + 1)
        elif c.similarity == "asymmetric":
            left, right = powered(people, c.asymmetry), powered(people, 1 - c.asymmetry)
        else:
            left = right = np.sqrt(np.asarray(edges.power(2).sum(axis=0))).ravel()
        return lambda i, j, common: left[i] * right[j]

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of each item that may be proposed."""
        items, n = np.asarray(items), len(self.map)
        places = np.flatnonzero((items >= 0) & (items < n))
        cells = self.map.entries(items[places], np.arange(n)) if n else np.zeros((0, 0), np.float32)
        cells[:, ~self._eligible(state)[:n]] = 0
        place, near = np.nonzero(cells > 0)
        return best_pairs(places[place], near.astype(np.int32), cells[place, near], len(items), k)


class Rp3BetaConfig(HistoryConfig):
    """RP3β: three steps of a random walk from item to item, popular ends held down (Paudel et al., TiiS 2017)."""

    kind: Literal["rp3beta"] = "rp3beta"
    alpha: NonNegativeFloat = 0.6
    """Power of the probability of each step; 1 is the walk itself."""
    beta: NonNegativeFloat = 0.4
    """Power of an item's number of users by which its score is divided; 0 leaves the popular ahead."""
    neighbours: PositiveInt = 200
    """Items, the likeliest ends of a walk, that are kept for each item."""


class Rp3Beta(ItemFilter):
    """B_ij = (Σ over people u who have i and j of |u|^−α) d_i^−α d_j^−β, B_ii = 0; d counts an item's people.

    P³α (Cooper et al., WWW 2014) from i by way of u to j, divided by the popularity of j (Paudel et al.).
    """

    config_type: ClassVar = Rp3BetaConfig
    positive: ClassVar = True
    config: Rp3BetaConfig

    @classmethod
    def alternatives(cls, config: Rp3BetaConfig) -> list[Rp3BetaConfig]:
        pairs = ((0.6, 0.6), (0.8, 0.6), (0.4, 0.3), (1.0, 0.3))
        return [config.model_copy(update={"alpha": a, "beta": b}) for a, b in pairs]

    def learn(self, touched: csr_matrix, progress: Progress, seed: int) -> ItemMap:
        from scipy.sparse import diags_array

        c = self.config
        users, items = degrees(touched)
        edges = (diags_array(powered(users, -c.alpha / 2)) @ touched).tocsr()
        walks = co_occurrence(edges, powered(items, -c.alpha), powered(items, -c.beta), c.neighbours, diagonal=False)
        return ItemMap.from_parts(walks, items > 0)


def rarity(touched: csr_matrix) -> np.ndarray:
    """float32[users] inverse frequency ln(items / (1 + the user's items)), 0 for who has nearly all or none."""
    users = degrees(touched)[0]
    return np.where(users > 0, np.maximum(np.log(touched.shape[1] / (1 + users)), 0), 0).astype(np.float32)
