"""The training table: features as of each impression."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.behaviour import Behaviour
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features.as_of import Past, Similarity
from recsys_cli.features.evaluate import fill
from recsys_cli.features.rows import Rows
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.features.table import FeatureTable


def build_table(
    spec: FeatureSpec, catalogue: Catalogue, log: Log, rows: slice | np.ndarray | Log | None = None,
    follows: dict[str, np.ndarray] | None = None, blocks: dict[str, np.ndarray] | None = None,
    similarity: Similarity | None = None,
) -> FeatureTable:
    """Features of some rows of a log, each counted from all rows of the log strictly before its time.

    rows: slice, index array or mask (None: all), or a Log of impressions that need not be among those counted
    (negatives that were never shown). follows, blocks: as `Dataset.edges` gives.
    Rows of equal time never see one another.
    """
    asked = log if rows is None else rows if isinstance(rows, Log) else log.take(rows)
    values = np.zeros((len(asked), len(spec.features)), np.float32)
    fill(Past(spec, catalogue, log, follows, blocks), Rows.of(asked), spec.features, values, similarity)
    return FeatureTable(
        values, spec.names, spec.categories, asked.actions, asked.dwell, asked.user, asked.item, asked.time,
        position=asked.position, request=asked.request, propensity=asked.propensity,
        behaviour=Behaviour.of_log(catalogue, log),
    )
