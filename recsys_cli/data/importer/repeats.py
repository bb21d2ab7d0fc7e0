"""Rows of the log that equal earlier ones, and what the parts of a log must agree on."""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys_cli.errors import ConfigError


def without_repeats(frame: pl.DataFrame, seen: np.ndarray) -> tuple[pl.DataFrame, np.ndarray, int]:
    """(rows that equal none before, hashes of all rows so far, how many were left out).

    seen: uint64 hashes of the rows before.
    """
    hashes = frame.hash_rows(seed=0)
    fresh = hashes.is_first_distinct().to_numpy() & ~np.isin(hashes.to_numpy(), seen)
    seen = np.concatenate([seen, hashes.to_numpy()[fresh]])
    return frame.filter(pl.Series(fresh)), seen, int((~fresh).sum())


def agreed(each: list[bool], yes: str, no: str) -> bool:
    """What all parts of the log say; raises ConfigError where they differ."""
    if len(set(each)) > 1:
        raise ConfigError(
            f"some parts of impressions have {yes} and some {no}", "fill `timestamp` of all of them in the same way"
        )
    return each[0]
