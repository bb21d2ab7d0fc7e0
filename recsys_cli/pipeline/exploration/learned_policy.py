"""An explored slot goes to a draw from a policy that was learned from logs, `recsys off-policy --save-policy`."""

from __future__ import annotations

import os

import numpy as np

from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.exploration.strategy import Chances, Strategy, picked
from recsys_cli.pipeline.query import Query

COLUMNS = {"item_id", "position", "probability"}


class _Weighted(Chances):
    """In proportion to given weights, float64[B, M]."""

    def __init__(self, columns: np.ndarray, weights: np.ndarray):
        super().__init__(columns)
        self._given = weights

    def _weights(self) -> np.ndarray:
        return self._given


class LearnedPolicy(Strategy):
    """A candidate is as probable as the policy has it, over all positions alike; one that it does not list is never
    drawn. Raises ConfigError without a table, and ArtifactError where it cannot be read."""

    name = "learned_policy"

    def __init__(self, config: ExplorationConfig):
        super().__init__(config)
        if config.policy is None:
            raise ConfigError(
                "pipeline.exploration.policy: the strategy learned_policy needs a table of probabilities",
                "write one with `recsys off-policy FILE --log LOG --save-policy TABLE`",
            )
        self._items, self._probability = _read(config.policy)
        self._known: tuple[object, np.ndarray] = (None, np.zeros(0))

    def chances(self, query: Query, candidates: Candidates) -> Chances:
        weights = self._of_items(query)
        items = candidates.items
        listed = np.where(items >= 0, weights[np.clip(items, 0, len(weights) - 1)] * (items < len(weights)), 0.0)
        columns = self.pool(listed, candidates.filled & (listed > 0))
        return _Weighted(columns, picked(listed, columns))

    def _of_items(self, query: Query) -> np.ndarray:
        """float64[n_items] of the run's items."""
        ids = query.bundle.item_ids
        if self._known[0] is not ids:
            places = ids.positions(self._items)
            weights = np.zeros(max(len(ids), 1))
            np.add.at(weights, places[places >= 0], self._probability[places >= 0])
            self._known = (ids, weights)
        return self._known[1]


def _read(path: str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    """(ids of items, float64[n] probabilities)."""
    import polars as pl

    try:
        table = pl.read_parquet(os.fspath(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"pipeline.exploration.policy: {path} cannot be read: {str(error).splitlines()[0]}",
            "write it with `recsys off-policy FILE --log LOG --save-policy TABLE`",
        ) from None
    lacking = {"item_id", "probability"} - set(table.columns)
    further = set(table.columns) - COLUMNS
    if lacking or further:
        told = f"lacks {', '.join(sorted(lacking))}" if lacking else f"differs by {', '.join(sorted(further))}"
        raise ArtifactError(f"pipeline.exploration.policy: {path} {told}",
                            "exploration takes a policy of items alone: learn it without log.contexts")
    return table["item_id"].cast(pl.String).to_list(), table["probability"].to_numpy().astype(float)
