"""Shares of a slate by network, freshness, sentiment or any category of the items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from recsys_cli.data.schema import HOUR
from recsys_cli.data.state import State
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.allocation import NONE, RESERVE, allot, in_shares, missing, tell_lacks
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.out_of_network import in_network
from recsys_cli.pipeline.labels import AUTHOR, SOURCE, TOPICS, check_attribute
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Selector, StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

NETWORK, FRESHNESS, SENTIMENT = "network", "freshness", "sentiment"
LABELS = {
    NETWORK: ("out_of_network", "in_network"), FRESHNESS: ("old", "fresh"),
    SENTIMENT: ("negative", "neutral", "positive"),
}
"""What the settings call the groups of each mix, by their number."""
PRIOR = 5.0
"""Interactions at the share of all people with which a user's own in-network share is steadied."""


class MixConfig(StageConfig):
    """Shares of a slate: each slot goes to the group that is furthest behind its share, and in it to the first."""

    kind: Literal["mix"] = "mix"
    by: str = NETWORK
    """"network" (in_network, out_of_network), "freshness" (fresh, old), "sentiment" (positive, neutral, negative; by a
    number `sentiment` of the items from −1 to 1), or a category of the items."""
    shares: dict[str, Annotated[float, Field(ge=0, le=1)]] | Literal["own"] = {"in_network": 0.5, "out_of_network": 0.5}
    """Group → share of the slate, together at most 1; the rest goes to the other groups. "own" takes the shares of
    in and out of network in each user's own interactions."""
    fresh_hours: PositiveFloat = 24.0
    """Age up to which an item is fresh."""
    neutral: Annotated[float, Field(ge=0, le=1)] = 0.1
    """A sentiment no further than this from 0 is neutral."""

    @model_validator(mode="after")
    def _sensible(self) -> MixConfig:
        if self.shares == "own":
            if self.by != NETWORK:
                raise ValueError(f"shares: own belongs to by: {NETWORK}")
            return self
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"shares: they sum to {sum(self.shares.values()):g}; at most 1 can be given")
        if self.by in LABELS and (wrong := [g for g in self.shares if g not in LABELS[self.by]]):
            raise ValueError(f"shares: {self.by} has no group {wrong[0]!r}; {', '.join(LABELS[self.by])}")
        return self


class Mix(Selector):
    """Keeps shares of a slate as far as there are candidates."""

    config_type = MixConfig
    config: MixConfig
    reads = ("utility",)
    before = "diversity"
    _names: tuple[str, ...] = ()

    def __init__(self, config: MixConfig):
        super().__init__(config)
        self._own = PerState(own_shares)

    def prepare(self, bundle: Bundle) -> str | None:
        catalogue, by = bundle.catalogue, self.config.by
        self._names = LABELS.get(by, ())
        if by == NETWORK:
            return None if len(bundle.state.follows.values) else "needs follows"
        if by == FRESHNESS:
            return None if (catalogue.item_created > 0).any() else "needs items with created_at"
        if by == SENTIMENT:
            return None if SENTIMENT in catalogue.item_numbers else "needs items with a number `sentiment`"
        place = f"pipeline.stages.{self.name}"
        if by in (AUTHOR, TOPICS, SOURCE):
            raise ConfigError(f"{place}.by: {by} is no category", "for these, see the stages `constraints`, `exposure`")
        if not check_attribute(by, catalogue, f"{place}.by"):
            return f"needs items with {by}"
        self._names = tuple(catalogue.names[f"item.{by}"])
        for label in self.config.shares:
            if label not in self._names:
                hint = did_you_mean(label, self._names, f"there are: {', '.join(self._names[:20])}")
                raise ConfigError(f"{place}.shares: no item has {by} {label!r}", hint)
        return None

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        groups, targets = self._groups(query, candidates), self._targets(query)
        shares = self.config.shares
        named = [g for g, name in enumerate(self._names) if shares == "own" or name in shares]
        listed = np.array(named, np.int64)  # the others have what is left
        place = np.full(len(self._names) + 1, NONE)
        place[listed] = np.arange(len(listed))
        need = in_shares(targets[:, listed])
        lacked = np.zeros((len(query), len(listed), query.size), bool)
        out = allot(candidates, place[groups], len(listed), query.size + RESERVE, need, lacked)
        if lacked.any():
            short = missing(targets[:, listed], place[self._groups(query, out)], query.size, lacked)
            tell_lacks(query, self.name, short, [self._names[g] for g in named])
        return out

    def _targets(self, query: Query) -> np.ndarray:
        """float64[B, groups]"""
        if self.config.shares == "own":
            share = self._own(query.state)[query.users]
            return np.stack([1 - share, share], axis=1)
        row = np.array([self.config.shares.get(name, 0.0) for name in self._names])
        return np.broadcast_to(row, (len(query), len(row)))

    def _groups(self, query: Query, candidates: Candidates) -> np.ndarray:
        """int32[B, K], -1 where unknown."""
        catalogue, items, by = query.state.catalogue, candidates.items, self.config.by
        if by == NETWORK:
            return in_network(query, candidates)
        if by == FRESHNESS:
            created = catalogue.item_created[items]
            fresh = query.state.now - created <= self.config.fresh_hours * HOUR
            return np.where((items >= 0) & (created > 0), fresh.astype(np.int32), np.int32(-1))
        if by == SENTIMENT:
            number = catalogue.item_numbers[SENTIMENT][items]
            group = np.where(np.abs(number) <= self.config.neutral, 1, np.where(number > 0, 2, 0))
            return np.where((items >= 0) & np.isfinite(number), group, -1)
        return np.where(items >= 0, catalogue.item_codes[by][items], -1)


def own_shares(state: State) -> np.ndarray:
    """float64[n_users + 1]: the share of in network among the interactions of each user, steadied by that of all
    people; the last stands for somebody unknown."""
    author = state.catalogue.item_author[state.history.values]
    counted = author >= 0
    inside = _followed_pairs(state, state.history.rows, author)
    overall = float(inside[counted].mean()) if counted.any() else 0.5
    mine, total = (
        np.add.reduceat(np.append(values, 0).astype(np.float64), np.append(state.history.offsets, 0)[:-1])[:-1]
        * (state.history.lengths > 0)
        for values in (inside, counted)
    )
    return np.append((mine + PRIOR * overall) / (total + PRIOR), overall)


def _followed_pairs(state: State, users: np.ndarray, authors: np.ndarray) -> np.ndarray:
    """bool[m]: whether each user follows the author beside it; -1 is followed by nobody."""
    width = np.int64(max(state.catalogue.n_authors, 1))
    keys = state.follows.rows.astype(np.int64) * width + state.follows.values  # ascending: rows and values are
    wanted = users.astype(np.int64) * width + authors
    if not len(keys):
        return np.zeros(len(users), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return (keys[at] == wanted) & (authors >= 0)
