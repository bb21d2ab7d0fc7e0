"""Random numbers that depend on what they are for, never on when or by which thread they are drawn."""

from __future__ import annotations

import zlib

import numpy as np

from recsys_cli.hashing import mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator of its own for (seed, purpose, key), for example (42, "visits", block, day)."""
    words = [seed % 2**64, zlib.crc32(purpose.encode()), *(int(k) % 2**64 for k in key)]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))


def event_keys(seed: int, salt: int, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """uint64[n], one key for each event of a user with an item at a time (µs)."""
    start = mix(np.array([seed % 2**64, salt % 2**64], np.uint64))
    key = mix(user.astype(np.uint64) * _GOLDEN + start[0])
    key = mix(key + item.astype(np.uint64) * _GOLDEN + start[1])
    return mix(key ^ time.astype(np.uint64))


def event_uniforms(keys: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` arrays float32[n] of independent uniform numbers in (0, 1), functions of the keys alone."""
    out = []
    scale, half, low = np.float32(2.0**-23), np.float32(2.0**-24), np.uint64(0x7FFFFF)
    steps = np.arange(1, count // 2 + 2, dtype=np.uint64) * _GOLDEN
    for j in range((count + 1) // 2):
        bits = mix(keys + steps[j])
        out.append((bits >> np.uint64(41)).astype(np.float32) * scale + half)
        out.append(((bits >> np.uint64(8)) & low).astype(np.float32) * scale + half)
    return out[:count]


def weighted_choice(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """int64[size] places drawn with probability proportional to weights [n], with replacement."""
    edges = np.cumsum(weights, dtype=np.float64)
    return np.minimum(np.searchsorted(edges, rng.random(size) * edges[-1], side="right"), len(weights) - 1)


def row_choice(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """int64[n] for each row of weights [n, k] one column, drawn in proportion to the row's weights."""
    edges = np.cumsum(weights, axis=1, dtype=np.float64)
    return np.minimum((edges <= (rng.random(len(weights)) * edges[:, -1])[:, None]).sum(axis=1), weights.shape[1] - 1)
