"""Columns of some impressions as arrays of a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from recsys_cli.data.schema import PARTS


@dataclass(frozen=True)
class LogColumns:
    """Reads columns of n impressions by name; each method gives [n], or None where the dataset lacks the column."""

    frame: pl.DataFrame
    """the impressions, in the order of the log"""
    categories: Mapping[str, Sequence[str]]
    """as `Dataset.categories`"""

    def numbers(self, name: str, dtype: DTypeLike, missing: float) -> np.ndarray | None:
        """Numbers, `missing` where one is unknown."""
        if name not in self.frame.columns:
            return None
        return self.frame[name].fill_null(missing).to_numpy().astype(dtype, copy=False)

    def codes(self, name: str) -> np.ndarray | None:
        """int16 places among `categories`, -1 unknown."""
        return self._places(name, self.categories[name], pl.Int16) if name in self.frame.columns else None

    def part(self) -> np.ndarray | None:
        """int8 places among `schema.PARTS` of the published parts, -1 in none."""
        return self._places("split", PARTS, pl.Int8) if "split" in self.frame.columns else None

    def action(self, name: str) -> np.ndarray:
        """bool[n]"""
        return self.frame[name].to_numpy()

    def moments(self) -> np.ndarray:
        """int64[n] µs since 1970."""
        return self.frame["timestamp"].cast(pl.Datetime("us")).cast(pl.Int64).to_numpy()

    def numbered(self, name: str) -> np.ndarray:
        """int64[n] ids that are numbers, -1 unknown."""
        return self.frame[name].fill_null(-1).cast(pl.Int64).to_numpy()

    def ranks(self, name: str, known: pl.Series) -> np.ndarray:
        """int64[n] places of texts among all that there are, from 1 on, -1 unknown. known: ascending, each once."""
        texts = self.frame[name].cast(pl.String)
        mine = texts.drop_nulls().unique()
        places = known.search_sorted(mine).cast(pl.Int64) + 1
        return texts.replace_strict(mine, places, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()

    def context(self, name: str) -> np.ndarray:
        """A further column: int32 codes of texts, -1 unknown, or float32, NaN unknown."""
        listed = self.categories.get(f"impression.{name}")
        if listed is not None:
            return self._places(name, listed, pl.Int32)
        return self.frame[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()

    def _places(self, name: str, listed: Sequence[str], dtype: type[pl.DataType]) -> np.ndarray:
        known = {value: place for place, value in enumerate(listed)}
        column = self.frame[name].cast(pl.String)
        return column.replace_strict(known, default=-1, return_dtype=dtype).fill_null(-1).to_numpy()
