"""Promoted slots: what brings promoted items among the candidates, and what puts them into their places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.promoted_config import PromotedConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.sourcing import add_candidates
from recsys_cli.pipeline.stage import Selector, Source
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.state import State

_KEY = "pipeline.promoted"


def promoted_items(config: PromotedConfig, catalogue: Catalogue) -> np.ndarray:
    """bool[n_items]: which are promoted; ConfigError where the catalogue has no such attribute or value."""
    name = config.attribute
    if name in catalogue.item_codes:
        names = catalogue.names.get(f"item.{name}", [])
        if config.value not in names:
            hint = did_you_mean(config.value, names, f"it is one of {', '.join(names[:12])}")
            raise ConfigError(f"{_KEY}: {name} never is {config.value!r}", hint)
        return catalogue.item_codes[name] == names.index(config.value)
    if name in catalogue.item_numbers:
        return np.nan_to_num(catalogue.item_numbers[name]) > 0
    known = [*catalogue.item_codes, *catalogue.item_numbers]
    raise ConfigError(f"{_KEY}: items have no {name!r}", did_you_mean(str(name), known, f"known: {', '.join(known)}"))


class PromotedItems(Source):
    """Puts the promoted items with most recent interactions among the candidates."""

    name = "promoted_items"
    reads = ("rrf",)
    gives = ("rrf",)

    def __init__(self, config: PromotedConfig, catalogue: Catalogue):
        promoted_items(config, catalogue)
        self._config = config
        self._items = PerState(self._best)

    def _best(self, state: State) -> np.ndarray:
        items = np.flatnonzero(promoted_items(self._config, state.catalogue) & state.available)
        order = np.argsort(-state.trending[items], kind="stable")
        return items[order][: self._config.candidates].astype(np.int32)

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        items = np.sort(self._items(query.state))
        if not len(items):
            return candidates
        shape = (len(query), len(items))
        extra = Candidates(
            np.broadcast_to(items, shape).copy(), np.zeros(shape, np.uint32), {"rrf": np.zeros(shape, np.float32)}
        )
        return add_candidates(candidates, np.arange(len(query)), extra)


class Promote(Selector):
    """Puts the best promoted items into the places kept for them, and the others behind everything else.

    A place stays with what ranks next where nothing promoted is left or the user has seen enough of it. Where fewer
    others are left than a place asks for, promoted items follow right behind them. Scores: "promoted" is 1 for those in
    their places.
    """

    name = "promoted"
    reads = ("utility",)
    gives = ("promoted",)
    last = True

    def __init__(self, config: PromotedConfig, catalogue: Catalogue):
        promoted_items(config, catalogue)
        self._config = config
        self._promoted = PerState(lambda state: np.append(promoted_items(config, state.catalogue), False))

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        table = self._promoted(query.state)
        promoted = table[candidates.items] & candidates.filled
        number = np.cumsum(promoted, axis=1) - 1
        places = np.array([p - 1 - i for i, p in enumerate(self._config.positions)])
        allowed = np.minimum(self._allowed(query, table), int((np.array(self._config.positions) <= query.size).sum()))
        placed = promoted & (number < allowed[:, None])
        others = np.cumsum(candidates.filled & ~promoted, axis=1) - 1
        # a promoted item stands right before the other item with the number that its place leaves above it
        key = np.where(placed, places[np.clip(number, 0, len(places) - 1)] - 0.5, others)
        key = np.where(promoted & ~placed, 1e6 + number, key)
        key = np.where(candidates.filled, key, np.inf)
        order = np.argsort(key, axis=1, kind="stable")
        filled = np.take_along_axis(candidates.filled, order, axis=1)
        flag = np.take_along_axis(placed, order, axis=1).astype(np.float32)
        return candidates.take(np.where(filled, order, -1)).with_scores(promoted=flag)

    def _allowed(self, query: Query, table: np.ndarray) -> np.ndarray:
        """int64[B] promoted items that each user may still be shown."""
        places = len(self._config.positions)
        if self._config.per_user is None:
            return np.full(len(query), places)
        row, seen = query.state.seen.take(query.users)
        had = np.bincount(row[table[seen]], minlength=len(query))
        return np.maximum(self._config.per_user - had, 0)
