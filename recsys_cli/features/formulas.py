"""Formulas that turn counter values into feature values.

Each is a pure function on arrays of any shape that broadcast. The training table and the serving snapshot
call the same ones; they differ only in where the counter values come from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MINUTE = 60_000_000
NEVER = float(np.log1p(365 * 24 * 60))
"""Value of a recency where the thing never happened: as if a year ago."""
SMALLEST_RATE = 1e-5
Numbers = np.ndarray | np.number[Any] | float
"""An array of any shape, or one number."""


def log_odds(count: Numbers, shown: Numbers, prior_log_odds: ArrayLike, strength: float) -> np.ndarray:
    """Log-odds of a rate smoothed towards a prior: p = (count + s·prior) / (shown + s), then ln(p / (1 − p)).

    With nothing shown it is the prior itself. This is the posterior mean under a Beta(s·prior, s·(1 − prior))
    prior. float32, shape of the arguments.
    """
    pull = np.float32(strength) * sigmoid(prior_log_odds)
    p = (count + pull) / (shown + np.float32(strength))
    p = np.minimum(np.maximum(p, np.float32(SMALLEST_RATE)), np.float32(1 - SMALLEST_RATE))
    return np.log(p / (1 - p))


def sigmoid(x: ArrayLike) -> np.ndarray:
    """Probability of log-odds, float32."""
    return 1 / (1 + np.exp(-np.asarray(x, np.float32)))


def mean(total: np.ndarray, known: np.ndarray, prior: Numbers, strength: float) -> np.ndarray:
    """Mean of `known` values that sum to `total`, smoothed towards a prior worth `strength` values."""
    return (total + np.float32(strength) * prior) / (known + np.float32(strength))


def size(count: ArrayLike) -> np.ndarray:
    """ln(1 + count)"""
    return np.log1p(np.asarray(count, np.float32))


def recency(now: np.ndarray | int, last: np.ndarray) -> np.ndarray:
    """ln(1 + minutes since `last`), both int64 µs; NEVER where `last` is 0, and at most that."""
    minutes = np.maximum(now - last, 0).astype(np.float32) / np.float32(MINUTE)
    return np.where(last == 0, np.float32(NEVER), np.minimum(np.log1p(minutes), np.float32(NEVER)))


def age(now: np.ndarray | int, created: np.ndarray) -> np.ndarray:
    """ln(1 + hours since `created`), both int64 µs; 0 where `created` is 0 (unknown) or in the future."""
    hours = np.maximum(now - created, 0).astype(np.float32) / np.float32(60 * MINUTE)
    return np.where(created == 0, np.float32(0), np.log1p(hours))


def share(count: Numbers, shown: Numbers, prior_log_odds: ArrayLike, strength: float = 2.0) -> np.ndarray:
    """Smoothed share of an action in the latest impressions."""
    return (count + np.float32(strength) * sigmoid(prior_log_odds)) / (shown + np.float32(strength))


def burst(recent: np.ndarray, total: np.ndarray, since_first: np.ndarray, span: int) -> np.ndarray:
    """ln((1 + recent) / (1 + what `span` µs of the item's own average bring)), of `total` since its first impression
    `since_first` µs ago; 0 where it was never shown."""
    expected = total * np.minimum(np.float32(span) / np.maximum(since_first, 1).astype(np.float32), 1)
    return np.log((1 + recent) / (1 + expected)).astype(np.float32)


def cosine(shared: np.ndarray, norm: np.ndarray, topics: ArrayLike) -> np.ndarray:
    """Cosine of a topic profile (its counts on the item's topics summed to `shared`, its length `norm`) and an
    item's set of topics; 0 where either is empty."""
    length = norm * np.sqrt(np.asarray(topics, np.float32))
    return np.where(length > 0, shared / np.maximum(length, np.float32(1e-6)), np.float32(0))


def cycle(now: ArrayLike, period: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(sine, cosine) of the place of `now` (int64 µs) in a period, float32."""
    angle = ((np.asarray(now) + shift) % period).astype(np.float64) * (2 * np.pi / period)
    return np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)


def number(values: ArrayLike, transform: str) -> np.ndarray:
    """An attribute's number: NaN gives 0, "log1p" for heavy tails."""
    values = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.log1p(np.maximum(values, 0)) if transform == "log1p" else values


def category(codes: ArrayLike, names: int, codes_kept: int) -> np.ndarray:
    """Codes of a categorical feature: 0 unknown, 1 + code where they fit, else hashed into those kept.

    names: how many values the attribute has; codes_kept: codes of the feature with 0 among them.
    """
    codes = np.asarray(codes).astype(np.int64)
    if names + 1 > codes_kept:
        hashed = (codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) % np.uint64(codes_kept - 1)
        return np.where(codes < 0, 0, 1 + hashed.astype(np.int64)).astype(np.float32)
    return (np.clip(codes, -1, names - 1) + 1).astype(np.float32)
