"""Columns of the impressions as the arrays of a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from recsys_cli.data.schema import PARTS
from recsys_cli.errors import DataError


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

    def groups(self, name: str) -> np.ndarray | None:
        """int64, equal for the rows of one request or session, -1 unknown."""
        if name not in self.frame.columns:
            return None
        column = self.frame[name]
        numbered = column if column.dtype.is_integer() else column.rank("dense")
        return numbered.fill_null(-1).cast(pl.Int64).to_numpy()

    def context(self, name: str) -> np.ndarray:
        """A further column: int32 codes of texts, -1 unknown, or float32, NaN unknown.

        Raises DataError for numbers that are not finite.
        """
        listed = self.categories.get(f"impression.{name}")
        if listed is not None:
            return self._places(name, listed, pl.Int32)
        values = self.frame[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        if np.isinf(values).any():
            raise DataError(
                f"impressions.parquet: column {name!r} holds {int(np.isinf(values).sum()):,} numbers that are not "
                "finite",
                "write null where a number is unknown, and import the dataset again",
            )
        return values

    def _places(self, name: str, listed: Sequence[str], dtype: type[pl.DataType]) -> np.ndarray:
        known = {value: place for place, value in enumerate(listed)}
        column = self.frame[name].cast(pl.String)
        return column.replace_strict(known, default=-1, return_dtype=dtype).fill_null(-1).to_numpy()
