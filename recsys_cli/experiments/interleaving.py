"""Interleaved and multileaved lists: every person sees a mix of all rankings, and what they turn to credits them.

Team draft (Radlinski, Kurup and Joachims, CIKM 2008), and with more than two rankings team-draft multileaving (Schuth
et al., CIKM 2014): in each round the rankings pick in random order, each its best item that is not in the list yet.
Optimised interleaving of two rankings stands in `optimised.py`. Either way a mix comes with what each ranking is
credited if a person turns to an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

METHODS = ("team_draft", "optimised")


def team_draft(lists: np.ndarray, size: int, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int32[B, size] mixed lists, int8[B, size] the ranking that each item is from); -1 where all lists end.

    lists: int32[V, B, K] rankings, best first, -1 filler behind the last. draws: float[B, size, V] uniform numbers that
    order the rankings of each round. No item comes twice, and items of one ranking keep its order.
    """
    rankings, b, k = lists.shape
    rows = np.arange(b)
    items, team = np.full((b, size), -1, np.int32), np.full((b, size), -1, np.int8)
    order = np.zeros((b, rankings), np.int64)
    for slot in range(size):
        turn = slot % rankings
        if turn == 0:
            order = np.argsort(draws[:, slot], axis=1)
        # whose list is used up passes its turn on
        for who in [*order.T[turn:], *order.T[:turn]]:
            needy = items[:, slot] < 0
            if not needy.any():
                break
            offered = lists[who[needy], rows[needy]]
            taken = (offered[:, :, None] == items[needy][:, None, :slot]).any(axis=2) | (offered < 0)
            best = (~taken).argmax(axis=1) if k else np.zeros(len(offered), int)
            some = ~taken[np.arange(len(offered)), best]
            at = rows[needy][some]
            items[at, slot] = offered[some, best[some]]
            team[at, slot] = who[needy][some]
    return items, team


def mix(method: str, lists: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(int32[B, size] mixed lists, float32[B, size, V] what an interaction with each item credits each ranking).

    method: one of METHODS; optimised mixes two rankings. lists: as in `team_draft`.
    """
    if method == "optimised":
        from recsys_cli.experiments.optimised import optimised_mix

        return optimised_mix(lists, size, rng)
    items, team = team_draft(lists, size, rng.random((lists.shape[1], size, len(lists))))
    return items, (team[:, :, None] == np.arange(len(lists))).astype(np.float32)


@dataclass(frozen=True)
class Preference:
    """How two rankings compare by the credit of the same people."""

    a: str
    b: str
    share_b: float
    """share of the credit that went to b"""
    mean: float
    """credit of b less that of a, of a person"""
    low: float
    high: float
    p_value: float
    p_adjusted: float
    effect: float
    """mean over its standard deviation"""

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


def preferences(credit: np.ndarray, names: list[str], alpha: float) -> list[Preference]:
    """Every pair of rankings, by a t test of the difference in credit over people; p adjusted by Holm.

    credit: float64[people, V] of those who were shown a list. A person is one observation, however many lists it saw.
    """
    from scipy import stats

    n = len(credit)
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    rows = []
    for i, j in pairs:
        gap = credit[:, j] - credit[:, i]
        mean, sd = float(gap.mean()) if n else float("nan"), float(gap.std(ddof=1)) if n > 1 else float("nan")
        error = sd / np.sqrt(n) if n > 1 else float("nan")
        reach = stats.t.ppf(1 - alpha / 2, n - 1) * error if n > 1 else float("nan")
        # where everybody says exactly the same, signs alone are counted
        p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else min(1.0, 2 * 0.5**n) if mean else 1.0
        total = float(credit[:, [i, j]].sum())
        rows.append((i, j, float(credit[:, j].sum()) / total if total else float("nan"), mean, reach, p,
                     mean / sd if sd > 0 else np.sign(mean) * np.inf if mean else 0.0))
    adjusted, most = {}, 0.0
    for rank, at in enumerate(sorted(range(len(rows)), key=lambda at: rows[at][5])):
        most = max(most, min(1.0, rows[at][5] * (len(rows) - rank)))
        adjusted[at] = most
    return [
        Preference(names[i], names[j], share, mean, mean - reach, mean + reach, p, adjusted[at], effect)
        for at, (i, j, share, mean, reach, p, effect) in enumerate(rows)
    ]


def users_needed(effect: float, alpha: float, power: float, arms: int = 1) -> float:
    """Users who show a standardised effect with this power: all of them compared with themselves (arms = 1), or split
    evenly in two arms (arms = 2; effect: difference of means over the standard deviation of a user)."""
    from scipy.stats import norm

    if not effect:
        return float("inf")
    told = (norm.ppf(1 - alpha / 2) + norm.ppf(power)) ** 2 / effect**2
    return float(max(np.ceil(told if arms == 1 else 4 * told), 2))
