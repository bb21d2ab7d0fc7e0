"""The fold of a whole log, and its rows as a table of impressions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.serving.event_log import read_log
from recsys_cli.serving.fold import Fold

if TYPE_CHECKING:
    import polars as pl

_CHUNK = 50_000


def fold_of(log: str | os.PathLike, actions: tuple[str, ...]) -> Fold:
    """All events of a log folded; raises DataError where the folder holds no log."""
    fold, part = Fold(actions), []
    for entry in read_log(log):
        part.append(entry)
        if len(part) == _CHUNK:
            fold.take(part)
            part = []
    fold.take(part)
    return fold


def table_of(fold: Fold, first: int = 0, end: int | None = None) -> pl.DataFrame:
    """Rows of a fold from `first` to `end` (exclusive) in the columns of `impressions`; ids are texts, null where
    somebody was erased."""
    import polars as pl

    held = fold.arrays(first, end)

    def texts(names: str, column: str) -> pl.Series:
        listed = fold.names[names].listed
        codes = held[column]
        return pl.Series([*listed, None], dtype=pl.String).gather(np.where(codes < 0, len(listed), codes))

    columns = {
        "user_id": texts("users", "user"),
        "item_id": texts("items", "item"),
        "timestamp": pl.Series(held["time"], dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        "request_id": texts("requests", "request"),
        "session_id": texts("sessions", "session"),
        "position": pl.Series(held["position"], dtype=pl.Int64).replace(-1, None),
        "surface": texts("surfaces", "surface"),
        "device": texts("devices", "device"),
        "source": texts("sources", "source"),
        "propensity": pl.Series(held["propensity"], dtype=pl.Float32).fill_nan(None),
        "dwell_seconds": pl.Series(held["dwell"], dtype=pl.Float32).fill_nan(None),
    }
    if (held["creative"] > 0).any():  # of most data nothing has several titles or pictures
        columns["creative"] = pl.Series(held["creative"], dtype=pl.Int16).replace(0, None)
    for a, action in enumerate(fold.actions):
        columns[action] = pl.Series((held["bits"] & np.uint64(1 << a)) != 0, dtype=pl.Boolean)
    return pl.DataFrame(columns)
