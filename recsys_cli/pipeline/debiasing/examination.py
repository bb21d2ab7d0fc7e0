"""How much oftener a place is looked at than another, estimated from logged impressions.

What stands at the top is taken oftener because more people look there. Items that stood in several places tell how
much: an item is as good in one place as in another, so that what differs is the place (intervention harvesting:
Agarwal et al., WSDM 2019; Fang, Agarwal and Joachims, SIGIR 2019). Counts are taken as Poisson with a rate of each
item times the examination of each place. Given an item's total the rates of items drop out, so that items shown once
do not distort it. Where a policy places by the person as well as by the item, tell what was expected of each row, else
places that suit their people look better than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_ROWS = 200
"""Impressions of a place below which nothing is said of it."""
MOST_ROWS = 400_000
"""The latest so many rows are looked at."""
STEPS = 200


@dataclass(frozen=True)
class Examination:
    """How often each place is examined, as a multiple of the first."""

    positions: np.ndarray
    """int64[P] places from 0, ascending; the first is what the others are compared with"""
    value: np.ndarray
    """float64[P], 1 for the first"""
    low: np.ndarray
    high: np.ndarray
    """95 % interval, by resampling users"""
    rows: np.ndarray
    """int64[P] impressions"""
    plain: np.ndarray
    """float64[P] the same without regard to which items stood there: rate of the place ÷ that of the first"""


def examination(
    user: np.ndarray, item: np.ndarray, position: np.ndarray, taken: np.ndarray, expected: np.ndarray | None = None, *,
    most: int = 20, resamples: int = 100, seed: int = 0,
) -> Examination | None:
    """Estimate from n impressions; None where fewer than two places were seen often enough by the same items.

    user, item, position: int[n], places from 0, -1 unknown. taken: bool[n]. expected: float[n] what was expected of
    each whatever its place, e.g. a predicted probability. most: places from the top.
    """
    keep = np.flatnonzero((position >= 0) & (position < most))[-MOST_ROWS:]
    rows = np.bincount(position[keep], minlength=most)
    there = np.flatnonzero(rows >= FEWEST_ROWS)
    keep = keep[np.isin(position[keep], there)]
    if len(there) < 2 or not taken[keep].any():
        return None
    place = np.searchsorted(there, position[keep])
    _, of_item = np.unique(item[keep], return_inverse=True)
    cells, cell = np.unique(of_item.astype(np.int64) * len(there) + place, return_inverse=True)
    cell_item, cell_place = np.divmod(cells, len(there))
    worth = np.ones(len(keep)) if expected is None else expected[keep].astype(float)
    hit = taken[keep].astype(float)

    def fitted(weight: np.ndarray, start: np.ndarray) -> np.ndarray:
        count = np.bincount(cell, weight * hit, minlength=len(cells))
        shown = np.bincount(cell, weight * worth, minlength=len(cells))
        return _fit(count, shown, cell_item, cell_place, start)

    found = fitted(np.ones(len(keep)), np.ones(len(there)))
    if not np.isfinite(found).all():
        return None
    _, of_user = np.unique(user[keep], return_inverse=True)
    rng, people = np.random.default_rng(seed), int(of_user.max()) + 1
    drawn = np.stack([
        fitted(np.bincount(rng.integers(0, people, people), minlength=people)[of_user].astype(float), found)
        for _ in range(resamples)
    ])  # fmt: skip
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    rate = np.bincount(place, hit) / np.bincount(place)
    return Examination(there, found, low, high, rows[there], rate / rate[0] if rate[0] else np.full(len(there), np.nan))


def _fit(
    count: np.ndarray, shown: np.ndarray, item: np.ndarray, place: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """float64[P] examination by maximum likelihood: rates of items and of places in turn, each given the other."""
    total_item, total_place = np.bincount(item, count), np.bincount(place, count, minlength=len(start))
    examined = start.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(STEPS):
            base = np.bincount(item, shown * examined[place])
            rate = np.where(base > 0, total_item / base, 0.0)
            new = total_place / np.bincount(place, shown * rate[item], minlength=len(start))
            new /= new[0]
            if np.abs(new - examined).max() < 1e-5:
                return new
            examined = new
    return examined


def examination_rows(found: Examination) -> list[dict[str, float | int]]:
    """A row for each place, counted from 1, for reports."""
    columns = (found.positions + 1, found.rows, found.value, found.low, found.high, found.plain)
    names = ("position", "rows", "value", "low", "high", "plain")
    return [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]
