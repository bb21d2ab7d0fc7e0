"""How widely a user's interests spread over topics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.history import View
from recsys_cli.features.spec import Feature


def define_interests(families: list[str]) -> Iterator[Feature]:
    """Where topics are counted over."""
    if "user_topic" not in families:
        return
    for measure, meaning, formula in (
        ("entropy", "how widely the user's interests spread", "entropy of the user's interactions by topic, nats"),
        ("topics", "topics that the user interacted with", "ln(1 + topics)"),
    ):
        yield Feature(f"user_interest_{measure}", "user", "user", "interests", measure, meaning, formula)


def profile_column(name: str, key: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """What each row of the log adds to a measure of its user's topic profile; float64[n].

    key: the user × topic pairs of the interactions, in the order of time; rows: their rows of the log. A count of c
    becomes c + 1: "square" adds (c + 1)² − c², "entropy" (c + 1)·ln(c + 1) − c·ln c, "topics" 1 where c is 0.
    """
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    fresh = np.ones(len(key), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(fresh)
    before = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
    if name == "entropy":
        c = before.astype(np.float64)
        added = (c + 1) * np.log1p(c) - np.where(c > 0, c * np.log(np.maximum(c, 1)), 0)
    else:
        added = {"square": 2.0 * before + 1, "topics": before == 0, "total": np.ones(len(key))}[name]
    return np.bincount(rows[order], weights=added, minlength=n)


def spread(view: View, column, measure: str) -> np.ndarray:
    """float32[q] entropy (nats) of users' topic profiles, or ln(1 + number of topics in them)."""
    if measure == "topics":
        return formulas.size(view.sum(column("profile_topics")))
    total = view.sum(column("profile_total"))
    entropy = np.log(np.maximum(total, 1)) - view.sum(column("profile_entropy")) / np.maximum(total, 1)
    return np.maximum(entropy, 0).astype(np.float32)
