"""Small datasets in which it is known what people turn to, and so which order of their lists is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

START = 1_709_251_200
"""2024-03-01T00:00Z in seconds."""
HOUSE, OWN, OTHER = 0.25, 0.7, 0.05
"""Probability of a click on what the policy prefers, on other items of one's taste, and on the rest."""


def fame(n: int) -> np.ndarray:
    """float64[n] how probable each of n items is, the first the most."""
    weight = 1 / np.arange(1, n + 1) ** 0.7
    return weight / weight.sum()


def moments(seconds) -> pl.Series:
    return pl.Series((START + np.asarray(seconds, np.int64)) * 1_000_000).cast(pl.Datetime("us", "UTC"))


def items_of(numbers) -> list[str]:
    return [f"i{n}" for n in numbers]


def communities(seed: int, users: int = 300, items: int = 200, rows: int = 20) -> pl.DataFrame:
    """Pairs in no order: people of two communities, nine in ten of whose items are the community's own."""
    rng, half, own = np.random.default_rng(seed), items // 2, rows * 9 // 10
    pairs = []
    for user in range(users):
        mine = rng.choice(half, own, replace=False, p=fame(half)) + half * (user % 2)
        theirs = rng.choice(half, rows - own, replace=False, p=fame(half)) + half * (1 - user % 2)
        pairs += [(user, item) for item in (*mine, *theirs)]
    pairs = np.array(pairs)[rng.permutation(len(pairs))]
    return pl.DataFrame({"user": pairs[:, 0], "item": items_of(pairs[:, 1])})


def ratings(seed: int, users: int = 400, items: int = 160, rows: int = 25) -> pl.DataFrame:
    """What is rated follows fame, and taste a little; whether it is liked follows taste. Dislikes are known."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.integers(0, 4, users), rng.integers(0, 4, items)
    found = []
    for user in range(users):
        weight = fame(items) * np.where(kind == taste[user], 2.0, 1.0)
        for item in rng.choice(items, rows, replace=False, p=weight / weight.sum()):
            found.append((user, item, rng.random() < (0.9 if kind[item] == taste[user] else 0.15)))
    user, item, like = zip(*(found[n] for n in rng.permutation(len(found))), strict=True)
    return pl.DataFrame(
        {"user_id": user, "item_id": items_of(item), "timestamp": moments(np.arange(len(user)) * 60), "like": like}
    )


@dataclass(frozen=True)
class Policy:
    """What a policy showed that prefers a third of the items, and the truth of who clicks on what."""

    impressions: pl.DataFrame
    house: np.ndarray
    """bool[items]: what the policy shows six times as often as the rest"""
    taste: np.ndarray
    kind: np.ndarray

    def clicks(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Probability of a click of users [U] on items [U, K]."""
        own = self.kind[items] == self.taste[users][:, None]
        return np.where(self.house[items], HOUSE, np.where(own, OWN, OTHER))


def biased_policy(seed: int, users: int = 1000, items: int = 240, requests: int = 8, slate: int = 10) -> Policy:
    """Impressions with propensities: the log holds most clicks on what was shown most, people like their taste."""
    rng = np.random.default_rng(seed)
    house, kind, taste = np.arange(items) < items // 3, rng.integers(0, 2, items), rng.integers(0, 2, users)
    weight = np.log(np.where(house, 6.0, 1.0))

    def slates(n: int) -> np.ndarray:  # drawn one after the other without putting back
        return np.argsort(-(weight + rng.gumbel(size=(n, items))), axis=1)[:, :slate]

    who = rng.permutation(np.repeat(np.arange(users), requests))
    item, user = slates(len(who)).ravel(), np.repeat(who, slate)
    shown = np.bincount(slates(20_000).ravel(), minlength=items) / 20_000
    propensity = np.where(house, shown[house].mean(), shown[~house].mean())
    truth = Policy(pl.DataFrame(), house, taste, kind)
    click = rng.random(len(user)) < truth.clicks(user, item[:, None])[:, 0]
    return Policy(
        pl.DataFrame({
            "user_id": user, "item_id": items_of(item),
            "timestamp": moments(np.repeat(np.arange(len(who)) * 60, slate)),
            "position": np.tile(np.arange(slate), len(who)), "propensity": propensity[item], "click": click,
        }),
        house, taste, kind,
    )


def visitors(seed: int, users: int = 900, items: int = 120) -> dict[str, pl.DataFrame]:
    """People who come once, one after the other: of them the country is known, which says what they like."""
    rng, third = np.random.default_rng(seed), items // 3
    country, rows = rng.integers(0, 3, users), []
    for user in range(users):
        n = rng.integers(3, 9)
        liked = np.where(rng.random(n) < 0.85, country[user], rng.integers(0, 3, n))
        found = dict.fromkeys(int(rng.choice(third, p=fame(third)) + third * which) for which in liked)
        rows += [(user, item, user * 600 + 30 * n) for n, item in enumerate(found)]
    user, item, second = zip(*rows, strict=True)
    log = pl.DataFrame(
        {"user_id": user, "item_id": items_of(item), "timestamp": moments(second), "click": [True] * len(user)}
    )
    return {"impressions": log, "users": pl.DataFrame(
        {"user_id": np.arange(users), "country": np.array(["de", "fr", "it"])[country]}
    )}


def cycle(seed: int, users: int = 300, items: int = 120, rows: int = 30) -> pl.DataFrame:
    """Sequences without time: four in five times what follows an item is its successor in one cycle of all items."""
    rng = np.random.default_rng(seed)
    ring = rng.permutation(items)
    successor = np.empty(items, np.int64)
    successor[ring] = np.roll(ring, -1)
    found = []
    for user in range(users):
        seen, item = set(), int(rng.integers(items))
        while len(seen) < rows:
            if item in seen or rng.random() < 0.2:
                item = int(rng.choice([i for i in range(items) if i not in seen]))
            seen.add(item)
            found.append((user, item))
            item = int(successor[item])
    user, item = zip(*found, strict=True)
    return pl.DataFrame({"user_id": user, "item_id": items_of(item), "click": [True] * len(user)})
