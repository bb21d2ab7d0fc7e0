"""Creatives: several titles or pictures of one item, of which a bandit shows each user one.

As Netflix chooses artwork (Chandrashekar et al., "Artwork Personalization at Netflix", 2017): every item has its own
few creatives, and what people did when one was shown decides how often it is shown again. Here the bandit is Thompson
sampling with a Beta posterior a creative (Chapelle and Li, NIPS 2011), whose probabilities are told exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.creative_texts import CHANCE, CHOSEN, SHOWN, TAKEN, CreativeTexts
from recsys_cli.pipeline.exploration.strategy import Drawn
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Hydrator, StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.pipeline.bundle import Bundle

PRIOR_OF_ITEM = 20.0
"""Impressions at the rate of all items with which an item's own rate is steadied."""


class CreativesConfig(StageConfig):
    """Which of an item's titles or pictures is shown, by Thompson sampling; the answer tells it with its
    probability."""

    kind: Literal["creatives"] = "creatives"
    columns: Annotated[list[str], Field(min_length=1, max_length=100)] = ["creatives"]
    """Columns of the items that hold them: one list of texts, or several columns with a text each; empty ones are left
    out. Read by training."""
    shown: str = "creative"
    """Column of the impressions with the number, from 1, of the creative that was shown, from which training learns.
    Where an item's list changed since, leave the numbers of the others as they are."""
    prior: PositiveFloat = 20.0
    """Impressions that an item's own rate counts for in the posterior of each of its creatives."""
    least: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    """Probability below which no creative falls, so that the log can judge each; at most an even share."""


class Creatives(Hydrator):
    """Chooses a creative for every item of the finished slate that has several; changes no item and no order."""

    config_type = CreativesConfig
    config: CreativesConfig
    before = "predictions"
    gives = (CHOSEN, CHANCE)

    def __init__(self, config: CreativesConfig):
        super().__init__(config)
        self._texts: CreativeTexts | None = None
        self._chances = PerState(lambda state: _Chances(state, self._texts, config))

    def prepare(self, bundle: Bundle) -> str | None:
        texts = self._texts = bundle.creatives
        named = ", ".join(self.config.columns)
        if texts is None or not len(texts.offsets) > 1:
            return f"needs items with {named}, and a run that was trained with this stage"
        if texts.columns != tuple(self.config.columns):
            return f"needs a run that was trained with {named}: this one knows {', '.join(texts.columns)}"
        return None

    def scores(self, query: Query, candidates: Candidates) -> dict[str, np.ndarray]:
        items = candidates.items
        number, chance = self._chances(query.state).draw(items, query.uniform(items.shape[1], purpose=9))
        return {CHOSEN: number.astype(np.float32), CHANCE: chance.astype(np.float32)}


class _Chances:
    """How probably each creative is shown as of a state; worked out for an item when it is first shown."""

    def __init__(self, state: State, texts: CreativeTexts | None, config: CreativesConfig):
        assert texts is not None
        self._state, self._texts, self._config = state, texts, config
        self._table = np.full(int(texts.numbers[-1]), np.nan)

    def draw(self, items: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(int64, float64) of the shape of items: the creative by its number from 1, and its probability; 0 without."""
        count = self._texts.count(items)
        self._fill(np.unique(items[count > 0]))
        number, chance = np.zeros(items.shape, np.int64), np.zeros(items.shape)
        edge = np.zeros(items.shape)
        first = self._texts.numbers[np.where(count > 0, items, 0)]
        for place in range(int(count.max(initial=0))):
            held = count > place
            mine = np.where(held, self._table[np.where(held, first + place, 0)], 0.0)
            # the last takes what rounding left
            hit = held & (number == 0) & ((uniform < edge + mine) | (place == count - 1))
            number[hit], chance[hit] = place + 1, mine[hit]
            edge += mine
        return number, chance

    def _fill(self, items: np.ndarray) -> None:
        """Work out the items that nobody was shown as of this state yet."""
        numbers = self._texts.numbers
        new = items[np.isnan(self._table[numbers[items]])]
        if not len(new):
            return
        count, feedback = self._texts.count(new), self._state.feedback
        columns = np.where(np.arange(count.max()) < count[:, None], np.arange(count.max()), -1)
        at = np.where(columns >= 0, numbers[new][:, None] + columns, 0)
        shown, taken = (feedback.get(n, np.zeros(len(self._table)))[at] for n in (SHOWN, TAKEN))
        found = _best_of(columns, shown, taken, self._rate(new)[:, None], self._config.prior)
        least = np.minimum(self._config.least, 1 / count)[:, None]
        found = np.where(columns >= 0, least + (1 - least * count[:, None]) * found, 0)
        self._table[at[columns >= 0]] = found[columns >= 0]

    def _rate(self, items: np.ndarray) -> np.ndarray:
        """float64 interactions an impression of each item, steadied by those of all."""
        state = self._state
        total = float(state.interactions.sum()) / max(float(state.impressions.sum()), 1.0)
        rate = (state.interactions[items] + PRIOR_OF_ITEM * total) / (state.impressions[items] + PRIOR_OF_ITEM)
        return np.clip(rate, 1e-3, 0.95)


def _best_of(
    columns: np.ndarray, shown: np.ndarray, taken: np.ndarray, rate: np.ndarray, prior: float
) -> np.ndarray:
    """float64[n, C]: the probability that a draw from each creative's Beta posterior is the highest of its item."""
    from scipy.special import betainc

    a, b = prior * rate + taken, prior * (1 - rate) + shown - taken
    mean = a / (a + b)
    sd = np.sqrt(mean * (1 - mean) / (a + b + 1))
    top = np.where(columns >= 0, np.minimum(mean + 6 * sd, 1), 0).max(axis=1)

    def cdf(points: np.ndarray) -> np.ndarray:
        return betainc(a[..., None], b[..., None], np.clip(points[:, None, :], 0, 1))

    return Drawn(columns, np.zeros(len(columns)), top, cdf).next()
