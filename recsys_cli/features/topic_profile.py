"""Topic profiles of users, how many interactions fell on each topic, as sums over the log."""

from __future__ import annotations

import numpy as np

from recsys_cli.features.as_of import Past


def profile_column(past: Past, measure: str) -> np.ndarray:
    """float64[n] what each row of the log adds to a measure of its user's topic profile: square, entropy, topics or
    total; a view of users adds it up."""

    def column() -> np.ndarray:
        log = past.log
        keys = past.keys.key("user_topic", log.user, log.item, None)
        keys[~log.positive] = -1
        flat = keys.ravel()
        events = np.flatnonzero(flat >= 0)
        return added_to_profiles(measure, flat[events], events // keys.shape[1], len(log))

    return past.once(f"topic profiles' {measure}", column)


def added_to_profiles(measure: str, key: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """float64[n], see `profile_column`.

    key: the user × topic pairs of the interactions, in the order of time; rows: their rows of the log. A count of c
    becomes c + 1: "square" adds (c + 1)² − c², "entropy" (c + 1)·ln(c + 1) − c·ln c, "topics" 1 where c is 0.
    """
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    fresh = np.ones(len(key), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(fresh)
    before = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
    if measure == "entropy":
        c = before.astype(np.float64)
        added = (c + 1) * np.log1p(c) - np.where(c > 0, c * np.log(np.maximum(c, 1)), 0)
    else:
        added = {"square": 2.0 * before + 1, "topics": before == 0, "total": np.ones(len(key))}[measure]
    return np.bincount(rows[order], weights=added, minlength=n)
