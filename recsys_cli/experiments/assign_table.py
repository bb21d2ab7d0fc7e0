"""A table of users and their variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.experiments.assignment import assign_units
from recsys_cli.experiments.compare import require

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.experiments.config import ExperimentConfig


def assign_table(config: ExperimentConfig, users: Path | None, ids: list[str], day: int | None = None) -> pl.DataFrame:
    """user_id and variant, null for who takes no part.

    users: a table with user_id, cluster_id where clusters are assigned, and the attributes that are targeted. ids:
    users instead of that. Raises DataError where a column is missing.
    """
    import polars as pl

    from recsys_cli.experiments.log_file import read_log

    unit = ["cluster_id"] if config.unit == "cluster" else []
    if users is None:
        frame = pl.DataFrame({"user_id": ids})
    else:
        frame = read_log(users, {"user_id", *unit, *config.targeting})
        require(frame.columns, "user_id", str(users))
        for column in (*unit, *config.targeting):
            require(frame.columns, column, f"{users}, for {config.name}")
    attributes = {c: frame[c].to_list() for c in config.targeting if c in frame.columns}
    clusters = frame["cluster_id"].to_arrow() if unit and unit[0] in frame.columns else None
    arms = assign_units(config, frame["user_id"].to_arrow(), clusters=clusters, attributes=attributes, day=day)
    names = pl.Series([arm.name for arm in config.arms])
    place = pl.Series(arms.astype(np.int64)).to_frame("at").select(pl.when(pl.col("at") >= 0).then(pl.col("at")))
    return frame.select("user_id").with_columns(variant=names.gather(place.to_series()))
