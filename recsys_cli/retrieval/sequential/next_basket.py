"""What stands in the basket after this one, and what goes with what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys_cli.data.ragged import Ragged, expand, offsets_of, ragged_of
from recsys_cli.data.state import State
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.linear.graph_filter import powered
from recsys_cli.retrieval.linear.item_filter import strongest
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.sequential.gaps import decayed
from recsys_cli.retrieval.sequential.ordered import Decay, OrderedConfig, OrderedFilter, RowStack
from recsys_cli.retrieval.sequential.sessions import TOGETHER, Sessions, has_groups, sessions_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scipy.sparse import csr_matrix

PAIRS_AT_ONCE = 8_000_000
"""Pairs of an item of a basket and one of a later basket, or of the same, held at a time."""
COLUMNS = {"request": "request_id", "session": "session_id"}


class NextBasketConfig(OrderedConfig):
    """Next basket: transitions from basket to basket, in the family of FPMC's chain of sets (Rendle et al., WWW 2010),
    counted instead of factorised, and what is taken together."""

    kind: Literal["next_basket"] = "next_basket"
    basket: Literal["auto", "request", "session", "moment"] = "auto"
    """What is taken together: the rows of one request, of one session, or of one person at one moment; "auto" takes
    the first of request, moment and session by which most interactions stand beside another one, else moments."""
    basket_items: PositiveInt = 100
    """Latest distinct items of a basket that are kept."""
    steps: PositiveInt = 3
    """Baskets after one up to which what is in them counts."""
    step_decay: Decay = 0.6
    """What a basket counts of the one before it, after the same one."""
    query_decay: Decay = 0.7
    """What a basket of the history counts of the one after it when asked; 1 makes all equal."""
    smoothing: NonNegativeFloat = 30.0
    """Added to the sum of an item's transitions before they are divided by it: the rare are trusted less."""
    popularity_exponent: float = -0.3
    """Power of an item's number of baskets by which its score is multiplied; below 0 tempers the popular."""
    complement_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the score that what goes with the latest basket has; the rest is that of what comes after baskets. For a
    history that is given with the request, which is one basket not yet closed, it is the other way round."""


class NextBasket(OrderedFilter):
    """score(u, ·) = (1 − a) Σ_b d^b mean over i in basket b of T[i] / Σ_b d^b + a mean over i in basket 0 of C[i].

    Basket 0 is the latest. T_ij = c_j^p M_ij / (Σ_j M_ij + smoothing), where M_ij is the sum over steps g from 1 of
    step_decay^(g − 1) / |basket of i| times the baskets of i after which, g later, j stands; C is the same of the pairs
    within a basket, over its other items. c_j is the number of baskets that hold j. The map has 2n rows, those of T
    and then those of C. When asked, a basket is what no gap divides that is longer than those within baskets of the
    log.
    """

    part: ClassVar = "baskets.bin"
    parts: ClassVar = ("offsets", "columns", "weights", "known", "gap", "people")
    config_type: ClassVar = NextBasketConfig
    config: NextBasketConfig
    positive: ClassVar = True

    @classmethod
    def alternatives(cls, config: NextBasketConfig) -> list[NextBasketConfig]:
        tried = ({"steps": 1, "complement_share": 0.0}, {"query_decay": 0.9}, {"complement_share": 0.5})
        return [config.model_copy(update=update) for update in tried]

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        alone = {"gap": np.zeros(1, np.int64), "people": np.zeros(1, np.int64)}
        super()._set(alone | arrays)

    def missing(self, window: Window) -> str | None:
        column = getattr(window.log, self.config.basket, None) if self.config.basket in COLUMNS else ()
        if len(window.interactions[0]) and column is None:
            return f"needs {COLUMNS[self.config.basket]}"
        return super().missing(window)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        n = window.catalogue.n_items
        if not len(window.interactions[0]):
            self._set(RowStack.empty().arrays(np.zeros(n, bool)) | {"offsets": np.zeros(2 * n + 1, np.int64)})
            return
        with progress.step("next basket"):
            found = baskets_of(window, self.config.basket)
            owner = Ragged(offsets_of(np.bincount(found.user, minlength=window.catalogue.n_users)), found.user)
            baskets = _sets(found.items, self.config.basket_items)
            self._set(self._learn(baskets, owner, n) | {
                "gap": np.array([found.gap], np.int64), "people": np.array([window.catalogue.n_users], np.int64)
            })  # fmt: skip

    def _learn(self, baskets: Ragged, owner: Ragged, n_items: int) -> dict[str, np.ndarray]:
        """The arrays, from int32 items by basket; owner: baskets by person, oldest first."""
        c = self.config
        count = np.bincount(baskets.values, minlength=n_items)
        tempered = powered(count, c.popularity_exponent).astype(np.float32)
        stack = RowStack.empty()
        left = np.repeat(owner.offsets[1:], owner.lengths) - 1 - np.arange(len(owner.values))
        for steps in (np.arange(1, c.steps + 1), np.zeros(1, np.int64)):
            for rows in _pair_sums(baskets, left, steps, decayed(c.step_decay, len(steps)), n_items):
                total = np.asarray(rows.sum(axis=1)).ravel() + c.smoothing
                rows.data *= tempered[rows.indices] / np.repeat(np.maximum(total, 1e-12), np.diff(rows.indptr))
                stack.add(strongest(rows, c.neighbours))
        return stack.arrays(count > 0)

    def _weighted(self, baskets: Ragged, given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(place ascending, row of the map, float32 weight) of the latest known events; baskets: (number of the basket
        before the latest, item) by history, the number × n + item; given: bool[B] whether a history is one open
        basket."""
        n, c = max(len(self), 1), self.config
        place = baskets.rows.astype(np.int64)
        behind, item = np.divmod(baskets.values, n)
        held = self._arrays["known"][item] if len(self) else np.zeros(len(item), bool)
        held &= behind < c.history
        place, behind, item = place[held], behind[held], item[held]
        if not len(place):
            return place, item, np.zeros(0, np.float32)
        group, first = np.unique(place * np.int64(c.history) + behind, return_index=True)
        inverse = np.searchsorted(group, place * np.int64(c.history) + behind)
        each = np.bincount(inverse).astype(np.float64)
        powers = decayed(c.query_decay, c.history)[behind[first]]
        # baskets of which nothing is known take no share
        share = powers / np.bincount(place[first], powers, len(given))[place[first]]
        mean = 1 / each[inverse]
        latest = behind == 0
        a = np.where(given, 1 - c.complement_share, c.complement_share)[place]
        weights = np.concatenate([(1 - a) * share[inverse] * mean, (a * mean)[latest]])
        places = np.concatenate([place, place[latest]])
        rows = np.concatenate([item, item[latest] + n])
        order = np.argsort(places, kind="stable")
        return places[order], rows[order], weights[order].astype(np.float32)

    def rows_of(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray]:
        """As in `OrderedFilter`, every history being one open basket."""
        inside = (histories.values >= 0) & (histories.values < len(self))
        offsets = offsets_of(np.bincount(histories.rows[inside], minlength=len(histories)))
        once = Ragged(offsets, histories.values[inside].astype(np.int64)).sorted_rows()
        return self._summed(*self._weighted(once, np.ones(len(histories), bool)), len(histories))

    def _baskets(self, state: State, users: np.ndarray) -> tuple[Ragged, np.ndarray]:
        """What `_weighted` takes, of users int32[B]."""
        place, item = state.history.take(users)
        time = state.history_time.take(users)[1]
        given = users >= self._arrays["people"][0]
        new = np.zeros(len(place), bool)
        new[1:] = (place[1:] == place[:-1]) & (np.diff(time) > self._arrays["gap"][0]) & ~given[place[1:]]
        number = np.cumsum(new)
        latest = np.zeros(len(users), np.int64)
        np.maximum.at(latest, place, number)
        inside = item < len(self)
        place, item, behind = place[inside], item[inside], (latest[place] - number)[inside]
        values = behind * np.int64(max(len(self), 1)) + item
        return Ragged.group(place, values, len(users)).sorted_rows(), given

    def rows(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        users = np.asarray(users)
        return self._summed(*self._weighted(*self._baskets(state, users)), len(users))

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: what stands for somebody is the score of every item, the history being one basket."""
        return self.rows_of(ragged_of(histories))[0]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The item of the history that adds most to the score."""
        items, n = np.asarray(items), max(len(self), 1)
        _, rows, weights = self._weighted(*self._baskets(state, np.array([user])))
        map_rows = Ragged(self._arrays["offsets"], self._arrays["columns"])
        place, columns = map_rows.take(rows)
        strength = expand(map_rows.offsets[rows], map_rows.lengths[rows], self._arrays["weights"])[1] * weights[place]
        out = []
        for item in items.tolist():
            mine = np.flatnonzero((columns == item) & (rows[place] % n != item))
            best = mine[strength[mine].argmax()] if len(mine) else -1
            out.append(Reason("similar", int(rows[place[best]] % n)) if best >= 0 else Reason("taste"))
        return out


def baskets_of(window: Window, basket: str, *, sessions: bool = True) -> Sessions:
    """The interactions of a window by what was taken together; see `NextBasketConfig.basket`. "auto" takes no session
    without `sessions`."""
    if basket != "auto":
        return sessions_of(window, COLUMNS.get(basket, "gap"))
    moments = sessions_of(window, "gap")
    for name in ("request", "moment", *(["session"] if sessions else [])):
        if name == "moment":
            found = moments
        elif has_groups(getattr(window.log, name)):
            found = sessions_of(window, COLUMNS[name])
        else:
            continue
        if found.together >= TOGETHER:
            return found
    return moments


def _sets(items: Ragged, most: int) -> Ragged:
    """The latest `most` items of every basket, ascending, each once."""
    count = np.minimum(items.lengths, most)
    return Ragged(offsets_of(count), expand(items.offsets[1:] - count, count, items.values)[1]).sorted_rows()


def _pair_sums(
    baskets: Ragged, left: np.ndarray, steps: np.ndarray, weights: np.ndarray, n_items: int
) -> Iterator[csr_matrix]:
    """M[i, j] = Σ over baskets b that hold i and steps g, j in the basket g after b, of weight(g) / share of b, in
    blocks of rows, in order.

    left: int64[S] baskets of the same person after each. steps: int64; 0 is the basket itself without the item, whose
    share is over its other items. weights: float64 of each step.
    """
    from scipy.sparse import csr_matrix

    length = baskets.lengths
    within = steps[0] == 0
    share = 1 / np.maximum(length - 1 if within else length, 1)
    by_item = Ragged.group(baskets.values, baskets.rows, n_items)
    cost = np.zeros(len(baskets), np.int64)
    for step in steps.tolist():
        cost += np.where(left >= step, np.append(length, np.zeros(step, np.int64))[step:], 0)
    item_cost = np.bincount(baskets.values, cost[baskets.rows], n_items).astype(np.int64)
    shape = len(baskets), n_items
    for block in chunks(item_cost, PAIRS_AT_ONCE):
        low, high = by_item.offsets[block.start], by_item.offsets[block.stop]
        of = by_item.values[low:high].astype(np.int64)
        offsets, n = by_item.offsets[block.start : block.stop + 1] - low, block.stop - block.start
        total = csr_matrix((n, n_items), dtype=np.float32)
        for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
            can = left[of] >= step
            kept = offsets_of(can)[offsets]
            later = csr_matrix((np.ones(len(baskets.values), np.float32), baskets.values, baskets.offsets), shape=shape)
            ours = csr_matrix(((weight * share[of[can]]).astype(np.float32), of[can] + step, kept), (n, len(baskets)))
            total = total + ours @ later
        if within:
            rows = np.repeat(np.arange(n), np.diff(total.indptr))
            total.data[total.indices == rows + block.start] = 0
            total.eliminate_zeros()
        yield total
