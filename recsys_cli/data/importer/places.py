"""An order for rows that come without a time."""

from __future__ import annotations

import polars as pl


class Places:
    """Where a row stands among its user's, over all batches: what stands for time where a source has none.

    The order of the file would put whole users into one window and leave them without a history.
    """

    def __init__(self) -> None:
        self._counts: pl.DataFrame | None = None

    def of(self, users: pl.Series) -> pl.Series:
        """int64 places, counted from 0, of the rows of the next batch."""
        frame = users.to_frame("user").with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64).over("user"))
        here = frame.group_by("user").agg(n=pl.len().cast(pl.Int64))
        if self._counts is None:
            self._counts = here
            return frame["place"]
        before = frame.join(self._counts, on="user", how="left", maintain_order="left")["n"].fill_null(0)
        self._counts = pl.concat([self._counts, here]).group_by("user").agg(pl.col("n").sum())
        return frame["place"] + before
