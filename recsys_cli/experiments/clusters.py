"""Clusters of users who influence each other: communities of the follow graph, assigned and analysed whole.

Where what one user is shown changes what another does, users of two variants mix and the difference between them is not
the effect of a change for all (Ugander, Karrer, Backstrom and Kleinberg, KDD 2013; Karrer et al., KDD 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments.compare import UNITS
from recsys_cli.experiments.daily import DailyOutcomes

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

USERS_A_CLUSTER = 30
"""Users that a cluster has on average: many clusters decide as well as they can, large ones keep friends together."""


def clusters_of(dataset: Dataset) -> np.ndarray:
    """int64[n_users] community of each user in the follow graph; users without ties are clusters of their own.

    Raises DataError where nobody follows anybody.
    """
    follows = dataset.edges("follows")
    if follows is None or not len(follows["from"]) or not dataset.manifest.authors_are_users:
        raise DataError(f"{dataset.path} has no follows between users, so no clusters to assign", "use unit: user")
    return communities(follows["from"], follows["to"], len(dataset.user_ids))


def communities(source: np.ndarray, target: np.ndarray, n: int) -> np.ndarray:
    """int64[n] community of each node of a graph of follows, edge by edge, numbered from 0."""
    from recsys_cli.retrieval.graph.communities import Similarities, find_communities

    graph = Similarities.of(source, target, np.ones(len(source)), n)
    found = find_communities(graph, max(2, n // USERS_A_CLUSTER)).astype(np.int64)
    alone = found < 0
    found[alone] = found.max() + 1 + np.arange(int(alone.sum()))
    return found


def sum_by_cluster(
    clusters: np.ndarray, arm: np.ndarray, columns: dict[str, np.ndarray], by_day: DailyOutcomes
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], DailyOutcomes]:
    """Users as rows of their clusters: (numbers, variants, sums with `units`, sums by day)."""
    numbers, place = np.unique(clusters, return_inverse=True)
    n = len(numbers)
    variant = np.zeros(n, np.int8)
    variant[place] = arm
    summed = {c: np.bincount(place, weights=v, minlength=n) for c, v in columns.items()}
    summed[UNITS] = np.bincount(place, minlength=n).astype(float)
    days = DailyOutcomes.of(place[by_day.unit], by_day.day, by_day.columns, n)
    return numbers, variant, summed, days
