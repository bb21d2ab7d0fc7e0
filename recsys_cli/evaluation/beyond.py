"""What a list is beside accurate: unexpected, fresh, safe, kind, varied; of everybody's lists at one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.lists import audience, open_popularity

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine

UNSAFE = 0.5
"""Safety scores above this count as unsafe exposure."""
SENTIMENT = "sentiment"
"""The column of items, negative below 0 and positive above, whose mean over a list is measured."""
LACKS = {
    "vectors": ("vector diversity", "no source and no column has vectors of items"),
    "age_days": ("freshness", "no times at which items were published"),
    "unsafe": ("safety exposure", "no safety scores of items"),
    "sentiment": ("sentiment", "items have no column sentiment"),
}
"""Fact → the figure that needs it, and what is said without."""


@dataclass(frozen=True)
class Beyond:
    """Facts of the items and people of a catalogue; what is unknown is None."""

    popularity: np.ndarray
    """float64[N] interactions before, NaN for items that no list could hold"""
    people: np.ndarray
    """int64[N] people who interacted with each item before"""
    profile: np.ndarray
    """float64[U] mean `people` of what each user interacted with before, NaN without anything"""
    vectors: np.ndarray | None = None
    """float32[N, D], rows of NaN unknown"""
    age_days: np.ndarray | None = None
    """float64[N], NaN unknown"""
    unsafe: np.ndarray | None = None
    """float64[N] 1 where any safety score is above `UNSAFE`, else 0; NaN unknown"""
    sentiment: np.ndarray | None = None
    """float64[N], NaN unknown"""

    @classmethod
    def of(cls, engine: RecommendationEngine, dataset: Dataset, users: np.ndarray) -> Beyond:
        """What a dataset and a run know. engine: as of the start of the test window. users: int32[U]."""
        state, catalogue = engine.state, dataset.catalogue
        people = audience(dataset.log, state)
        places, items = state.history.take(users)
        n = np.bincount(places, minlength=len(users))
        with np.errstate(invalid="ignore", divide="ignore"):
            profile = np.where(n > 0, np.bincount(places, weights=people[items], minlength=len(users)) / n, np.nan)
        created = catalogue.item_created
        timed = dataset.manifest.has_time and (created > 0).any()
        worst = np.fmax.reduce(list(catalogue.item_safety.values())) if catalogue.item_safety else None
        sentiment = dataset.items[SENTIMENT] if SENTIMENT in dataset.items.columns else None
        return cls(
            popularity=open_popularity(state), people=people, profile=profile, vectors=_vectors(engine, dataset),
            age_days=np.where(created > 0, (state.now - created) / DAY, np.nan) if timed else None,
            unsafe=None if worst is None else np.where(np.isfinite(worst), worst > UNSAFE, np.nan),
            sentiment=None if sentiment is None else _numbers(sentiment),
        )

    @property
    def lacks(self) -> dict[str, str]:
        """Figures that the data cannot give → why not."""
        return dict(told for fact, told in LACKS.items() if getattr(self, fact) is None)

    def by_user(self, items: np.ndarray, hit: np.ndarray, count: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """`serendipity@10` and the like → float64[U], NaN for a user without a figure.

        items: int32[U, at least k]. hit: bool beside it. count: int64[U] relevant items.
        """
        expected = np.argsort(-np.nan_to_num(self.popularity, nan=-1.0), kind="stable")[:k]
        with np.errstate(invalid="ignore", divide="ignore"):
            lift = rm.mean_of_items(items, k, self.people) / self.profile - 1
        out = {"serendipity": rm.serendipity(hit, items, expected, count, k), "popularity_lift": lift}
        if self.vectors is not None:
            out["vector_diversity"] = rm.vector_diversity(items, k, self.vectors)
        for name in ("age_days", "unsafe", "sentiment"):
            figure = getattr(self, name)
            if figure is not None:
                out[name] = rm.mean_of_items(items, k, figure)
        return {f"{name}@{k}": values for name, values in out.items()}


def _numbers(column) -> np.ndarray:
    import polars as pl

    return column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()


def _vectors(engine: RecommendationEngine, dataset: Dataset) -> np.ndarray | None:
    """The widest column of vectors of items, else those of the first source that has any."""
    columns = dataset.catalogue.item_columns.vectors
    if columns:
        return max(columns.values(), key=lambda v: v.shape[1])
    index = next((s.index for s in engine.bundle.retrievers.values() if s.index is not None), None)
    if index is None:
        return None
    out = np.full((dataset.catalogue.n_items, index.vectors.shape[1]), np.nan, np.float32)
    held = np.flatnonzero(index.known[: len(out)])
    out[held] = index.vectors[held]
    return out
