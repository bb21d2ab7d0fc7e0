"""Optimised interleaving of two rankings (Radlinski and Craswell, WSDM 2013).

Every list that may be shown takes, place by place, the best item that is left of either ranking. Among these a person's
list is drawn with probabilities that make the comparison fair and as telling as can be: whoever clicks at random, down
to whatever place they look, credits neither ranking on average (a linear programme with one condition a place), and the
expected sensitivity is the largest. An item credits a ranking by the inverse of its rank in it, beyond its end as if it
stood just behind.

Where there are more lists than `LISTS` (and six times the places), so many are drawn, each with its mirror image, in
which every choice falls to the other ranking.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LISTS = 48
_LISTS_A_PLACE = 6
_UNFAIR = 100.0
"""Sensitivity that a unit of unfairness costs: fairness first, where no mix of the drawn lists is wholly fair."""


def optimised_mix(
    lists: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(int32[B, size] mixed lists, float32[B, size, 2] credits). lists: int32[2, B, K], -1 filler behind the last."""
    if len(lists) != 2:
        raise ValueError(f"optimised interleaving mixes two rankings, not {len(lists)}")
    b = lists.shape[1]
    items, credits = np.full((b, size), -1, np.int32), np.zeros((b, size, 2), np.float32)
    for row in range(b):
        first, second = (side[side >= 0].tolist() for side in lists[:, row])
        # lists of the same pattern share one programme: items of the second by their rank in the first, else their own
        place = {item: rank for rank, item in enumerate(first)}
        pattern = tuple(place.get(item, len(first) + rank) for rank, item in enumerate(second))
        shown, chances = programme(len(first), pattern, size)
        drawn = shown[rng.choice(len(shown), p=chances)]
        drawn = drawn[drawn >= 0]
        items[row, : len(drawn)] = [first[i] if i < len(first) else second[i - len(first)] for i in drawn]
        credits[row, : len(drawn)] = _inverse_ranks(len(first), pattern)[drawn]
    return items, credits


@lru_cache(maxsize=4096)
def programme(n: int, pattern: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(int[L, size] lists that may be shown, float64[L] their probabilities).

    n: items of the first ranking, which are called 0 to n − 1. pattern: the second ranking in these names; its other
    items are called n and more.
    """
    shown = _allowed(n, pattern, size)
    credit = _inverse_ranks(n, pattern)
    there = shown >= 0
    gap = np.where(there, (credit[:, 1] - credit[:, 0])[np.maximum(shown, 0)], 0.0)
    unfair = np.cumsum(gap, axis=1).T
    return shown, _probabilities(unfair, _sensitivity(gap, there))


def _allowed(n: int, pattern: tuple[int, ...], size: int) -> np.ndarray:
    """int[L, size] different lists that take the best item left of either ranking at each place; -1 behind the last."""
    first = tuple(range(n))
    size = min(size, len({*first, *pattern}))
    most = max(LISTS, _LISTS_A_PLACE * size)
    if 2**size <= most:
        choices = ((np.arange(2**size)[:, None] >> np.arange(size)) & 1).tolist()
    else:
        half = np.random.default_rng([n, size, *pattern]).integers(0, 2, (most // 2, size))
        choices = np.concatenate([half, 1 - half]).tolist()
    lists = list(dict.fromkeys(_taken(first, pattern, sides) for sides in choices))
    out = np.full((len(lists), size), -1)
    for row, held in enumerate(lists):
        out[row, : len(held)] = held
    return out


def _taken(first: tuple[int, ...], second: tuple[int, ...], sides: list[int]) -> tuple[int, ...]:
    """The list in which each place falls to a side: the best item that is left of it, or of the other at its end."""
    out: dict[int, None] = {}
    places, rankings = [0, 0], (first, second)
    for side in sides:
        for who in (side, 1 - side):
            ranking = rankings[who]
            while places[who] < len(ranking) and ranking[places[who]] in out:
                places[who] += 1
            if places[who] < len(ranking):
                out[ranking[places[who]]] = None
                break
    return tuple(out)


def _inverse_ranks(n: int, pattern: tuple[int, ...]) -> np.ndarray:
    """float64[items, 2] inverse of the rank of each item in both rankings."""
    known = max((n, *(name + 1 for name in pattern)))
    ranks = np.empty((known, 2))
    ranks[:, 0], ranks[:, 1] = n + 1, len(pattern) + 1
    ranks[:n, 0] = np.arange(1, n + 1)
    ranks[list(pattern), 1] = np.arange(1, len(pattern) + 1)
    return 1 / ranks


def _sensitivity(gap: np.ndarray, there: np.ndarray) -> np.ndarray:
    """float64[L] how much a click at random says: the entropy of who wins by it, less where nobody does.

    A person looks at a place with a chance of the inverse of its number.
    """
    looks = there / np.arange(1, gap.shape[1] + 1)
    looks = looks / np.maximum(looks.sum(axis=1, keepdims=True), 1e-300)
    wins = np.stack([(looks * (gap < -1e-12)).sum(axis=1), (looks * (gap > 1e-12)).sum(axis=1)])
    either = wins.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = wins / either
        entropy = -np.where(share > 0, share * np.log(share), 0.0).sum(axis=0)
    return np.where(either > 0, either * entropy, 0.0)


def _probabilities(unfair: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """float64[L] the fairest probabilities, and among these the most sensitive. unfair: float64[places, L]."""
    from scipy.optimize import linprog

    places, lists = unfair.shape
    cost = np.concatenate([-sensitivity, np.full(2 * places, _UNFAIR)])
    conditions = np.vstack([np.hstack([unfair, np.eye(places), -np.eye(places)]),
                            np.append(np.ones(lists), np.zeros(2 * places))])
    found = linprog(cost, A_eq=conditions, b_eq=np.append(np.zeros(places), 1.0), method="highs")
    chances = np.maximum(found.x[:lists], 0.0)
    return chances / chances.sum()
