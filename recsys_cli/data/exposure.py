"""Whose items, and which, an impression exposes: authors whom few follow, and items that a safety classifier flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue

SMALL_AUTHORS = 0.9
"""Share of the authors, those with the fewest followers, whose part of the impressions is counted."""
FLAGGED = 0.5
"""Safety score above which an impression counts as flagged."""


def small_authors(followers: np.ndarray) -> np.ndarray:
    """bool[n_authors] whether an author is among the `SMALL_AUTHORS` with the fewest followers."""
    small = np.zeros(len(followers), bool)
    small[np.argsort(followers, kind="stable")[: int(len(followers) * SMALL_AUTHORS)]] = True
    return small


def of_small_authors(items: np.ndarray, catalogue: Catalogue, small: np.ndarray) -> np.ndarray:
    """bool[m] whether each of some items is by a small author. items: int[m]; small: bool[n_authors]."""
    author = catalogue.item_author[items]
    return (author >= 0) & small[np.maximum(author, 0)] if len(small) else np.zeros(len(items), bool)


def flagged(items: np.ndarray, catalogue: Catalogue) -> np.ndarray | None:
    """bool[m] whether a classifier flags each of some items; None where none has scored any."""
    scores = list(catalogue.item_safety.values())
    return np.any([score[items] > FLAGGED for score in scores], axis=0) if scores else None
