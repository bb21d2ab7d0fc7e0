"""How much each item of a history counts when a source is asked: all the same, or the newest most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from recsys_cli.arrays import distinct as distinct_values
from recsys_cli.config import Section
from recsys_cli.data.ragged import Ragged, offsets_of, positions
from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig

if TYPE_CHECKING:
    from recsys_cli.data.state import State

FAINTEST = 2.0**-60
"""No weight is less: its square is still a number of single precision, so that no row of weights is all 0."""


class RecencyWeighting(Section):
    """How much each item of a history counts when the source is asked."""

    kind: Literal["auto", "uniform", "place", "time"] = "auto"
    """"uniform": all items the same; "place": each `decay` times as much as the next newer one; "time": half as much
    for every `half_life_days` before the newest; "auto": whichever training finds best on its validation window,
    uniform until it has."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """How much an item counts relative to the next newer one; 1 is uniform."""
    half_life_days: PositiveFloat = 7.0
    """Days before the newest item at which one counts half."""

    @property
    def uniform(self) -> bool:
        """Whether every item counts the same."""
        return self.kind in ("auto", "uniform") or (self.kind == "place" and self.decay == 1)

    def shares(self, places: np.ndarray, behind: np.ndarray, since: np.ndarray | None, batch: int) -> np.ndarray:
        """float32[m] as `recency`, adding up to 1 for each place int[m] of the batch."""
        weights = self.recency(behind, since)
        return (weights / np.bincount(places, weights, batch)[places]).astype(np.float32)

    def recency(self, behind: np.ndarray, since: np.ndarray | None) -> np.ndarray:
        """float64[m] weights, the newest 1, of items that stand `behind` int[m] newer ones.

        since: µs before the newest, 0 or negative; None where times are unknown, and "time" is uniform.
        """
        if self.kind == "place":
            return np.maximum(self.decay ** behind.astype(np.float64), FAINTEST)
        if self.kind == "time" and since is not None:
            return np.maximum(np.exp2(since / (self.half_life_days * DAY)), FAINTEST)
        return np.ones(len(behind))


BY_WEEKS = RecencyWeighting(kind="time")
"""Of the families that are trained with the weights which they are asked with: there is no choosing afterwards."""


class HistoryWeighting(RecencyWeighting):
    """How much each item of a history counts when the source is asked."""

    strength: str = "auto"
    """What else makes an item count more, by its logarithm: "repeats", how often it stands in the history; a numeric
    column of the log, as dwell_seconds or plays; "none"; or "auto": whichever training finds best, none until it
    has."""

    @property
    def uniform(self) -> bool:
        return super().uniform and self.strength in ("auto", "none")


class HistoryConfig(RetrieverConfig):
    """Settings of sources that turn a history, a set of items, into scores."""

    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    history_weighting: HistoryWeighting = HistoryWeighting()
    """How much each item of a history counts when the source is asked."""


@dataclass(frozen=True)
class WeightedHistories:
    """Items of B histories, each once, and how much each counts.

    items: int32, ascending in every row. weights: float32[m] beside `items.values`, above 0. An item that stands in
    a history more than once has the weight of its newest place, and pushes the older ones back by one place only.
    """

    items: Ragged
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of_state(cls, state: State, users: np.ndarray, weighting: HistoryWeighting) -> WeightedHistories:
        """What users int32[B] interacted with, as of the State; -1 has an empty history.

        Raises DataError where the weighting names a column that the log does not have.
        """
        known = np.maximum(users, 0)
        start = state.history.offsets[known]
        places, at = positions(start, np.where(users >= 0, state.history.offsets[known + 1] - start, 0))
        items = state.history.values[at]
        if weighting.uniform:
            return _distinct(places, items, len(users), weighting)
        times = state.history_time.values[at] if weighting.kind == "time" else None
        numbers = None
        if weighting.strength not in ("auto", "none", "repeats"):
            if weighting.strength not in state.history_numbers:
                has = ", ".join(state.history_numbers) or "none"
                raise DataError(
                    f"history_weighting.strength: the log has no numeric column {weighting.strength!r}",
                    f"columns are {has}; or use repeats or none",
                )
            numbers = state.history_numbers[weighting.strength][at]
        return _distinct(places, items, len(users), weighting, times, numbers)

    @classmethod
    def of_lists(cls, histories: list[np.ndarray], weighting: HistoryWeighting) -> WeightedHistories:
        """Lists of items, oldest first, without times or numbers: only places and repeats tell them apart."""
        lengths = np.array([len(h) for h in histories], np.int64)
        items = np.concatenate([np.asarray(h) for h in histories]) if len(histories) else np.zeros(0)
        return _distinct(np.repeat(np.arange(len(lengths)), lengths), items.astype(np.int32), len(lengths), weighting)

    def known(self, mask: np.ndarray) -> WeightedHistories:
        """Only the items that bool[n] names."""
        values = self.items.values
        held = (values >= 0) & (values < len(mask))
        held[held] = mask[values[held]]
        if held.all():
            return self
        kept = offsets_of(held)[self.items.offsets]
        return WeightedHistories(Ragged(kept, values[held]), self.weights[held])

    def part(self, rows: slice) -> WeightedHistories:
        """Consecutive histories."""
        offsets = self.items.offsets[rows.start : rows.stop + 1]
        cut = slice(offsets[0], offsets[-1])
        return WeightedHistories(Ragged(offsets - offsets[0], self.items.values[cut]), self.weights[cut])

    @property
    def scale(self) -> np.ndarray:
        """float32[B] √Σ w², the root of the length where all weights are 1; 1 for an empty history.

        Σ w / √Σ w² is the root of the number of items that the weights amount to.
        """
        squares = np.bincount(self.items.rows, self.weights.astype(np.float64) ** 2, len(self))
        return np.sqrt(np.where(self.items.lengths > 0, squares, 1)).astype(np.float32)

    def sums(self, vectors: np.ndarray) -> np.ndarray:
        """float32[B, D] Σ weight × vector of the items of each history; vectors: float32[n, D]."""
        return self.sums_of(vectors[self.items.values])

    def sums_of(self, rows: np.ndarray) -> np.ndarray:
        """As `sums`, from one row float32[m, D] for each item of a history."""
        out = np.zeros((len(self), rows.shape[1]), np.float32)
        filled = np.flatnonzero(self.items.lengths)
        if len(filled):
            out[filled] = np.add.reduceat(rows * self.weights[:, None], self.items.offsets[filled], axis=0)
        return out


def _distinct(
    places: np.ndarray,
    items: np.ndarray,
    batch: int,
    weighting: HistoryWeighting,
    times: np.ndarray | None = None,
    numbers: np.ndarray | None = None,
) -> WeightedHistories:
    """Rows of histories (places ascending, within each oldest first) as distinct items with their weights."""
    if batch == 1 and weighting.uniform:
        item = distinct_values(items)
        return WeightedHistories(Ragged(np.array([0, len(item)], np.int64), item), np.ones(len(item), np.float32))
    order = np.lexsort((items, places))
    place, item = places[order], items[order]
    newest = np.ones(len(order), bool)
    newest[:-1] = (place[1:] != place[:-1]) | (item[1:] != item[:-1])
    place, item = place[newest], item[newest]
    distinct = Ragged(offsets_of(np.bincount(place, minlength=batch)), item)
    if weighting.uniform:
        return WeightedHistories(distinct, np.ones(len(item), np.float32))
    at = order[newest]
    kept = np.zeros(len(order), np.int64)
    kept[at] = 1
    behind = distinct.offsets[place + 1] - np.cumsum(kept)[at]
    since = None
    if times is not None and len(times):
        first = np.flatnonzero(np.diff(places, prepend=-1))
        latest = np.zeros(batch, np.int64)
        latest[places[first]] = np.maximum.reduceat(times, first)
        since = times[at] - latest[place]
    weights = weighting.recency(behind, since)
    group = np.cumsum(newest) - newest
    if weighting.strength == "repeats":
        weights = weights * _relative(np.log1p(np.bincount(group)), place, batch)
    elif numbers is not None:
        weights = weights * _relative(_logarithms(numbers[order], group, len(item)), place, batch)
    return WeightedHistories(distinct, weights.astype(np.float32))


def _logarithms(numbers: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """float64[n] ln(1 + Σ numbers of a group, what is below 0 taken for 0), NaN where none of them is known."""
    known = np.isfinite(numbers)
    total = np.bincount(group[known], np.maximum(numbers[known], 0).astype(np.float64), n)
    return np.where(np.bincount(group[known], minlength=n) > 0, np.log1p(total), np.nan)


def _relative(strength: np.ndarray, place: np.ndarray, batch: int) -> np.ndarray:
    """float64[m] strengths over the mean of their history; what is unknown counts as the mean."""
    known = np.isfinite(strength)
    total = np.bincount(place[known], strength[known], batch)
    mean = total / np.maximum(np.bincount(place[known], minlength=batch), 1)
    has = known & (mean[place] > 0)
    return np.maximum(np.where(has, strength / np.where(has, mean[place], 1), 1.0), FAINTEST)
