"""What exploration learns online: the counters of `State.feedback`, as a function of the fold.

An impression counts once it was told of (`impression`), belongs to an answer that logged its utility, and its item is
known; for the titles and pictures of an item (`creatives`) one that was shown with any of them counts as well. What the
person did with it counts with it, however late it comes. What can change no more is summed up once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.exploration.creative_texts import fed_back
from recsys_cli.pipeline.exploration.feedback import learned
from recsys_cli.pipeline.exploration.rewards import reward_of
from recsys_cli.pipeline.utility import weights_of

if TYPE_CHECKING:
    from recsys_cli.serving.fold import Fold
    from recsys_cli.slate_engine import SlateEngine


class Feedback:
    """The counters of a run, brought forward with a fold."""

    def __init__(self, engine: SlateEngine):
        """engine: of the run; what its state learned before is kept."""
        bundle = engine.bundle
        self._before, self._negative = engine.state.feedback, bundle.negative_actions
        self._positive, self._texts = bundle.spec.positive, bundle.creatives
        self._actions: tuple[str, ...] = ()
        self._weights = weights_of(engine.pipeline.utility, bundle.proposed_weights)
        self._settled, self._rows = self._before, 0
        self._erased, self._unknown, self._described = 0, False, 0

    def of(self, fold: Fold, engine: SlateEngine) -> dict[str, np.ndarray]:
        """The counters after all that a fold holds. engine: which knows the fold's items."""
        self._actions = fold.actions
        items = engine.bundle.item_ids.positions(fold.names["items"].listed) if len(fold) else np.zeros(0, np.int32)
        n_items = engine.bundle.catalogue.n_items
        told = self._unknown and fold.described != self._described
        if told or len(fold.erased) != self._erased or fold.settled_rows < self._rows:
            # rows have gone, or are of items that nobody knew before
            self._settled, self._rows, self._unknown = self._before, 0, False
        self._erased, self._described = len(fold.erased), fold.described
        settled = fold.settled_rows
        self._unknown |= bool((items[np.array(fold.columns["item"][self._rows : settled], np.int64)] < 0).any())
        self._settled = self._with(self._settled, fold, items, n_items, self._rows, settled)
        self._rows = settled
        return self._with(self._settled, fold, items, n_items, settled, len(fold))

    def _with(
        self, counters: dict[str, np.ndarray], fold: Fold, items: np.ndarray, n_items: int, first: int, end: int
    ) -> dict[str, np.ndarray]:
        """Counters with the rows from `first` to `end` of a fold."""
        if end <= first:
            return counters
        held = fold.arrays(first, end)
        item = items[held["item"]]
        counters = self._of_creatives(counters, held, item)
        keep = (held["user"] >= 0) & (held["shown"] > 0) & ~np.isnan(held["utility"]) & (item >= 0)
        if not keep.any():
            return counters
        bits = held["bits"][keep]
        actions = {a: (bits & np.uint64(1 << at)) != 0 for at, a in enumerate(fold.actions)}
        taken = self._taken(bits)
        dwell = held["dwell"][keep].astype(np.float64)
        reward = reward_of(actions, dwell, self._weights, self._negative)
        return learned(counters, item[keep], held["utility"][keep], taken, reward, None, n_items)

    def _of_creatives(
        self, counters: dict[str, np.ndarray], held: dict[str, np.ndarray], item: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Counters with what came of the titles and pictures that impressions were shown with."""
        keep = (held["user"] >= 0) & (held["shown"] > 0) & (held["creative"] > 0) & (item >= 0)
        if self._texts is None or not keep.any():
            return counters
        return fed_back(counters, self._texts, item[keep], held["creative"][keep], self._taken(held["bits"][keep]))

    def _taken(self, bits: np.ndarray) -> np.ndarray:
        """bool, as bits: whether there was a positive action."""
        positive = sum(1 << at for at, action in enumerate(self._actions) if action in self._positive)
        return (bits & np.uint64(positive)) != 0
