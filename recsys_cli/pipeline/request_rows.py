"""Candidates of requests of the past with what became of them: what rankers learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.features.table import FeatureTable

TAKEN = "relevance"
"""The label: the user turned to the candidate before the horizon."""


@dataclass(frozen=True)
class RequestRows:
    """Candidates of requests with what became of them."""

    table: FeatureTable
    """features, the label TAKEN, and weights by which drawn negatives stand for all"""
    request: np.ndarray
    """int64[n] number of the request"""
    wanted: int
    """what the users turned to"""
    proposed: int
    """how much of that some source had proposed; the rest is the sources' loss and no row"""

    def __len__(self) -> int:
        return len(self.table)


def some_of(rows: RequestRows, mine: np.ndarray) -> RequestRows:
    """The rows marked, bool[n]; what was wanted and proposed counts for all of them."""
    return RequestRows(rows.table.take(mine), rows.request[mine], rows.wanted, rows.proposed)


def joined(*parts: RequestRows) -> RequestRows:
    """The rows of several, requests numbered on."""
    first, parts = parts[0], tuple(part for part in parts if len(part))
    if not parts:
        return first
    start, numbers = 0, []
    for part in parts:
        numbers.append(part.request + start)
        start += int(part.request.max()) + 1
    tables = [part.table for part in parts]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(table, name) for table in tables])

    request = np.concatenate(numbers)
    table = FeatureTable(
        column("values"), tables[0].names, {}, {TAKEN: np.concatenate([t.labels[TAKEN] for t in tables])}, None,
        column("user"), column("item"), column("time"), weight=column("weight"), request=request,
    )
    return RequestRows(table, request, sum(p.wanted for p in parts), sum(p.proposed for p in parts))
